"""The routes to vectors, with the float32 filter."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from sklearn_ann._cuda._chains import Chains
from sklearn_ann._cuda._compat import float32, launch
from sklearn_ann._cuda._distance import measure_candidates
from sklearn_ann._cuda._fp32_chains import (
    TILES_OF_BLOCK,
    filter_chains,
    filter_lists,
)
from sklearn_ann._cuda._fp32_filter import (
    MANY_THREADS,
    MOST_BLOCKS,
    TILE,
    filter_tiles,
    set_thresholds,
)
from sklearn_ann._cuda._image import lists_of
from sklearn_ann._cuda._queries import upload_queries
from sklearn_ann._cuda._routes import Probed
from sklearn_ann._cuda._scratch import new_scratch, scratch_copy
from sklearn_ann._cuda._topk import THREADS

# Queries for each list, on average, from which ``filter_lists`` reads a list once for
# all of them. It always multiplies with 128 queries.
_SHARED = 32


class _VectorRoute:
    """What routes to the vectors of a FlatImage have in common."""

    @property
    def bound(self):
        """The error that filtered distances may have."""
        return self._image.bound

    def upload(self, Q, sqradius):
        """Queries on the GPU, and thresholds that no row within a radius exceeds."""
        image = self._image
        queries = upload_queries(Q, image)
        thresholds = new_scratch(len(queries.sqnorms), np.float32)
        # One factor after the other: the square of a unit may overflow.
        in_units = sqradius * image.per_unit * image.per_unit
        launch(
            set_thresholds, len(thresholds) // THREADS, THREADS,
            queries.sqnorms, in_units, image.bound.lower_factor, thresholds,
        )  # fmt: skip
        return queries, thresholds

    def measure(self, queries, candidates):
        """Measure the candidates."""
        measure_candidates(queries.Q, queries.n, self._image, candidates)

    def rows(self):
        """Start and end of a part of the queries, its rows and its chains.

        The rows are vectors, their row numbers, and whether the vectors lie in the
        order of the positions. Here all queries are one part.
        """
        image = self._image
        yield 0, len(self.chains.probes), image.X, image.ids, False, self.chains


class AllRows(_VectorRoute):
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

    def visit(self, queries, first, last, thresholds, candidates):
        """Append the candidates in some tiles."""
        filter_tiles(queries, self._image, first, last, thresholds, candidates)

    @cached_property
    def chains(self):
        """All panels, as if they were one list that every query probes."""
        n_panels = 2 * self._image.n_tiles
        return Chains(
            panels=scratch_copy(np.arange(n_panels, dtype=np.int32)),
            offsets=scratch_copy(np.array([0, n_panels])),
            probes=scratch_copy(np.zeros((self._n, 1), np.int32)),
            ends=scratch_copy(np.full((self._n, 1), n_panels, np.int32)),
        )


class ProbedLists(_VectorRoute, Probed):
    """The probed lists hold vectors."""

    def __init__(self, image, lists, probes):
        super().__init__(lists, probes)
        self._image = image

    def some(self, queries):
        """The same for some of the queries."""
        return ProbedLists(self._image, self._lists, self._probes[queries])

    def visit(self, queries, first, last, thresholds, candidates):
        """Append the candidates in some tiles.

        At the end of the chains the rest of each list is read once for all its queries,
        if lists have many of them.
        """
        n_shared = self._probes.size / len(self._lists.sizes)
        if last == self.n_tiles and n_shared >= _SHARED:
            self._visit_by_list(queries, first, thresholds, candidates)
            return
        image, chains = self._image, self.chains
        most = MOST_BLOCKS * TILES_OF_BLOCK
        for start in range(first, last, most):
            end = min(last, start + most)
            grid = queries.n, -(-(end - start) // TILES_OF_BLOCK)
            launch(
                filter_chains, grid, TILE,
                queries.vectors, image.vectors, image.sqnorms, image.n_steps,
                float32(image.bound.gap_factor), thresholds,
                chains.panels, chains.offsets, chains.probes, chains.ends,
                start, end,
                candidates.starts, candidates.counts,
                candidates.lowers, candidates.uppers, candidates.positions,
            )  # fmt: skip

    def _visit_by_list(self, queries, first, thresholds, candidates):
        """Append the candidates in all tiles from the first on, list by list."""
        image = self._image
        members, unseen, items = self._work_items(2 * first)
        launch(
            filter_lists, len(items), MANY_THREADS,
            queries.vectors, image.vectors, image.sqnorms, image.n_steps,
            float32(image.bound.gap_factor), thresholds,
            lists_of(self._lists).panels,
            scratch_copy(members), scratch_copy(unseen), scratch_copy(items),
            candidates.starts, candidates.counts,
            candidates.lowers, candidates.uppers, candidates.positions,
        )  # fmt: skip

    def _work_items(self, seen):
        """Members of the lists, their unseen panels, and items: see ``filter_lists``.

        `seen` panels of each chain have been visited.
        """
        offsets, nprobe = self._lists.offsets.astype(np.int32), self._probes.shape[1]
        nlist = len(offsets) - 1
        # NumPy sorts 16-bit integers by radix, ten times faster than wider ones.
        owners = self._probes.astype(np.uint16 if nlist < 2**16 else np.int64)
        # Behind all lists, and cut off.
        owners[(self._probes < 0) | (self._ends <= seen)] = nlist
        n_members = np.bincount(owners.ravel(), minlength=nlist + 1)[:nlist]
        edges = np.append(0, np.cumsum(n_members))
        pairs = np.argsort(owners.ravel(), kind="stable")[: edges[-1]]
        n_seen = np.maximum(seen - (self._ends - self._lengths), 0)
        unseen = n_seen.ravel()[pairs]
        unseen += np.repeat(offsets[:-1], n_members)
        members = (pairs // nprobe).astype(np.int32)
        return members, unseen, _items(edges, offsets)


def _items(edges, offsets):
    """Every part of the members of each list with every part of its panels.

    The members of a list lie between two edges, and its panels between two offsets.
    """
    list_of, first_member = _cut(edges, TILE)
    panels_of, first_panel = _cut(offsets, 2)
    n_parts = np.bincount(panels_of, minlength=len(offsets) - 1)
    starts = np.cumsum(n_parts) - n_parts
    item, nth = _numbered(n_parts[list_of])
    list_of, first_member = list_of[item], first_member[item]
    first_panel = first_panel[starts[list_of] + nth]
    items = np.empty((len(item), 4), np.int32)
    items[:, 0] = first_member
    np.minimum(first_member + TILE, edges[list_of + 1], out=items[:, 1])
    items[:, 2] = first_panel
    np.minimum(first_panel + 2, offsets[list_of + 1], out=items[:, 3])
    return items


def _cut(edges, length):
    """Cut the intervals between edges into parts of at most a length.

    Returns the interval of each part, and its start.
    """
    owner, nth = _numbered(-(-np.diff(edges) // length))
    return owner, edges[owner] + nth * length


def _numbered(counts):
    """The owners of so many things each, and the number of a thing with its owner."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
