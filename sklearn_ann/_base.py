"""The one door between scikit-learn's words and the index's.

Outside: X, n_neighbors, distances in the units of the metric. Inside: Q, k, squared
distances. Validation, units, graphs and self-exclusion happen here and nowhere else.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions

from sklearn_ann._backend import get_backend
from sklearn_ann._blocks import row_blocks
from sklearn_ann._checks import (
    METRICS,
    check_enough_rows,
    check_metric,
    check_n_neighbors,
)
from sklearn_ann._graph import NeighborsGraphMixin
from sklearn_ann._interchange import as_like, device_for
from sklearn_ann._metrics import distances_from, settle_neighbors, vectors_to_index
from sklearn_ann._parallel import count_threads
from sklearn_ann._radius import RadiusNeighborsMixin
from sklearn_ann._state import LearnedStateMixin, lock_of
from sklearn_ann._storage import GrowingArrays
from sklearn_ann._validation import validate_vectors


class NeighborsBase(
    NeighborsGraphMixin,
    RadiusNeighborsMixin,
    LearnedStateMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """What all nearest-neighbour estimators of this package share.

    A subclass says how vectors become an index and how an index is searched and
    restored: `_build`, `_add`, `_search`, `_search_radius`, `_decode`, `_restore` and
    `_dtype_and_shape`.
    """

    _parameter_constraints = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "radius": [Interval(Real, 0, None, closed="both")],
        "metric": [StrOptions(set(METRICS))],
        "mode": [StrOptions({"connectivity", "distance"})],
        "device": [str, None],
        "n_jobs": [Integral, None],
    }

    # -- fitting ---------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Build the index.

        A fit that fails, or is interrupted, leaves the estimator as it was. Searches in
        other threads see the old index until the new one is complete.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Vectors to search. float32 and float64 keep their dtype; float16, integers
            of up to 16 bits and booleans become float32, which holds them exactly,
            other numbers float64. A C-contiguous array of float32 or float64 is kept by
            reference: do not change it while the estimator is in use. An array on a GPU
            is copied to the host, where the index is.
        y : None
            Ignored; here for the scikit-learn API.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        with lock_of(self):
            draft = self._empty_draft()
            draft._fit(X, draft._build)
            self._take_over(draft)
        return self

    def _fit(self, X, build, copy=False):
        """Make the index with ``build(vectors, backend)``."""
        backend = self._get_backend(X)
        X = validate_vectors(self, X, reset=True, copy=copy)
        self.effective_metric_ = self.metric
        self._storage = GrowingArrays()
        self._set_index(build(self._vectors(X), backend))

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None):
        """Add vectors to the index; the first call fits it.

        A call that fails, or is interrupted, leaves the estimator as it was. Calls in
        several threads take turns; searches go on meanwhile.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Vectors to add, on the host or on a GPU. They are copied, in the first call
            too, and get the next row numbers.
        y : None
            Ignored; here for the scikit-learn API.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        with lock_of(self):
            if self.is_trained:
                draft = self._draft()
                backend = draft._get_backend(X)
                X = validate_vectors(draft, X, reset=False)
                X = draft._as_wide(draft._vectors(X))
                draft._set_index(draft._add(X, backend))
            else:
                draft = self._empty_draft()
                draft._fit(X, draft._build, copy=True)
            self._take_over(draft)
        return self

    def _set_index(self, index):
        """Remember an index, and what follows from it."""
        self._index = index
        self._index_dtype, (n, self._index_width) = self._dtype_and_shape(index)
        self.n_samples_fit_ = self._n_features_out = n
        self.effective_metric_params_ = {}

    # -- searching -------------------------------------------------------------------

    def kneighbors(self, X=None, n_neighbors=None, return_distance=True):
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
        distances, ids = self._snapshot()._kneighbors(X, n_neighbors)
        if return_distance:
            return as_like(X, distances), as_like(X, ids)
        return as_like(X, ids)

    # -- looking at the index --------------------------------------------------------

    def reconstruct(self, ids):
        """The indexed vectors with these row numbers.

        Parameters
        ----------
        ids : int or array-like of int
            Row numbers, from 0 to ``n_samples_fit_ - 1``.

        Returns
        -------
        vectors : ndarray of shape (n_features,) or (n_ids, n_features)
            A copy, in the dtype of the index. With ``metric="cosine"`` the vectors of
            length 1 that are compared.

        Raises
        ------
        IndexError
            If a row number is out of range.
        """
        fitted, ids = self._snapshot(), np.asarray(ids)
        if ids.size == 0:
            ids = ids.astype(np.int64)
        if not np.issubdtype(ids.dtype, np.integer):
            raise TypeError(f"ids must be integers, got an array of {ids.dtype}.")
        if ids.size and (ids.min() < 0 or ids.max() >= fitted.n_samples_fit_):
            raise IndexError(
                f"ids must lie between 0 and {fitted.n_samples_fit_ - 1}, the row "
                f"numbers of the index; got {ids.min()} to {ids.max()}."
            )
        return np.array(fitted._decode(ids)[..., : fitted.n_features_in_])

    @property
    def is_trained(self):
        """bool: whether `fit` was called (Faiss's name)."""
        return hasattr(self, "_index")

    @property
    def ntotal(self):
        """int: indexed vectors, ``n_samples_fit_`` under Faiss's name."""
        return getattr(self, "n_samples_fit_", 0)

    # -- what a subclass adds --------------------------------------------------------

    @abstractmethod
    def _build(self, X, backend):
        """The index of the rows of X: a NamedTuple of arrays."""

    @abstractmethod
    def _add(self, X, backend):
        """The index with the rows of X after its own."""

    @abstractmethod
    def _search(self, Q, k, backend):
        """Squared distances and ids, (nq, k) each; ids -1 for queries not finite."""

    @abstractmethod
    def _search_radius(self, Q, sqradius, with_sqdists, backend):
        """Squared distances, if wanted, ids and offsets of rows within a radius."""

    @abstractmethod
    def _dtype_and_shape(self, index):
        """The dtype of the indexed vectors, and their shape (n, d)."""

    @abstractmethod
    def _restore(self, stored):
        """The index of what `_stored_index.pack` has made of one.

        Raises ValueError if it does not fit.
        """

    # Which neighbour goes when a row is not among its own nearest.
    _place_of_missing_self = 0

    def _indexed_vectors(self):
        """The indexed rows, to be searched for their own neighbours: sliced by row."""
        return self._decode(slice(None))

    def _measured_vectors(self, within_radius=False):
        """The indexed rows as distances are measured to them; None if to codes."""
        return self._decode(slice(None))

    @abstractmethod
    def _decode(self, ids):
        """The vectors with these ids: views, or copies."""

    # -- the steps between -----------------------------------------------------------

    def _kneighbors(self, X, n_neighbors):
        """As `kneighbors`, with answers on the host."""
        k = check_n_neighbors(self.n_neighbors if n_neighbors is None else n_neighbors)
        if self.metric != self.effective_metric_:
            check_metric(self.metric)
        backend = self._get_backend(X)
        if X is None:
            return self._other_neighbors(k, backend)
        return self._neighbors(X, k, backend)

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

    def _search_all(self, Q, k, backend):
        """Distances and row numbers of the k nearest, which must be there."""
        sqdists, ids = self._search(Q, k, backend)
        if (ids[:, -1] < 0).any():
            raise ValueError(
                f"Row {np.argmin(ids[:, -1])} of X has no {k} neighbors: it is not "
                "finite, or the indexed vectors are not."
            )
        return self._from_sqdists(sqdists, ids, Q)

    def _other_neighbors(self, k, backend, rows=None):
        """The k nearest of each indexed row, itself excluded by index.

        A row that k others equal may not be among its own nearest: then the first of
        the list goes, as in scikit-learn.
        """
        rows = self._indexed_vectors() if rows is None else rows
        n, d = rows.shape
        check_enough_rows(k, n, n, others=True)
        distances, ids = np.empty((n, k)), np.empty((n, k), np.int64)
        for start, stop in row_blocks(n, d):
            found = self._search_all(rows[start:stop], k + 1, backend)
            is_other = found[1] != np.arange(start, stop)[:, None]
            is_other[:, self._place_of_missing_self] &= ~is_other.all(axis=1)
            for array, of_block in zip((distances, ids), found, strict=True):
                array[start:stop] = of_block[is_other].reshape(-1, k)
        return distances, ids

    # -- machine ---------------------------------------------------------------------

    def _get_backend(self, X=None):
        """The operations on the device of a call with this input."""
        return get_backend(device_for(X, self.device))

    def _n_threads(self, work):
        """Threads for a task over `work` bytes of codes."""
        return count_threads(self.n_jobs, work)

    # -- queries and units -----------------------------------------------------------

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

    def _as_queries(self, X):
        X = validate_vectors(self, X, reset=False)
        if self._index_dtype == np.float64:
            # Before they are normalised: answers do not depend on the dtype of X.
            X = X.astype(np.float64, copy=False)
        return self._as_wide(self._vectors(X))

    def _as_wide(self, vectors):
        """The same vectors, which are as wide as those of the index."""
        if vectors.shape[1] != self._index_width:
            raise ValueError(
                f"The vectors have {vectors.shape[1]} features, those of the index "
                f"{self._index_width}."
            )
        return vectors

    def _vectors(self, X):
        return vectors_to_index(X, self.effective_metric_)

    def _from_sqdists(self, sqdists, ids, Q):
        """Distances in the units of the metric, and row numbers, of k neighbours."""
        if self.effective_metric_ == "cosine":
            settle_neighbors(sqdists, ids, Q, self._measured_vectors())
        return distances_from(sqdists, self.effective_metric_), ids
