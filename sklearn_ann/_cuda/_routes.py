"""Which panels a query visits, in what order, and what is there to be compared.

The order is that of a chain of panels, which is cut into rounds. All rows are a chain
of their own: ``AllRows``. The lists that a query probes make up another one:
``ProbedLists`` of vectors, ``ProbedCodes`` (in ``_ivf_pq.py``) of codes.

A route knows the image that its queries are compared with. ``upload`` puts queries, and
thresholds for a radius, on the GPU; ``visit`` appends the candidates among some tiles
to their lists; ``measure`` measures these; ``rows`` gives all rows of the chains, to be
measured when the lists are too short.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from sklearn_ann._cuda._compat import (
    cuda,
    device,
    empty,
    float32,
    kernel,
    launch,
    load4,
    to_device,
)
from sklearn_ann._cuda._distance import measure_candidates
from sklearn_ann._cuda._filter import (
    INFINITY,
    MANY_THREADS,
    MOST_BLOCKS,
    SIDE,
    TILE,
    filter_tiles,
    multiply_tiles,
    set_thresholds,
    upper_of,
)
from sklearn_ann._cuda._image import ListsImage, lists_of, upload_queries
from sklearn_ann._cuda._topk import THREADS
from sklearn_ann._layout import PANEL

# Tiles of a query's chain that a block of ``filter_chains`` visits.
_TILES_OF_BLOCK = 4

# Queries for each list, on average, from which ``filter_lists`` reads a list once for
# all of them. It always multiplies with 128 queries.
_SHARED = 32


class Chains(NamedTuple):
    """The panels that each of some queries visits; arrays on the GPU."""

    panels: Any  # (n_panels,)  int32  list after list
    offsets: Any  # (nlist + 1,)  int64  where each list starts among them
    probes: Any  # (n, nprobe)  int32  lists of each query; -1: none
    ends: Any  # (n, nprobe)  int32  panels of its chain up to the end of each list


@device
def probe_of_chain(ends, query, place):
    """Which of its probes a place of the chain of a query is in; -1 behind its end."""
    n_probes = ends.shape[1]
    if place >= ends[query, n_probes - 1]:
        return -1
    low, high = 0, n_probes - 1
    while low < high:
        middle = (low + high) // 2
        if place < ends[query, middle]:
            high = middle
        else:
            low = middle + 1
    return low


@device
def panel_of_probe(panels, offsets, probes, ends, query, probe, place):
    """The panel at a place of the chain of a query, which is in this probe."""
    start = ends[query, probe - 1] if probe > 0 else 0
    return panels[offsets[probes[query, probe]] + place - start]


@device
def panel_of_chain(panels, offsets, probes, ends, query, place):
    """The panel at a place of the chain of a query, see Chains; -1 behind its end."""
    probe = probe_of_chain(ends, query, place)
    if probe < 0:
        return -1
    return panel_of_probe(panels, offsets, probes, ends, query, probe, place)


@kernel
def filter_chains(
    queries,     # IN    (n_query_panels * n_steps * 256,)  float32  in panels
    vectors,     # IN    (n_panels * n_steps * 256,)  float32  in panels
    norms,       # IN    (n_panels * 64,)  float32  low; +inf: no row
    n_steps,     # IN    int               steps of 4 features
    twice,       # IN    float32           see Bound
    thresholds,  # IN    (padded,)         float32  NaN: nothing is a candidate
    panels,      # IN    (n_panels,)       int32    see Chains
    offsets,     # IN    (nlist + 1,)      int64
    probes,      # IN    (n, nprobe)       int32
    ends,        # IN    (n, nprobe)       int32
    first,       # IN    int               tiles of the chains, of two panels:
    last,        # IN    int               block (x, y) takes 4 for query x
    starts,      # IN    (padded + 1,)     int64
    counts,      # INOUT (padded,)         int32
    lows,        # OUT   (n_candidates,)   float32
    uppers,      # OUT   (n_candidates,)   float32
    places,      # OUT   (n_candidates,)   int32
):
    """The filter for one query and its own panels; each thread has a row."""
    query, t = cuda.blockIdx.x, cuda.threadIdx.x
    query_at = (query // PANEL * n_steps * PANEL + query % PANEL) * 4
    threshold = thresholds[query]
    first_tile = first + cuda.blockIdx.y * _TILES_OF_BLOCK
    for tile in range(first_tile, min(last, first_tile + _TILES_OF_BLOCK)):
        place = 2 * tile + t // PANEL
        panel = panel_of_chain(panels, offsets, probes, ends, query, place)
        if panel >= 0:
            row_at = panel * n_steps * PANEL * 4 + t % PANEL * 4
            product = float32(0)
            for step in range(n_steps):
                at = step * PANEL * 4
                # One address for all threads: a broadcast.
                q0, q1, q2, q3 = load4(queries, query_at + at)
                x0, x1, x2, x3 = load4(vectors, row_at + at)
                product += q0 * x0
                product += q1 * x1
                product += q2 * x2
                product += q3 * x3
            place = panel * PANEL + t % PANEL
            norm = norms[place]
            low = norm - float32(2) * product
            if low <= threshold and norm < INFINITY:
                slot = starts[query] + cuda.atomic.add(counts, query, 1)
                if slot < starts[query + 1]:
                    lows[slot], places[slot] = low, place
                    uppers[slot] = upper_of(low, norm, twice)


@kernel
def filter_lists(
    queries,     # IN    (n_query_panels * n_steps * 256,)  float32  in panels
    vectors,     # IN    (n_panels * n_steps * 256,)  float32  in panels
    norms,       # IN    (n_panels * 64,)  float32  low; +inf: no row
    n_steps,     # IN    int               steps of 4 features, an even number
    twice,       # IN    float32           see Bound
    thresholds,  # IN    (padded,)         float32
    panels,      # IN    (n_panels,)       int32    of all lists, one after the other
    members,     # IN    (n_members,)      int32    queries, list by list
    unseen,      # IN    (n_members,)      int32    place in `panels` to begin at
    items,       # IN    (n_items, 4)      int32    first and end of some members of
                 #                                  a list, and of some of its panels
    starts,      # IN    (padded + 1,)     int64
    counts,      # INOUT (padded,)         int32
    lows,        # OUT   (n_candidates,)   float32
    uppers,      # OUT   (n_candidates,)   float32
    places,      # OUT   (n_candidates,)   int32
):
    """The filter for two panels of a list and 128 queries that probe it; see items."""
    products = cuda.local.array((SIDE, SIDE), float32)
    t, item = cuda.threadIdx.x, cuda.blockIdx.x
    half, lane = t // PANEL % 2, t % PANEL
    # Those behind the end are multiplied like the last one, and not looked at.
    query = members[min(items[item, 1] - 1, items[item, 0] + t // TILE * PANEL + lane)]
    panel = panels[min(items[item, 3] - 1, items[item, 2] + t // TILE)]
    query_at = ((query // PANEL * n_steps + half) * PANEL + query % PANEL) * 4
    row_at = ((panel * n_steps + half) * PANEL + lane) * 4
    multiply_tiles(queries, query_at, vectors, row_at, n_steps, products)
    # Read again: kept meanwhile, they would cost registers.
    first, end, first_panel, end_panel = (
        items[item, 0], items[item, 1], items[item, 2], items[item, 3],
    )
    query_lane, row_lane = t // 16 * 4, t % 16 * 4
    for i in range(SIDE):
        member = first + i // 4 * PANEL + query_lane + i % 4
        if member < end:
            query = members[member]
            threshold = thresholds[query]
            for j in range(SIDE):
                at = first_panel + j // 4
                if unseen[member] <= at < end_panel:
                    place = panels[at] * PANEL + row_lane + j % 4
                    norm = norms[place]
                    low = norm - float32(2) * products[i, j]
                    if low <= threshold and norm < INFINITY:
                        slot = starts[query] + cuda.atomic.add(counts, query, 1)
                        if slot < starts[query + 1]:
                            lows[slot], places[slot] = low, place
                            uppers[slot] = upper_of(low, norm, twice)


class _Vectors:
    """What routes have in common that compare queries with vectors, of a FlatImage."""

    @property
    def bound(self):
        """What distances may be off by."""
        return self._image.bound

    def upload(self, Q, sqradius):
        """Queries on the GPU, and thresholds that nothing within a radius is above."""
        image = self._image
        queries = upload_queries(Q, image)
        thresholds = empty(len(queries.norms), np.float32)
        # One factor after the other: the square of a unit may overflow.
        in_units = sqradius * image.per_unit * image.per_unit
        launch(
            set_thresholds, len(thresholds) // THREADS, THREADS,
            queries.norms, in_units, image.bound.keep, thresholds,
        )  # fmt: skip
        return queries, thresholds

    def measure(self, queries, lists):
        """Measure the candidates."""
        measure_candidates(queries.Q, queries.n, self._image, lists)

    def rows(self):
        """Parts of the queries, the rows of their chains, and these."""
        image, n = self._image, len(self.chains.probes)
        yield 0, n, (image.X, image.ids, False), self.chains


class AllRows(_Vectors):
    """Every query visits all tiles, in the same order."""

    def __init__(self, image, n):
        self._image, self._n = image, n
        self.n_tiles = image.n_tiles

    @staticmethod
    def route_of(image):
        """What ``knn_of`` and ``radius_of`` ask for the route of some queries."""
        return lambda start, stop: AllRows(image, stop - start)

    def some(self, queries):
        """The same for some of the queries."""
        return AllRows(self._image, len(queries))

    def visit(self, queries, first, last, thresholds, lists):
        """Append to the lists what is below the thresholds in some tiles."""
        filter_tiles(queries, self._image, first, last, thresholds, lists)

    @cached_property
    def chains(self):
        """All panels, as if they were one list that every query probes."""
        n_panels = 2 * self._image.n_tiles
        return Chains(
            to_device(np.arange(n_panels, dtype=np.int32)),
            to_device(np.array([0, n_panels])),
            to_device(np.zeros((self._n, 1), np.int32)),
            to_device(np.full((self._n, 1), n_panels, np.int32)),
        )


class Probed:
    """A query visits the panels of the lists that it probes, the nearest list first."""

    def __init__(self, lists, probes):
        self._lists, self._probes = lists, probes
        lengths = np.diff(lists.offsets)[probes]
        lengths[probes < 0] = 0
        self._ends = np.cumsum(lengths, axis=1)
        self._starts = self._ends - lengths
        self.n_tiles = -(-int(self._ends[:, -1].max()) // 2)

    @cached_property
    def chains(self):
        """The chains, on the GPU."""
        image: ListsImage = lists_of(self._lists)
        ends = self._ends.astype(np.int32)
        return Chains(*image, to_device(self._probes.astype(np.int32)), to_device(ends))


class ProbedLists(_Vectors, Probed):
    """The probed lists hold vectors."""

    def __init__(self, image, lists, probes):
        super().__init__(lists, probes)
        self._image = image

    def some(self, queries):
        """The same for some of the queries."""
        return ProbedLists(self._image, self._lists, self._probes[queries])

    def visit(self, queries, first, last, thresholds, lists):
        """Append to the lists what is below the thresholds in some tiles.

        At the end of the chains all that is left of a list is read for all queries, if
        there are many for each.
        """
        image = self._image
        operands = queries.vectors, image.vectors, image.norms, image.n_steps
        operands = *operands, float32(image.bound.twice), thresholds
        outputs = lists.starts, lists.counts, lists.lows, lists.uppers, lists.places
        n_shared = self._probes.size / len(self._lists.sizes)
        if last == self.n_tiles and n_shared >= _SHARED:
            members, unseen, items = self._work_items(2 * first)
            launch(
                filter_lists, len(items), MANY_THREADS,
                *operands, lists_of(self._lists).panels,
                *map(to_device, (members, unseen, items)), *outputs,
            )  # fmt: skip
        else:
            most = MOST_BLOCKS * _TILES_OF_BLOCK
            for start in range(first, last, most):
                end = min(last, start + most)
                grid = queries.n, -(-(end - start) // _TILES_OF_BLOCK)
                launch(
                    filter_chains, grid, TILE,
                    *operands, *self.chains, start, end, *outputs,
                )  # fmt: skip

    def _work_items(self, seen):
        """Members of the lists, what they have not seen, and items: `filter_lists`.

        Of each chain `seen` panels have been visited.
        """
        offsets, nprobe = self._lists.offsets, self._probes.shape[1]
        is_open = (self._probes >= 0) & (self._ends > seen)
        pairs = np.flatnonzero(is_open)
        pairs = pairs[np.argsort(self._probes.ravel()[pairs], kind="stable")]
        probes = self._probes.ravel()[pairs]
        unseen = offsets[probes] + np.maximum(seen - self._starts.ravel()[pairs], 0)
        edges = np.searchsorted(probes, np.arange(len(offsets)))
        first, first_member = _cut(edges, TILE)
        panel, first_panel = _cut(offsets, 2)
        # Every part of the members of a list with every part of its panels.
        n_panels = np.bincount(panel, minlength=len(offsets) - 1)
        item = np.repeat(np.arange(len(first)), n_panels[first])
        starts = np.cumsum(n_panels) - n_panels
        nth = np.arange(len(item)) - np.searchsorted(item, item)
        part = starts[first[item]] + nth
        list_of = first[item]
        items = np.stack(
            [
                first_member[item],
                np.minimum(first_member[item] + TILE, edges[list_of + 1]),
                first_panel[part],
                np.minimum(first_panel[part] + 2, offsets[list_of + 1]),
            ],
            axis=1,
        )
        return tuple(
            array.astype(np.int32) for array in (pairs // nprobe, unseen, items)
        )


def _cut(edges, length):
    """Parts of at most a length of what lies between edges: whose, and their firsts."""
    n_parts = -(-np.diff(edges) // length)
    owner = np.repeat(np.arange(len(n_parts)), n_parts)
    nth = np.arange(len(owner)) - np.repeat(np.cumsum(n_parts) - n_parts, n_parts)
    return owner, edges[owner] + nth * length
