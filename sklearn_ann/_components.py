"""Graphs in one piece: the shortest edges between the components of a graph.

Boruvka's algorithm: every component but the largest takes its shortest edge to any
other one, and what they join are the components of the next round, half as many at
most. All edges together are a minimum spanning tree of the components. Isomap of
scikit-learn adds more, the shortest edge of each pair of components.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sklearn_ann._recall import exact_knn


class Edges(NamedTuple):
    """Pairs of rows, the smaller number first."""

    rows: np.ndarray  # (n_edges,)  int64
    others: np.ndarray  # (n_edges,)  int64
    sqdists: np.ndarray  # (n_edges,)  float64


def shortest_edges(labels, X, backend, n_threads):
    """The edges that join all components and are as short as possible.

    Parameters
    ----------
    labels : ndarray of shape (n,), int
        The component of each row: from 0 to their number less 1.
    X : ndarray of shape (n, d), float32 or float64
    backend : module
    n_threads : int

    Returns
    -------
    edges : Edges
        One less than there are components. Of equally short edges those with the
        smaller row numbers: with such an order they never form a cycle.
    """
    in_largest = np.flatnonzero(labels == np.bincount(labels).argmax())[0]
    # Of each row the nearest one of another component, now or in a round before.
    nearest, sqdists = np.arange(len(labels)), np.zeros(len(labels))
    rounds = []
    while len(rows := np.flatnonzero(labels != labels[in_largest])):
        is_outside = labels[nearest[rows]] != labels[rows]
        known, unknown = rows[is_outside], rows[~is_outside]
        shortest = np.full(labels.max() + 1, np.inf)
        np.minimum.at(shortest, labels[known], sqdists[known])
        # What was nearest, and is inside now, is no further than what is outside.
        asking = unknown[sqdists[unknown] <= shortest[labels[unknown]]]
        sqdists[asking], nearest[asking] = _nearest_outside(
            asking, labels, X, backend, n_threads
        )
        rows = np.concatenate([known, asking])
        edges = _shortest_of_each(rows, nearest[rows], sqdists[rows], labels[rows])
        labels = _joined(labels, edges)
        rounds.append(edges)
    return Edges(*map(np.concatenate, zip(*rounds, strict=True)))


def with_edges(graph, edges, distances, by_distance):
    """The graph with edges in both directions, each at its place in its row.

    Parameters
    ----------
    graph : CSR of shape (n, n)
        It has none of the edges.
    edges : Edges
    distances : ndarray of shape (n_edges,)
        Their lengths, in the units of the graph.
    by_distance : bool
        Whether the graph's rows are sorted by distance, then by row number, or by the
        latter only.

    Returns
    -------
    graph : CSR of shape (n, n)
    """
    rows = np.concatenate([edges.rows, edges.others])
    columns = np.concatenate([edges.others, edges.rows])
    data = np.tile(distances, 2)
    order = np.lexsort((columns, data, rows) if by_distance else (columns, rows))
    rows, columns, data = rows[order], columns[order], data[order]
    places = [
        _place_of(*entry, graph, by_distance)
        for entry in zip(rows, columns, data, strict=True)
    ]
    n_more = np.append(0, np.cumsum(np.bincount(rows, minlength=graph.shape[0])))
    return type(graph)(
        (
            np.insert(graph.data, places, data),
            np.insert(graph.indices, places, columns),
            graph.indptr + n_more,
        ),
        shape=graph.shape,
    )


def _nearest_outside(rows, labels, X, backend, n_threads):
    """Of some rows the nearest one of another component: squared distance and number.

    Two components have different numbers, which differ in a bit. So what is nearest
    among all others is nearest among those that differ in this bit.
    """
    sqdists, ids = np.full(len(rows), np.inf), np.full(len(rows), len(labels))
    for bit in range(int(labels.max()).bit_length()):
        is_set = labels >> bit & 1 == 1
        for side in is_set, ~is_set:
            asking, across = np.flatnonzero(side[rows]), np.flatnonzero(~side)
            if len(asking) == 0:
                continue
            near, near_ids = exact_knn(
                X[rows[asking]], X[across], 1, None, backend, n_threads
            )
            near, near_ids = near[:, 0], across[near_ids[:, 0]]
            is_first = (near < sqdists[asking]) | (
                (near == sqdists[asking]) & (near_ids < ids[asking])
            )
            sqdists[asking[is_first]] = near[is_first]
            ids[asking[is_first]] = near_ids[is_first]
    return sqdists, ids


def _shortest_of_each(rows, others, sqdists, labels):
    """Of the edges that go out of each component the shortest one."""
    low, high = np.minimum(rows, others), np.maximum(rows, others)
    order = np.lexsort((high, low, sqdists, labels))
    _, first = np.unique(labels[order], return_index=True)
    chosen = order[first]
    # Two components may have chosen the same one.
    _, first = np.unique(np.stack([low, high])[:, chosen], axis=1, return_index=True)
    chosen = chosen[first]
    return Edges(rows=low[chosen], others=high[chosen], sqdists=sqdists[chosen])


def _joined(labels, edges):
    """The components when there are these edges, too."""
    n, ends = labels.max() + 1, (labels[edges.rows], labels[edges.others])
    between = coo_array((np.ones(len(edges.rows)), ends), shape=(n, n))
    _, new_labels = connected_components(between, directed=False)
    return new_labels[labels]


def _place_of(row, column, distance, graph, by_distance):
    """Where an entry goes among those of the graph."""
    start, stop = graph.indptr[row : row + 2]
    columns, distances = graph.indices[start:stop], graph.data[start:stop]
    is_before = columns < column
    if by_distance:
        is_before = (distances < distance) | (is_before & (distances == distance))
    return start + np.count_nonzero(is_before)
