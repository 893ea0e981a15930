"""Vectors as they come, validated as scikit-learn does, in float32 or float64."""

from __future__ import annotations

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.validation import validate_data

from sklearn_ann._interchange import to_host


def validate_vectors(estimator, X, *, reset, copy=False):
    """X as a finite, C-contiguous array of float32 or float64 on the host.

    Parameters
    ----------
    estimator : NeighborsBase
        Knows the number of features and their names.
    X : array-like of shape (n, d)
        Numbers that float32 holds exactly (float16, integers of up to 16 bits and
        booleans too) become float32, all others float64.
    reset : bool
        Whether the estimator takes number and names of the features from X, or
        compares them.
    copy : bool
        Whether to return a copy of X even if nothing is to be converted.
    """
    X = _as_array(to_host(X))
    vectors = validate_data(
        estimator, X, dtype=_float_dtype(X), order="C", reset=reset, copy=copy
    )
    # What X itself says of its shape may be something else.
    if reset:
        estimator.n_features_in_ = vectors.shape[1]
    elif vectors.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"X has {vectors.shape[1]} features, but {type(estimator).__name__} is "
            f"expecting {estimator.n_features_in_} features as input."
        )
    return vectors


def _as_array(X):
    """An array of whatever has one, without attributes of its own; tables as they are.

    Tables may have names, and scikit-learn has an error for sparse matrices.
    """
    rows = X if isinstance(X, (list, tuple)) else (X,)
    masked = (row for row in rows if isinstance(row, np.ma.MaskedArray))
    if any(map(np.ma.is_masked, masked)):
        raise ValueError(
            "X has masked values, which a search would take for numbers. Replace them, "
            "for example with X.filled(0), or drop their rows."
        )
    if X is None or isinstance(X, (np.ndarray, str)) or issparse(X) or _is_table(X):
        return X
    return np.asarray(X)


def _is_table(X):
    return hasattr(X, "columns") or hasattr(X, "__dataframe__")


def _float_dtype(X):
    """float32 if it holds all numbers that X can have, else float64."""
    dtype = getattr(X, "dtype", np.float64)
    if _is_table(X):
        # Nullable columns of pandas know the dtype of their numbers.
        kinds = getattr(X, "dtypes", ())
        kinds = [getattr(kind, "numpy_dtype", kind) for kind in kinds]
        if kinds and all(isinstance(kind, np.dtype) for kind in kinds):
            dtype = np.result_type(*kinds)
        else:
            dtype = np.asarray(X[:0]).dtype
    return np.float32 if np.can_cast(dtype, np.float32) else np.float64
