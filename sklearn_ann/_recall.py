"""Recall: the share of the true neighbours that a search finds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.metaestimators import available_if

from sklearn_ann._checks import check_enough_rows, check_metric, check_n_neighbors
from sklearn_ann._interchange import Call
from sklearn_ann._kneighbors import KNeighborsMixin
from sklearn_ann._typing import Vectors

# A row is as near as another one if its distance is larger by no more than this part:
# distances in float32 differ by less.
_TOLERANCE = 1e-6

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
    farthest = true.max(axis=1, keepdims=True)
    n_hits = (found <= farthest * (1 + _TOLERANCE)).sum(axis=1)
    return float(np.minimum(n_hits, true.shape[1]).sum() / true.size)


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


def _can_score(estimator):
    if estimator._keeps_vectors():
        return True
    raise AttributeError(
        "score compares the answers with an exact search of the vectors, which are not "
        "stored. Fit with store_vectors=True, or pass distances that you have measured "
        "to knn_recall."
    )


def _if_it_can_score(method: _Method) -> _Method:
    """Typed, unlike scikit-learn's decorator: the method keeps its signature."""
    return available_if(_can_score)(method)


class RecallMixin(KNeighborsMixin):
    """How good the answers are."""

    @_if_it_can_score
    def score(self, X: Vectors, y: object = None) -> float:
        """Compute the recall of the search: higher is better, and no labels are needed.

        The neighbours that `kneighbors` finds are compared with those of an exact
        search of the indexed rows. A row counts if its distance is at most the distance
        of the true neighbour number `n_neighbors`, times ``1 + 1e-6``: see
        `knn_recall`. A grid search without `scoring` maximises this number.
        It takes the time of an exact search on top. `IVFPQNeighbors` has no `score`
        without ``store_vectors=True``, and encodes the vectors as `FlatL2Neighbors`
        does, a byte a feature, each time.

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
        rows = self._rows_to_compare(call.backend)
        n_threads = self._n_threads(len(Q) * rows.codes.size)
        _, ids = self._search_all(Q, k, call.backend)
        true = call.backend.knn(Q, rows, k, n_threads)
        found = call.backend.refine(Q, rows.X, ids, k, n_threads)
        true_distances, _ = self._from_sqdists(*true, Q, rows.X)
        distances, _ = self._from_sqdists(*found, Q, rows.X)
        return knn_recall(true_distances, distances)

    def _keeps_vectors(self):
        """Whether there are vectors, or will be after a fit, for an exact search."""
        return True

    @abstractmethod
    def _rows_to_compare(self, backend):
        """The indexed vectors as a FlatIndex, for an exact search."""
