"""Metrics by way of squared Euclidean distances: what is indexed, and the units."""

from __future__ import annotations

import numpy as np


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
    if sqradius < np.inf:
        # Some neighbouring numbers have the same root.
        while np.sqrt(np.nextafter(sqradius, np.inf)) <= radius:
            sqradius = np.nextafter(sqradius, np.inf)
        while np.sqrt(sqradius) > radius:
            sqradius = np.nextafter(sqradius, 0.0)
    return float(sqradius)


def distances_from(sqdists, metric):
    """Squared distances in the units of the metric; may overwrite them."""
    if metric == "euclidean":
        return np.sqrt(sqdists, out=sqdists)
    return sqdists / 2 if metric == "cosine" else sqdists
