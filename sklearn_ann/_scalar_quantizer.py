"""The flat index: vectors, and beside them 8-bit codes that bound every distance.

The codes are a filter. A search reads a quarter of the bytes, does integer arithmetic,
and measures only the few rows that the bounds cannot exclude; its answer is the exact
one (why: ``_cpu/_sq8.py``). The idea of scalar quantization with a scale of its own for
each vector is that of LVQ: Aguerrebere et al., "Similarity search in the blink of an
eye with compressed indices", 2023.
"""

from __future__ import annotations

import math

import numpy as np

from sklearn_ann._layout import PANEL, ROUNDING, FlatIndex, read_only_index

# Rows that are looked at to choose the centre. It only has to be near the middle: the
# bounds hold for every centre.
_CENTER_SAMPLE = 8192

# Of the unit: further out squared distances underflow or overflow in float64. There the
# filter lets every row pass, so that the answer is that of the computed distances.
_MAX_EXPONENT = 450


def build_flat_index(X, backend, n_threads):
    """Quantise the rows of X beside them.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
        Finite, C-contiguous. Kept by reference.
    backend : module
        See ``_backend.py``.
    n_threads : int

    Returns
    -------
    index : FlatIndex
    """
    center, unit = _center_and_unit(X)
    codes, scales, lengths, ratios = _empty_codes(len(X), X.shape[1])
    backend.encode_sq8(X, center, unit, 0, codes, scales, lengths, ratios, n_threads)
    error_ratio = float(ratios.max())
    sqnorms = _sqnorms(lengths, scales, error_ratio)
    index = FlatIndex(X, center, codes, scales, sqnorms, unit, error_ratio)
    return read_only_index(index)


def add_to_flat_index(index, X, backend, n_threads):
    """A new index with the rows of X after those of `index`.

    The centre stays. When a new row loses more to its codes than any row did so far,
    all rows are encoded again.
    """
    n = len(index.X)
    X_all = np.concatenate([index.X, X])
    codes, scales, lengths, ratios = _empty_codes(len(X_all), X.shape[1])
    backend.encode_sq8(
        X, index.center, index.unit, n, codes, scales, lengths, ratios, n_threads
    )
    if ratios.max() > index.error_ratio:
        return build_flat_index(X_all, backend, n_threads)
    sqnorms = _sqnorms(lengths, scales, index.error_ratio)
    whole, lanes = divmod(n, PANEL)
    codes[:whole] = index.codes[:whole]
    if lanes:
        codes[whole, :, :lanes] = index.codes[whole, :, :lanes]
    scales[:n], sqnorms[:n] = index.scales[:n], index.sqnorms[:n]
    return read_only_index(
        index._replace(X=X_all, codes=codes, scales=scales, sqnorms=sqnorms)
    )


def _center_and_unit(X):
    """A point in the middle of the data, and a power of two near the largest length."""
    sample = X[:: -(-len(X) // _CENTER_SAMPLE)]
    low = sample.min(axis=0).astype(np.float64)
    high = sample.max(axis=0).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        center = sample.mean(axis=0, dtype=np.float64)
        center[~np.isfinite(center)] = 0.0
        if high.max() - low.min() <= 255 and np.array_equal(sample, np.rint(sample)):
            # Integers that fit a byte are encoded without loss around an integer.
            center = np.full(X.shape[1], low.min() + 128.0)
        spread = np.maximum(high - center, center - low).max() * math.sqrt(X.shape[1])
    exponent = math.frexp(min(spread, 1e300))[1] if spread > 0 else 0
    return center, 2.0 ** max(-_MAX_EXPONENT, min(exponent, _MAX_EXPONENT))


def _empty_codes(n, d):
    """Arrays for the codes of n rows; the positions past the last row stay harmless."""
    n_panels, steps = -(-n // PANEL), -(-d // 4)
    codes = _aligned((n_panels, steps, PANEL, 4))
    codes[-1] = 0
    padded = n_panels * PANEL
    return codes, np.zeros(padded, np.float32), np.zeros(padded), np.zeros(padded)


def _aligned(shape):
    """An uninitialised uint8 array that starts at a multiple of a cache line.

    A vector of 64 bytes that straddles two cache lines costs two reads.
    """
    size, line = math.prod(shape), 64
    buffer = np.empty(size + line, np.uint8)
    start = -buffer.ctypes.data % line
    return buffer[start : start + size].reshape(shape)


def _sqnorms(lengths, scales, error_ratio):
    """Squared length minus squared error of the decoded rows, rounded down to float32.

    The filter keeps a row unless ``|q' - x'| > threshold + error(q) + error(x)``;
    squared, with the terms of the row on one side, this is what the row contributes.
    """
    errors = (error_ratio * scales.astype(np.float64)) ** 2
    rounded_down = lengths * (1 - ROUNDING) - errors * (1 + ROUNDING)
    return np.nextafter(rounded_down.astype(np.float32), np.float32(-np.inf))
