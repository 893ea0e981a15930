"""Neighbours as sparse graphs, by the rules of scikit-learn's KNeighborsTransformer.

SciPy's matrices are on the host, also those for vectors on a GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array, csr_matrix
from sklearn import get_config
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin

from sklearn_ann._blocks import Joined
from sklearn_ann._checks import check_mode, check_n_neighbors
from sklearn_ann._interchange import Call
from sklearn_ann._state import lock_of
from sklearn_ann._typing import Mode, Vectors


class NeighborsGraphMixin(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """Graphs from what `kneighbors` and `radius_neighbors` find."""

    def fit_transform(
        self, X: Vectors, y: object = None, **fit_params: Any
    ) -> csr_matrix | csr_array:
        """Fit to X and return its neighbours graph.

        As ``fit(X).transform(X)``, but a row stands first in its own list even if
        others equal it. Of `IVFPQNeighbors` it is ``fit(X).transform(X)``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Vectors to search.
        y : None
            Ignored; here for the scikit-learn API.
        **fit_params : dict
            Passed to `fit`.

        Returns
        -------
        graph : sparse matrix of shape (n_samples, n_samples), CSR
            See `transform`.
        """
        with lock_of(self):
            fitted = self.fit(X, **fit_params)._snapshot()
        return fitted._graph_of_fitted(X)

    def _graph_of_fitted(self, X):
        """The graph of the rows that were fitted, each its own first neighbour."""
        n_others, rows = self._n_transformed() - 1, np.arange(self.n_samples_fit_)
        if n_others == 0:
            return self._graph(np.zeros((len(rows), 1)), rows[:, None], self.mode)
        call = Call(X, self.device)
        Q = self._as_queries(call.X)
        # A graph of many rows is as large as they are: it is written once, in place.
        distances, ids = self._other_neighbors(
            n_others, call.backend, Q, first=1, dtype=self._column_dtype()
        )
        ids[:, 0] = rows
        return self._graph(distances, ids, self.mode)

    def transform(self, X: Vectors) -> csr_matrix | csr_array:
        """The graph of each query's neighbours among the indexed rows.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features)
            Queries.

        Returns
        -------
        graph : sparse matrix of shape (n_queries, n_samples_fit), CSR
            Each row lists neighbours by ascending distance, zeros stored. With
            ``mode="distance"``, ``n_neighbors + 1`` of them, as estimators that leave
            a sample out of its own neighbourhood need; with ``mode="connectivity"``,
            `n_neighbors` ones.
        """
        fitted = self._snapshot()
        return fitted.kneighbors_graph(X, fitted._n_transformed(), fitted.mode)

    def kneighbors_graph(
        self,
        X: Vectors | None = None,
        n_neighbors: int | None = None,
        mode: Mode = "connectivity",
    ) -> csr_matrix | csr_array:
        """The graph of the nearest neighbours.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), default=None
            Queries. If None, the indexed rows, each without itself.
        n_neighbors : int, default=None
            Neighbours for each query; the parameter of the estimator if None.
        mode : {'connectivity', 'distance'}, default='connectivity'
            Ones, or distances in the units of `metric`.

        Returns
        -------
        graph : sparse matrix of shape (n_queries, n_samples_fit), CSR
            Each row lists neighbours by ascending distance, zeros stored.
        """
        check_mode(mode)
        fitted = self._snapshot()
        distances, ids = fitted._kneighbors(Call(X, fitted.device), n_neighbors)
        return fitted._graph(distances, ids, mode)

    def radius_neighbors_graph(
        self,
        X: Vectors | None = None,
        radius: float | None = None,
        mode: Mode = "connectivity",
        sort_results: bool = False,
    ) -> csr_matrix | csr_array:
        """The graph of all rows within a radius.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), default=None
            Queries. If None, the indexed rows, each without itself.
        radius : float, default=None
            In the units of `metric`, inclusive; the parameter of the estimator if None.
        mode : {'connectivity', 'distance'}, default='connectivity'
            Ones, or distances in the units of `metric`.
        sort_results : bool, default=False
            Whether to sort each row by distance.

        Returns
        -------
        graph : sparse matrix of shape (n_queries, n_samples_fit), CSR
            Zero distances are stored.
        """
        check_mode(mode)
        fitted, with_distances = self._snapshot(), mode == "distance"
        indices = Joined(fitted._column_dtype())
        data, counts = Joined(np.float64), Joined(np.int64)
        for distances, ids, offsets in fitted._radius_blocks(
            Call(X, fitted.device), radius, with_distances, sort_results
        ):
            counts.append(np.diff(offsets))
            indices.append(ids)
            if with_distances:
                data.append(distances)
        offsets = np.append(0, np.cumsum(counts.array()))
        columns = indices.array()
        values = data.array() if with_distances else np.ones(len(columns))
        return fitted._csr(values, columns, offsets)

    def _n_transformed(self):
        """Entries in a row of `transform`."""
        return check_n_neighbors(self.n_neighbors) + (self.mode == "distance")

    def _column_dtype(self):
        """As SciPy chooses it: it would make a copy of another."""
        is_small = self.n_samples_fit_ <= np.iinfo(np.int32).max
        return np.int32 if is_small else np.int64

    def _graph(self, distances, ids, mode):
        """The graph of what was found; ones are written over the distances."""
        data = distances.ravel()
        if mode == "connectivity":
            data.fill(1.0)
        return self._csr(data, ids.ravel(), np.arange(0, ids.size + 1, ids.shape[1]))

    def _csr(self, data, indices, offsets):
        as_array = get_config().get("sparse_interface") == "sparray"
        shape = (len(offsets) - 1, self.n_samples_fit_)
        return (csr_array if as_array else csr_matrix)(
            (data, indices, offsets), shape=shape
        )
