"""The routes to vectors, with the float32 filter."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from sklearn_ann._cuda._chains import Chains
from sklearn_ann._cuda._compat import empty, float32, launch, to_device
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
        thresholds = empty(len(queries.sqnorms), np.float32)
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
            panels=to_device(np.arange(n_panels, dtype=np.int32)),
            offsets=to_device(np.array([0, n_panels])),
            probes=to_device(np.zeros((self._n, 1), np.int32)),
            ends=to_device(np.full((self._n, 1), n_panels, np.int32)),
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
            to_device(members), to_device(unseen), to_device(items),
            candidates.starts, candidates.counts,
            candidates.lowers, candidates.uppers, candidates.positions,
        )  # fmt: skip

    def _work_items(self, seen):
        """Members of the lists, their unseen panels, and items: see ``filter_lists``.

        `seen` panels of each chain have been visited.
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
    """Cut the intervals between edges into parts of at most a length.

    Returns the interval of each part, and its start.
    """
    n_parts = -(-np.diff(edges) // length)
    owner = np.repeat(np.arange(len(n_parts)), n_parts)
    nth = np.arange(len(owner)) - np.repeat(np.cumsum(n_parts) - n_parts, n_parts)
    return owner, edges[owner] + nth * length
