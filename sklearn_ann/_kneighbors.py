"""The k nearest rows: validation, self-exclusion, and the units of the metric."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from sklearn_ann._blocks import row_blocks
from sklearn_ann._checks import check_enough_rows, check_metric, check_n_neighbors
from sklearn_ann._interchange import Call
from sklearn_ann._metrics import distances_from, settle_neighbors
from sklearn_ann._progress import watched
from sklearn_ann._state import LearnedStateMixin
from sklearn_ann._typing import CudaArray, Distances, Ids, Vectors


class KNeighborsMixin(LearnedStateMixin):
    """`kneighbors`, and what the graph of it is made of."""

    # Which neighbour goes when a row is not among its own nearest.
    _place_of_missing_self = 0

    @overload
    def kneighbors(
        self, X: CudaArray, n_neighbors: int | None = ..., return_distance: bool = ...
    ) -> Any: ...
    @overload
    def kneighbors(
        self,
        X: ArrayLike | None = ...,
        n_neighbors: int | None = ...,
        return_distance: Literal[True] = ...,
    ) -> tuple[Distances, Ids]: ...
    @overload
    def kneighbors(
        self,
        X: ArrayLike | None = ...,
        n_neighbors: int | None = ...,
        *,
        return_distance: Literal[False],
    ) -> Ids: ...
    @overload
    def kneighbors(
        self,
        X: ArrayLike | None = ...,
        n_neighbors: int | None = ...,
        return_distance: bool = ...,
    ) -> tuple[Distances, Ids] | Ids: ...
    def kneighbors(
        self,
        X: Vectors | None = None,
        n_neighbors: int | None = None,
        return_distance: bool = True,
    ) -> Any:
        """Find the nearest rows of the index.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), default=None
            Queries, on the host or on a GPU. If None, the indexed rows are searched
            for their neighbours other than themselves.
        n_neighbors : int, default=None
            Neighbours for each query; the parameter of the estimator if None.
        return_distance : bool, default=True
            Whether to return the distances too.

        Returns
        -------
        neigh_dist : ndarray of shape (n_queries, n_neighbors), float64
            Distances, ascending, in the units of `metric`; infinite where squares
            overflow float64. Only if `return_distance`.
        neigh_ind : ndarray of shape (n_queries, n_neighbors), int64
            Row numbers of the neighbours, ascending among equal distances. For queries
            on a GPU both are arrays of the same library on the same GPU: of CuPy or
            torch, or else device arrays of numba-cuda.

        Raises
        ------
        ValueError
            If X is not finite or has another width than the index, if `n_neighbors` is
            not positive or larger than the number of rows to find.
        """
        fitted = self._snapshot()
        call = Call(X, fitted.device)
        distances, ids = fitted._kneighbors(call, n_neighbors)
        if return_distance:
            return call.give_back(distances), call.give_back(ids)
        return call.give_back(ids)

    # -- the steps between -----------------------------------------------------------

    def _kneighbors(self, call, n_neighbors):
        """As `kneighbors`, with answers on the host."""
        k = check_n_neighbors(self.n_neighbors if n_neighbors is None else n_neighbors)
        if self.metric != self.effective_metric_:
            check_metric(self.metric)
        if call.X is None:
            return self._other_neighbors(k, call.backend)
        return self._neighbors(call.X, k, call.backend)

    def _neighbors(self, X, k, backend):
        """Validate queries, search, put distances into the units of the metric."""
        Q = self._as_clean_queries(X)
        if Q is not None:
            check_enough_rows(k, self.n_samples_fit_, len(Q))
            sqdists, ids = self._search(Q, k, backend)
            if (ids[:, -1] >= 0).all():
                return self._from_sqdists(sqdists, ids, Q)
        # Not a plain array, or not finite: scikit-learn's door, with its errors.
        Q = self._as_queries(X)
        check_enough_rows(k, self.n_samples_fit_, len(Q))
        return self._search_all(Q, k, backend)

    def _as_clean_queries(self, X):
        """X itself if it needs no conversion, else None; finiteness is not looked at.

        scikit-learn's validation takes longer than a whole search of a small index.
        """
        is_clean = (
            type(X) is np.ndarray
            and X.ndim == 2
            and X.dtype == self._index_dtype
            and X.flags.c_contiguous
            and X.shape[0] > 0
            and X.shape[1] == self._index_width
            and self.effective_metric_ != "cosine"
            and not hasattr(self, "feature_names_in_")
        )
        return X if is_clean else None

    def _search_all(self, Q, k, backend):
        """Distances and row numbers of the k nearest, which must be there."""
        sqdists, ids = self._search(Q, k, backend)
        if (ids[:, -1] < 0).any():
            raise ValueError(
                f"Row {np.argmin(ids[:, -1])} of X has no {k} neighbors: it is not "
                "finite, or the indexed vectors are not."
            )
        return self._from_sqdists(sqdists, ids, Q)

    def _other_neighbors(self, k, backend, rows=None, *, first=0, dtype=np.int64):
        """The k nearest of each indexed row, itself excluded by index.

        They stand behind `first` columns of zeros, row numbers in some integer dtype.

        A row that k others equal may not be among its own nearest: then the first of
        the list goes, as in scikit-learn.
        """
        rows = self._indexed_vectors() if rows is None else rows
        n, d = rows.shape
        check_enough_rows(k, n, n, others=True)
        distances, ids = np.zeros((n, first + k)), np.zeros((n, first + k), dtype)
        order = self._search_order()
        blocks = row_blocks(n, d)
        for start, stop in watched(blocks, n, "neighbors of all rows", self.verbose):
            some = order[start:stop]
            near, near_ids = self._search_all(rows[some], k + 1, backend)
            is_other = near_ids != some[:, None]
            is_other[:, self._place_of_missing_self] &= ~is_other.all(axis=1)
            distances[some, first:] = near[is_other].reshape(-1, k)
            ids[some, first:] = near_ids[is_other].reshape(-1, k)
        return distances, ids

    def _search_order(self):
        """All row numbers, in the order in which they are searched for best."""
        return np.arange(self.n_samples_fit_)

    def _from_sqdists(self, sqdists, ids, Q, X=None):
        """Distances in the units of the metric, and row numbers, of k neighbours.

        X are the vectors that were measured; None for those of a search.
        """
        if self.effective_metric_ == "cosine":
            X = self._measured_vectors() if X is None else X
            settle_neighbors(sqdists, ids, Q, X)
        return distances_from(sqdists, self.effective_metric_), ids
