"""Neighbours as sparse graphs, by the rules of scikit-learn's KNeighborsTransformer.

SciPy's matrices are on the host, also those for vectors on a GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array, csr_matrix
from scipy.sparse.csgraph import connected_components
from sklearn import get_config
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin

from sklearn_ann._blocks import Joined
from sklearn_ann._checks import check_mode, check_n_neighbors
from sklearn_ann._components import shortest_edges, with_edges
from sklearn_ann._interchange import Call
from sklearn_ann._metrics import distances_from, settle_sqdists
from sklearn_ann._state import lock_of
from sklearn_ann._typing import Mode, Vectors
from sklearn_ann._warnings import warn_caller
from sklearn_ann.exceptions import DisconnectedGraphWarning


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
        *,
        connected: bool = False,
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
        connected : bool, default=False
            Whether to join the components of a graph that has several: the shortest
            edges between them are added, in both directions, found by an exact search,
            and a `DisconnectedGraphWarning` tells how many components there were. For
            the graph of the indexed rows (X is None) only.

        Returns
        -------
        graph : sparse matrix of shape (n_queries, n_samples_fit), CSR
            Each row lists neighbours by ascending distance, zeros stored.
        """
        check_mode(mode)
        _check_is_of_rows(X, connected)
        fitted = self._snapshot()
        call = Call(X, fitted.device)
        distances, ids = fitted._kneighbors(call, n_neighbors)
        if not connected:
            return fitted._graph(distances, ids, mode)
        graph = fitted._graph(distances, ids, "distance")
        measured = fitted._measured_vectors()
        graph = fitted._connected(graph, measured, call.backend, by_distance=True)
        return _in_mode(graph, mode)

    def radius_neighbors_graph(
        self,
        X: Vectors | None = None,
        radius: float | None = None,
        mode: Mode = "connectivity",
        sort_results: bool = False,
        *,
        connected: bool = False,
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
        connected : bool, default=False
            Whether to join the components of a graph that has several: the shortest
            edges between them are added, in both directions, found by an exact search,
            and a `DisconnectedGraphWarning` tells how many components there were. For
            the graph of the indexed rows (X is None) only.

        Returns
        -------
        graph : sparse matrix of shape (n_queries, n_samples_fit), CSR
            Zero distances are stored.
        """
        check_mode(mode)
        _check_is_of_rows(X, connected)
        fitted = self._snapshot()
        call = Call(X, fitted.device)
        with_distances = mode == "distance" or connected
        graph = fitted._radius_graph(call, radius, with_distances, sort_results)
        if not connected:
            return graph
        measured = fitted._measured_vectors(within_radius=True)
        graph = fitted._connected(graph, measured, call.backend, sort_results)
        return _in_mode(graph, mode)

    def _radius_graph(self, call, radius, with_distances, sort_results):
        """Distances, or ones, of the rows within a radius."""
        indices = Joined(self._column_dtype())
        data, counts = Joined(np.float64), Joined(np.int64)
        for distances, ids, offsets in self._radius_blocks(
            call, radius, with_distances, sort_results
        ):
            counts.append(np.diff(offsets))
            indices.append(ids)
            if with_distances:
                data.append(distances)
        offsets = np.append(0, np.cumsum(counts.array()))
        columns = indices.array()
        values = data.array() if with_distances else np.ones(len(columns))
        return self._csr(values, columns, offsets)

    def _connected(self, graph, measured, backend, by_distance):
        """A graph of distances with the shortest edges between its components."""
        n_components, labels = connected_components(graph, directed=False)
        if n_components == 1:
            return graph
        X = self._decode(slice(None)) if measured is None else measured
        n_threads = self._n_threads(len(X) * X.size)
        edges = shortest_edges(labels, X, backend, n_threads)
        if self.effective_metric_ == "cosine":
            settle_sqdists(edges.sqdists, edges.others, X[edges.rows, -1], measured)
        distances = distances_from(edges.sqdists, self.effective_metric_)
        warn_caller(
            f"The neighbors graph has {n_components} connected components. The "
            f"shortest edges that join them were added: {n_components - 1}.",
            DisconnectedGraphWarning,
        )
        return with_edges(graph, edges, distances, by_distance)

    def _n_transformed(self):
        """Entries in a row of `transform`."""
        return check_n_neighbors(self.n_neighbors) + (self.mode == "distance")

    def _column_dtype(self):
        """As SciPy chooses it: it would make a copy of another."""
        is_small = self.n_samples_fit_ <= np.iinfo(np.int32).max
        return np.int32 if is_small else np.int64

    def _graph(self, distances, ids, mode):
        """The graph of what was found; ones are written over the distances."""
        offsets = np.arange(0, ids.size + 1, ids.shape[1])
        return _in_mode(self._csr(distances.ravel(), ids.ravel(), offsets), mode)

    def _csr(self, data, indices, offsets):
        as_array = get_config().get("sparse_interface") == "sparray"
        shape = (len(offsets) - 1, self.n_samples_fit_)
        return (csr_array if as_array else csr_matrix)(
            (data, indices, offsets), shape=shape
        )


def _in_mode(graph, mode):
    """A graph of distances, or with ones written over them."""
    if mode == "connectivity":
        graph.data.fill(1.0)
    return graph


def _check_is_of_rows(X, connected):
    """Refuse to join the components of a graph that has two kinds of nodes."""
    if connected and X is not None:
        raise ValueError(
            "connected=True joins the components of the graph of the indexed rows, "
            "whose edges lead from row to row. Those of a graph of queries lead from "
            "queries to rows: leave X out, or use connected=False."
        )
