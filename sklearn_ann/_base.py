"""The one door between scikit-learn's words and the index's: the base of estimators.

Outside: X, n_neighbors, distances in the units of the metric. Inside: Q, k, squared
distances. Fitting is here; searches have a mixin each, where the words change:
``_kneighbors.py``, ``_radius.py``, ``_graph.py`` and ``_recall.py``.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from sklearn_ann._backend import printed_compilation
from sklearn_ann._checks import METRICS, check_ids
from sklearn_ann._graph import NeighborsGraphMixin
from sklearn_ann._interchange import Call
from sklearn_ann._metrics import vectors_to_index
from sklearn_ann._parallel import count_threads
from sklearn_ann._radius import RadiusNeighborsMixin
from sklearn_ann._recall import RecallMixin
from sklearn_ann._sklearn import Interval, StrOptions, fit_context
from sklearn_ann._state import LearnedStateMixin, lock_of
from sklearn_ann._storage import GrowingArrays
from sklearn_ann._summary import SummaryMixin
from sklearn_ann._typing import Vectors
from sklearn_ann._validation import validate_vectors


class NeighborsBase(
    NeighborsGraphMixin,
    RecallMixin,
    RadiusNeighborsMixin,
    SummaryMixin,
    LearnedStateMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """What all nearest-neighbour estimators of this package share.

    A subclass says how vectors become an index and how an index is searched and
    restored: `_build`, `_add`, `_search`, `_search_radius`, `_decode`, `_restore`,
    and `_dtype_and_shape`.
    """

    _parameter_constraints = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "radius": [Interval(Real, 0, None, closed="both")],
        "metric": [StrOptions(set(METRICS))],
        "mode": [StrOptions({"connectivity", "distance"})],
        "device": [str, None],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    n_samples_fit_: int
    n_features_in_: int
    feature_names_in_: NDArray[np.object_]
    effective_metric_: str
    effective_metric_params_: dict[str, Any]

    # -- fitting ---------------------------------------------------------------------

    @fit_context
    def fit(self, X: Vectors, y: object = None) -> Self:
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
        return self._fit_in_one_step(X)

    def _fit_in_one_step(self, X, **more):
        """Fit a draft, and take over what it has learned."""
        with lock_of(self):
            draft = self._empty_draft()
            with printed_compilation(self.verbose):
                draft._fit(Call(X, draft.device), **more)
            self._take_over(draft)
        return self

    def _fit(self, call, copy=False):
        X = validate_vectors(self, call.X, reset=True, copy=copy)
        self.effective_metric_ = self.metric
        self._storage = GrowingArrays()
        vectors = self._vectors(X)
        self._set_index(self._build(vectors, call.backend))
        return vectors

    @fit_context
    def partial_fit(self, X: Vectors, y: object = None) -> Self:
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
            draft = self._draft() if self.is_trained else self._empty_draft()
            with printed_compilation(self.verbose):
                call = Call(X, draft.device)
                if self.is_trained:
                    vectors = validate_vectors(draft, call.X, reset=False)
                    vectors = draft._as_wide(draft._vectors(vectors))
                    draft._set_index(draft._add(vectors, call.backend))
                else:
                    draft._fit(call, copy=True)
            self._take_over(draft)
        return self

    def _set_index(self, index):
        """Remember an index, and what follows from it."""
        self._index = index
        self._index_dtype, (n, self._index_width) = self._dtype_and_shape(index)
        self.n_samples_fit_ = self._n_features_out = n
        self.effective_metric_params_ = {}

    # -- looking at the index --------------------------------------------------------

    def reconstruct(self, ids: ArrayLike) -> NDArray[Any]:
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
        fitted = self._snapshot()
        ids = check_ids(ids, fitted.n_samples_fit_)
        return np.array(fitted._decode(ids)[..., : fitted.n_features_in_])

    @property
    def is_trained(self) -> bool:
        """bool: whether `fit` was called (Faiss's name)."""
        return hasattr(self, "_index")

    @property
    def ntotal(self) -> int:
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

    def _indexed_vectors(self):
        """The indexed rows, to be searched for their own neighbours: sliced by row."""
        return self._decode(slice(None))

    def _measured_vectors(self, within_radius=False):
        """The indexed rows as distances are measured to them; None if to codes."""
        return self._decode(slice(None))

    @abstractmethod
    def _decode(self, ids):
        """The vectors with these ids: views, or copies."""

    # -- threads and vectors ---------------------------------------------------------

    def _n_threads(self, work):
        """Threads for a task over `work` bytes of codes."""
        return count_threads(self.n_jobs, work)

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
