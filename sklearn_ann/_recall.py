"""Recall: the share of the true neighbours that a search finds."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.metaestimators import available_if

from sklearn_ann._checks import check_enough_rows, check_metric, check_n_neighbors
from sklearn_ann._interchange import Call
from sklearn_ann._kneighbors import KNeighborsMixin
from sklearn_ann._scalar_quantizer import build_flat_index
from sklearn_ann._typing import Vectors

# A row is as near as another one if its distance is larger by no more than this part:
# distances in float32 differ by less.
_TOLERANCE = 1e-6

# Bytes of the codes of the rows that are encoded at a time for an exact search: a
# million of 256 features at once, and little beside vectors that fill the memory.
_BLOCK_BYTES = 2**28

_Method = TypeVar("_Method", bound=Callable[..., Any])


def knn_recall(true_distances: ArrayLike, distances: ArrayLike) -> float:
    """Compute the recall of a nearest-neighbour search from distances.

    A row that was found counts if its distance is at most the distance of the k-th true
    neighbour, times ``1 + 1e-6``. So rows at equal distances are equally right,
    whichever of them a search returns.

    Parameters
    ----------
    true_distances : array-like of shape (n_queries, k)
        Distances of each query to its k nearest rows, from an exact search.
    distances : array-like of shape (n_queries, n_found)
        True distances of each query to different rows that were found, in the same
        units. Approximate distances, such as distances to product-quantized rows, must
        be measured again first. NaN stands for a row that is missing.

    Returns
    -------
    recall : float
        The mean over the queries of the share of their k neighbours that were found:
        1 if all were, 0 if none was.

    Raises
    ------
    ValueError
        If an array is empty or has not two dimensions, if the numbers of queries
        differ, or if there are negative distances or true distances that are NaN.

    Examples
    --------
    >>> from sklearn_ann import knn_recall
    >>> knn_recall([[1.0, 2.0], [0.5, 3.0]], [[1.0, 2.0], [0.5, 4.0]])
    0.75
    """
    true = _as_distances(true_distances, "true_distances")
    found = _as_distances(distances, "distances")
    if len(true) != len(found):
        raise ValueError(
            f"true_distances has {len(true)} queries, distances has {len(found)}."
        )
    if np.isnan(true).any():
        raise ValueError("true_distances contains NaN.")
    n_hits = are_hits(true, found).sum(axis=1)
    return float(np.minimum(n_hits, true.shape[1]).sum() / true.size)


def are_hits(true_distances, distances):
    """Whether rows are as near as the farthest of the true neighbours."""
    farthest = true_distances.max(axis=1, keepdims=True)
    return distances <= farthest * (1 + _TOLERANCE)


def exact_knn(Q, X, k, index, backend, n_threads, key=None):
    """The k nearest rows of X: squared distances and ids, (n, k) each.

    `index` is the FlatIndex of X. If it is None, rows are encoded some at a time and
    then forgotten. `key` is what a cache knows the answer by.
    """
    if index is not None:
        return backend.knn(Q, index, k, n_threads)
    n, d = X.shape
    n_most = max(k, _BLOCK_BYTES // d)
    sqdists, ids = np.empty((len(Q), 0)), np.empty((len(Q), 0), np.int64)
    for start in range(0, n, n_most):
        block = X[start : start + n_most]
        index = build_flat_index(block, backend, n_threads)
        near, near_ids = backend.knn(Q, index, min(k, len(block)), n_threads)
        # Rows before it stay before those at the same distance: their ids are smaller.
        sqdists = np.concatenate([sqdists, near], axis=1)
        ids = np.concatenate([ids, near_ids + start], axis=1)
        order = np.argsort(sqdists, axis=1, kind="stable")[:, :k]
        sqdists = np.take_along_axis(sqdists, order, axis=1)
        ids = np.take_along_axis(ids, order, axis=1)
    return sqdists, ids


def _as_distances(distances, name):
    distances = np.asarray(distances, np.float64)
    if distances.ndim != 2 or distances.size == 0:
        raise ValueError(
            f"{name} must have a row for each query and a column for each neighbour. "
            f"Got the shape {distances.shape}."
        )
    if (distances < 0).any():
        raise ValueError(f"{name} contains negative distances.")
    return distances


def digest(X):
    """What vectors are known by, faster than joblib's hash of them."""
    X = np.ascontiguousarray(X)
    return X.shape, X.dtype.str, hashlib.sha256(X).hexdigest()


def _are_vectors_kept(estimator):
    if estimator._keeps_vectors():
        return True
    raise AttributeError(
        "It compares answers with an exact search of the vectors, which are not "
        "stored. Fit with store_vectors=True. Or read recall_: fit measures it, with "
        "your own queries if you give them as calibration_queries."
    )


def if_vectors_are_kept(method: _Method) -> _Method:
    """Typed, unlike scikit-learn's decorator: the method keeps its signature."""
    return available_if(_are_vectors_kept)(method)


class RecallMixin(KNeighborsMixin):
    """How good the answers are."""

    @if_vectors_are_kept
    def score(self, X: Vectors, y: object = None) -> float:
        """Compute the recall of the search: higher is better, and no labels are needed.

        The neighbours that `kneighbors` finds are compared with those of an exact
        search of the indexed rows. A row counts if its distance is at most the distance
        of the true neighbour number `n_neighbors`, times ``1 + 1e-6``: see
        `knn_recall`. A grid search without `scoring` maximises this number.
        It takes the time of an exact search on top. `IVFPQNeighbors` has it with
        ``store_vectors=True`` only, and encodes the vectors as `FlatL2Neighbors` does,
        a byte a feature, each time.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features)
            Queries, on the host or on a GPU. Queries like the ones to come, and not
            indexed themselves, tell what to expect. Each indexed row finds itself,
            which flatters the recall.
        y : None
            Ignored; here for the scikit-learn API.

        Returns
        -------
        recall : float
            The mean over the queries of the share of their `n_neighbors` true
            neighbours that were found.

        Raises
        ------
        ValueError
            As `kneighbors`.
        """
        fitted = self._snapshot()
        return fitted._score(Call(X, fitted.device))

    def _score(self, call):
        k = check_n_neighbors(self.n_neighbors)
        check_metric(self.metric)
        Q = self._as_queries(call.X)
        check_enough_rows(k, self.n_samples_fit_, len(Q))
        X, backend = self._indexed_vectors(), call.backend
        _, ids = self._search_all(Q, k, backend)
        true = self._exact_knn(Q, X, k, backend)
        found = backend.refine(Q, X, ids, k, self._n_threads(Q.size * k))
        true_distances, _ = self._from_sqdists(*true, Q, X)
        distances, _ = self._from_sqdists(*found, Q, X)
        return knn_recall(true_distances, distances)

    def _exact_knn(self, Q, X, k, backend):
        """Squared distances to the k nearest indexed vectors, which are X, and ids."""
        n_threads = self._n_threads(len(Q) * X.size)
        return exact_knn(Q, X, k, self._flat_index(), backend, n_threads)

    def _keeps_vectors(self):
        """Whether there are vectors, or will be after a fit, for an exact search."""
        return True

    @abstractmethod
    def _flat_index(self):
        """The indexed vectors as a FlatIndex; None if there is no such part."""
