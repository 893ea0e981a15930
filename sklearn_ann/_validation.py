"""Vectors as they come, validated as scikit-learn does, in float32 or float64."""

from __future__ import annotations

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.validation import check_array, validate_data

from sklearn_ann._interchange import as_host_array
from sklearn_ann._metrics import vectors_to_index
from sklearn_ann._product_quantizer import check_codebooks, check_m


def validate_vectors(estimator, X, *, reset, copy=False):
    """X as a finite, C-contiguous array of float32 or float64 on the host.

    Parameters
    ----------
    estimator : NeighborsBase
        Knows the number of features and their names.
    X : array-like of shape (n, d)
        On the host. Numbers that float32 holds exactly (float16, integers of up to 16
        bits and booleans too) become float32, all others float64.
    reset : bool
        Whether the estimator takes number and names of the features from X, or
        compares them.
    copy : bool
        Whether to return a copy of X even if nothing is to be converted.
    """
    X = _as_array(X, "X")
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


def validate_init(init, X, metric):
    """A copy of given centroids, as vectors like those to index.

    Parameters
    ----------
    init : array-like of shape (nlist, d) or (nlist, n_features)
        On the host or on a GPU. As wide as the vectors to index it is taken as it is.
        The cosine has a feature more than the data: rows without it are treated as
        rows of the data.
    X : ndarray of shape (n, d)
        The vectors to index.
    metric : str
    """
    centroids = _copy_of_array(init, X.dtype, "init", "(nlist, n_features)")
    widths = {X.shape[1], X.shape[1] - (metric == "cosine")}
    if centroids.shape[1] not in widths:
        raise ValueError(
            f"init has {centroids.shape[1]} features, but the vectors to index have "
            f"{' or '.join(map(str, sorted(widths)))}."
        )
    is_indexed = centroids.shape[1] == X.shape[1]
    return centroids if is_indexed else vectors_to_index(centroids, metric)


def validate_codebooks(codebooks, d, m, nbits):
    """A copy of given codebooks, float32, for d features and these parameters."""
    shape = "(m, n_codewords, n_part_features)"
    codebooks = _copy_of_array(codebooks, np.float32, "codebooks", shape)
    check_m(codebooks, d, m, nbits)
    check_codebooks(codebooks, d, nbits)
    return codebooks


def _copy_of_array(array, dtype, name, shape):
    """A finite, contiguous copy of an array that is a parameter, in this dtype.

    `shape` names its dimensions, as the documentation of the parameter does.
    """
    array = _as_array(as_host_array(array), name)
    # Numbers too large for the dtype become infinite, which is an error.
    with np.errstate(over="ignore", invalid="ignore"):
        array = check_array(
            array,
            dtype=dtype,
            order="C",
            copy=True,
            ensure_2d=False,
            allow_nd=True,
            ensure_min_samples=0,
            input_name=name,
        )
    if array.size == 0 or array.ndim != shape.count(",") + 1:
        raise ValueError(f"{name} must have the shape {shape}. Got {array.shape}.")
    return array


def _as_array(X, name):
    """An array of whatever has one, without attributes of its own; tables as they are.

    Tables may have names, and scikit-learn has an error for sparse matrices.
    """
    rows = X if isinstance(X, (list, tuple)) else (X,)
    masked = (row for row in rows if isinstance(row, np.ma.MaskedArray))
    if any(map(np.ma.is_masked, masked)):
        raise ValueError(
            f"{name} has masked values, which a search would take for numbers. Replace "
            f"them, for example with {name}.filled(0), or drop their rows."
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
