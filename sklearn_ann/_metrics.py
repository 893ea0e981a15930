"""Metrics by way of squared Euclidean distances: what is indexed, and the units."""

from __future__ import annotations

import numpy as np

# The squared length of a unit vector in float32 differs from 1 by some 2**-23, and by
# 2**-19 at most if it has very many features.
_SLACK = 1 + 2.0**-16


def vectors_to_index(X, metric):
    """The vectors that are compared: X, or for the cosine its unit vectors.

    Zero rows have no direction. As in scikit-learn they are at cosine distance 1 from
    all rows that have one: a feature of their own makes them orthogonal.
    """
    if metric != "cosine":
        return X
    is_zero = ~X.any(axis=1, keepdims=True)
    # The first division keeps the squares of the second from over- and underflowing.
    unit = X / np.where(is_zero, 1, np.abs(X).max(axis=1, keepdims=True))
    unit /= np.where(is_zero, 1, np.linalg.norm(unit, axis=1, keepdims=True))
    return np.hstack([unit, is_zero]).astype(X.dtype)


def largest_sqdist(radius, metric):
    """The largest squared distance whose distance, as returned, is within a radius."""
    if metric != "euclidean":
        return 2 * radius if metric == "cosine" else radius
    sqradius = radius * radius
    if sqradius == np.inf and radius < np.inf:
        # Squared distances that overflow are those of infinite distances.
        return float(np.finfo(np.float64).max)
    if sqradius < np.inf:
        # Some neighbouring numbers have the same root.
        while np.sqrt(np.nextafter(sqradius, np.inf)) <= radius:
            sqradius = np.nextafter(sqradius, np.inf)
        while np.sqrt(sqradius) > radius:
            sqradius = np.nextafter(sqradius, 0.0)
    return float(sqradius)


def sqradius_to_search(radius, metric):
    """A squared radius that holds all rows within a radius, whatever is settled."""
    if metric == "cosine":
        # No cosine distance is larger, but codes decode to vectors of any length.
        return 2 * radius * _SLACK if radius < 2 else np.inf
    return largest_sqdist(radius, metric)


def settle_sqdists(sqdists, ids, flags, X):
    """Squared distances of unit vectors without what rounding makes of them, in place.

    Lengths that are not quite 1 put opposite vectors at more than 4, and a zero row at
    not quite 2 from the others.

    Parameters
    ----------
    sqdists : ndarray of any shape, float64
    ids : ndarray of that shape, int64
    flags : ndarray, broadcast to that shape
        The last feature of each query, which tells zero rows.
    X : ndarray of shape (n, d), or None
        What the distances are measured to; None if that is decoded.
    """
    np.minimum(sqdists, 4.0, out=sqdists)
    if X is not None:
        sqdists[X[ids, -1] != flags] = 2.0


def settle_neighbors(sqdists, ids, Q, X):
    """As `settle_sqdists`, for (nq, k) neighbours, which are kept in order."""
    settle_sqdists(sqdists, ids, Q[:, -1:], X)
    before, after = np.s_[:, :-1], np.s_[:, 1:]
    is_wrong = sqdists[before] > sqdists[after]
    is_wrong |= (sqdists[before] == sqdists[after]) & (ids[before] > ids[after])
    if not is_wrong.any():
        return
    rows = np.flatnonzero(is_wrong.any(axis=1))
    order = np.lexsort((ids[rows], sqdists[rows]))
    sqdists[rows] = np.take_along_axis(sqdists[rows], order, axis=1)
    ids[rows] = np.take_along_axis(ids[rows], order, axis=1)


def distances_from(sqdists, metric):
    """Squared distances in the units of the metric; may overwrite them."""
    if metric == "euclidean":
        return np.sqrt(sqdists, out=sqdists)
    return sqdists / 2 if metric == "cosine" else sqdists
