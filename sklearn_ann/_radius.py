"""All rows within a radius, of some queries at a time.

There may be many more of them than the index has vectors: what is in between of a block
is let go before the next one, and no array of all of them is made but the result.
"""

from __future__ import annotations

import itertools
from typing import Literal, NamedTuple, overload

import numpy as np

from sklearn_ann._blocks import row_blocks
from sklearn_ann._checks import check_metric, check_radius
from sklearn_ann._interchange import Call
from sklearn_ann._metrics import (
    distances_from,
    largest_sqdist,
    settle_sqdists,
    sqradius_to_search,
)
from sklearn_ann._progress import watched
from sklearn_ann._state import LearnedStateMixin
from sklearn_ann._typing import Distances, Ids, Ragged, Vectors

# Queries of a block: some dozens of blocks of those that a backend searches together.
_QUERIES = 2048


class Hits(NamedTuple):
    """What is within the radius of some queries."""

    sqdists: np.ndarray  # (total,)  float64  or (0,): not wanted
    ids: np.ndarray  # (total,)  int64  ascending for each query
    offsets: np.ndarray  # (nq + 1,)  int64  query i: offsets[i] to offsets[i + 1]


class RadiusNeighborsMixin(LearnedStateMixin):
    """`radius_neighbors`, and what the graph of it is made of."""

    @overload
    def radius_neighbors(
        self,
        X: Vectors | None = ...,
        radius: float | None = ...,
        return_distance: Literal[True] = ...,
        sort_results: bool = ...,
    ) -> tuple[Ragged, Ragged]: ...
    @overload
    def radius_neighbors(
        self,
        X: Vectors | None = ...,
        radius: float | None = ...,
        *,
        return_distance: Literal[False],
        sort_results: bool = ...,
    ) -> Ragged: ...
    @overload
    def radius_neighbors(
        self,
        X: Vectors | None = ...,
        radius: float | None = ...,
        return_distance: bool = ...,
        sort_results: bool = ...,
    ) -> tuple[Ragged, Ragged] | Ragged: ...
    def radius_neighbors(
        self,
        X: Vectors | None = None,
        radius: float | None = None,
        return_distance: bool = True,
        sort_results: bool = False,
    ) -> tuple[Ragged, Ragged] | Ragged:
        """Find all rows within a radius.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), default=None
            Queries, on the host or on a GPU; the answers are on the host. If None, the
            indexed rows, each without itself.
        radius : float, default=None
            In the units of `metric`, inclusive; the parameter of the estimator if None.
        return_distance : bool, default=True
            Whether to return the distances too.
        sort_results : bool, default=False
            Whether to sort each query's rows by distance. Otherwise they come in the
            order of their numbers.

        Returns
        -------
        neigh_dist : ndarray of shape (n_queries,), dtype object
            Arrays of distances (float64), in the units of `metric`. Only if
            `return_distance`.
        neigh_ind : ndarray of shape (n_queries,), dtype object
            Arrays of row numbers (int64).
        """
        if sort_results and not return_distance:
            raise ValueError("return_distance must be True if sort_results is True.")
        all_distances: list[Distances] = []
        all_ids: list[Ids] = []
        fitted = self._snapshot()
        for distances, ids, offsets in fitted._radius_blocks(
            Call(X, fitted.device), radius, return_distance, sort_results
        ):
            slices = list(
                itertools.starmap(slice, itertools.pairwise(offsets.tolist()))
            )
            all_ids += (ids[of_query] for of_query in slices)
            if return_distance:
                all_distances += (distances[of_query] for of_query in slices)
        if return_distance:
            return _as_objects(all_distances), _as_objects(all_ids)
        return _as_objects(all_ids)

    def _radius_blocks(self, call, radius, with_distances, sort_results):
        """Distances (if wanted), row numbers and offsets, block by block of queries."""
        radius = check_radius(self.radius if radius is None else radius)
        check_metric(self.metric)
        metric = self.effective_metric_
        is_cosine = metric == "cosine"
        sqradius = sqradius_to_search(radius, metric)
        with_sqdists = with_distances or sort_results or is_cosine
        is_of_rows = call.X is None
        all_queries = (
            self._indexed_vectors() if is_of_rows else self._as_queries(call.X)
        )
        n, d = all_queries.shape
        blocks = row_blocks(n, d, _QUERIES)
        for start, stop in watched(blocks, n, "rows within a radius", self.verbose):
            Q = all_queries[start:stop]
            sqdists, ids, offsets = self._search_radius(
                Q, sqradius, with_sqdists, call.backend
            )
            hits = Hits(sqdists=sqdists, ids=ids, offsets=offsets)
            if is_cosine:
                flags = np.repeat(Q[:, -1], np.diff(hits.offsets))
                measured = self._measured_vectors(within_radius=True)
                settle_sqdists(hits.sqdists, hits.ids, flags, measured)
                hits = _without(hits, hits.sqdists > largest_sqdist(radius, metric))
            if is_of_rows:
                rows = np.repeat(np.arange(start, stop), np.diff(hits.offsets))
                hits = _without(hits, hits.ids == rows)
            if sort_results:
                _sort_rows(hits)
            yield distances_from(hits.sqdists, metric), hits.ids, hits.offsets


def _without(hits, is_dropped):
    """Hits but for some."""
    dropped = np.flatnonzero(is_dropped)
    if len(dropped) == 0:
        return hits
    sqdists = np.delete(hits.sqdists, dropped) if len(hits.sqdists) else hits.sqdists
    offsets = hits.offsets - np.searchsorted(dropped, hits.offsets)
    ids = np.delete(hits.ids, dropped)
    return Hits(sqdists=sqdists, ids=ids, offsets=offsets)


def _sort_rows(hits):
    """Sort the hits of each query by distance, then row number, in place."""
    for start, stop in itertools.pairwise(hits.offsets.tolist()):
        if stop - start < 2:
            continue
        sqdists, ids = hits.sqdists[start:stop], hits.ids[start:stop]
        order = np.argsort(sqdists)
        in_order = sqdists[order]
        if (in_order[1:] == in_order[:-1]).any():
            # Slower, but equal distances stay in the order of their rows.
            order = np.argsort(sqdists, kind="stable")
        sqdists[:], ids[:] = in_order, ids[order]


def _as_objects(arrays):
    parts = np.empty(len(arrays), dtype=object)
    parts[:] = arrays
    return parts
