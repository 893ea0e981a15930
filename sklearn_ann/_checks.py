"""Checks of arguments that are read at search time, with scikit-learn's messages.

At the end, of attributes that come from a file.
"""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np

METRICS = "euclidean", "sqeuclidean", "cosine"


def check_n_neighbors(n_neighbors):
    """The number of neighbours as an int."""
    if not isinstance(n_neighbors, Integral):
        raise TypeError(
            f"n_neighbors does not take {type(n_neighbors)} value, enter integer value"
        )
    if n_neighbors <= 0:
        raise ValueError(f"Expected n_neighbors > 0. Got {n_neighbors}")
    return int(n_neighbors)


def check_enough_rows(n_neighbors, n_samples_fit, n_queries, others=False):
    """Refuse more neighbours than there are rows (or other rows)."""
    if n_neighbors > n_samples_fit - others:
        sign = "<" if others else "<="
        raise ValueError(
            f"Expected n_neighbors {sign} n_samples_fit, but n_neighbors = "
            f"{n_neighbors}, n_samples_fit = {n_samples_fit}, n_samples = {n_queries}"
        )


def check_ids(ids, n):
    """Row numbers of n rows as an array of integers."""
    ids = np.asarray(ids)
    if ids.size == 0:
        ids = ids.astype(np.int64)
    if not np.issubdtype(ids.dtype, np.integer):
        raise TypeError(f"ids must be integers, got an array of {ids.dtype}.")
    if ids.size and (ids.min() < 0 or ids.max() >= n):
        raise IndexError(
            f"ids must lie between 0 and {n - 1}, the row numbers of the index; got "
            f"{ids.min()} to {ids.max()}."
        )
    return ids


def check_radius(radius):
    """The radius as a float."""
    if not isinstance(radius, Real):
        raise TypeError(f"radius must be a number, got {type(radius)}.")
    if not radius >= 0:
        raise ValueError(f"Expected radius >= 0. Got {radius}")
    return float(radius)


def check_metric(metric):
    """Refuse what no fit would take: it was set after the last one, or is damaged."""
    if not isinstance(metric, str) or metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}. Got {metric!r}")


def check_mode(mode):
    """Refuse what is not the mode of a graph."""
    if mode not in ("connectivity", "distance"):
        raise ValueError(
            'Unsupported mode, must be one of "connectivity", or "distance" but got '
            f'"{mode}" instead'
        )


def check_target_recall(target_recall):
    """The recall to reach as a float, or None."""
    if target_recall is None:
        return None
    if not isinstance(target_recall, Real):
        raise TypeError(f"target_recall must be a number, got {type(target_recall)}.")
    if not 0 < target_recall <= 1:
        raise ValueError(f"Expected 0 < target_recall <= 1. Got {target_recall}")
    return float(target_recall)


def check_refine_factor(refine_factor, is_stored):
    """The factor as an int."""
    if not isinstance(refine_factor, Integral):
        raise TypeError(
            f"refine_factor must be an integer or 'auto', got {refine_factor!r}."
        )
    if refine_factor < 1:
        raise ValueError(f"Expected refine_factor >= 1. Got {refine_factor}")
    if refine_factor > 1 and not is_stored:
        raise ValueError(
            f"refine_factor={refine_factor} needs the vectors: fit with "
            "store_vectors=True, or use refine_factor=1."
        )
    return int(refine_factor)


def check_nprobe(nprobe):
    """The number of lists to probe as an int."""
    if not isinstance(nprobe, Integral):
        raise TypeError(f"nprobe must be an integer or 'auto', got {nprobe!r}.")
    if nprobe < 1:
        raise ValueError(f"Expected nprobe >= 1. Got {nprobe}")
    return int(nprobe)


def check_positive(name, value):
    """Refuse an attribute that is no positive integer."""
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be a positive integer.")


def are_rows_of(n, ids):
    """Whether an attribute is an array of numbers of n rows."""
    is_array = isinstance(ids, np.ndarray) and ids.ndim == 1 and len(ids) > 0
    return is_array and ids.dtype == np.int64 and ids.min() >= 0 and ids.max() < n


def are_queries(d, X):
    """Whether an attribute is an array of finite queries of this width."""
    is_array = isinstance(X, np.ndarray) and X.ndim == 2 and X.shape[1] == d
    is_float = is_array and X.dtype in (np.float32, np.float64)
    return is_float and len(X) > 0 and bool(np.isfinite(X).all())
