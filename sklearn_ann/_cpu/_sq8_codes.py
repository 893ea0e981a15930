"""Scalar quantization to 8 bits, with a proven bound on what it loses.

A vector v, centered, is replaced by ``scale * codes``: a float32 scale of its own and
one integer per feature. What the codes lose is measured, an ``error`` no less than
``|v - scale * codes|``, and with it the distance of two decoded vectors bounds that of
the vectors themselves::

    | |q - x| - |q' - x'| |  <=  error(q) + error(x)          (triangle inequality)

where a prime marks the decoded vector. The square of ``|q' - x'|`` needs one integer
dot product, which is exact.

Vectors of integers between -128 and 127 (pixels, counts, SIFT, once the center is taken
off) are their own codes: nothing is lost.

All lengths here are in units of ``unit``, a power of two near the largest length in the
data, so that float32 neither overflows nor underflows.
"""

from __future__ import annotations

import numpy as np

from sklearn_ann._cpu._distance import AHEAD, prefetch
from sklearn_ann._cpu._jit import jit
from sklearn_ann._cpu._rounding import rounded_up
from sklearn_ann._cpu._sq8_quantize import quantize, subtract_center
from sklearn_ann._cpu._threads import cut, run_blocks
from sklearn_ann._layout import OFFSET, PANEL, read_only

# A vector whose largest feature (in units) is larger, or smaller, has no codes. Within
# these limits no float32 number overflows or loses digits.
TOO_LONG, TOO_SHORT = 2.0**40, 2.0**-100

# Error over scale of a row that has no codes, or that loses nothing to them and is not
# one of integers. 0 is kept for these: see ``tie_threshold`` in ``_sq8_block.py``.
TINY_RATIO = 1e-30

# Rows that a thread encodes at a time.
_BLOCK = 64 * PANEL


@jit
def encode_vector(
    centered,   # IN   (d,)  float64  vector minus center, in units
    magnitude,  # IN   float          the largest of its features
    codes,      # OUT  (d,)  int8
    levels,     # IN   int            largest code
    unit,       # IN   float
):
    """Quantise one vector.

    Returns its scale (float32; 0 if it is too long or too short to have one), the sum
    of its codes and of their squares, and its error, rounded up.
    """
    if levels < 1 or magnitude > TOO_LONG or 0.0 < magnitude < TOO_SHORT:
        sum_codes, sum_squares, lost = quantize(centered, codes, 0.0, 0.0)
        return np.float32(0.0), sum_codes, sum_squares, np.sqrt(lost)
    first = centered[0] * unit
    is_integer = first == np.rint(first) and levels == 127 and 2.0**-60 < unit < 2.0**60
    if is_integer:
        # Without a way out of the loop, so that it vectorises.
        n_bytes = 0
        for t in range(len(centered)):
            value = centered[t] * unit
            n_bytes += (value == np.rint(value)) & (value >= -128.0) & (value <= 127.0)
        is_integer = n_bytes == len(centered)
    scale = np.float32(1.0 / unit if is_integer else magnitude / levels)
    inverse = 1.0 / np.float64(scale) if scale > 0 else 0.0
    sum_codes, sum_squares, lost = quantize(
        centered, codes, np.float64(scale), inverse
    )
    error = np.sqrt(lost)
    if not is_integer:
        # The float64 roundings of the error itself, and of the centered vector.
        error = rounded_up(error) + 1e-15 * np.sqrt(np.float64(sum_squares)) * scale
    return scale, sum_codes, sum_squares, error


@jit
def is_whole(X, i):
    """Whether all features of ``X[i]`` are integers."""
    # Without a way out of the loop, so that it vectorises; without a view of the row,
    # which would count references, one thread waiting for another.
    has_fraction = False
    for t in range(X.shape[1]):
        has_fraction |= X[i, t] != np.rint(X[i, t])
    return not has_fraction


@jit
def _encode_rows(
    start,         # IN   int                     first of the rows to encode
    stop,          # IN   int                     one past the last
    X,             # IN   (n, d)                  float
    rows,          # IN   (m,)                    int64    rows of X
    positions,     # IN   (m,)                    int64    where their codes go
    center,        # IN   (d,)                    float64
    unit,          # IN   float
    codes,         # OUT  (n_panels, steps, 64)   int32    four codes at a time
    scales,        # OUT  (n_panels * 64,)        float32
    lengths,       # OUT  (m,)                    float64  squared, of decoded rows;
                   #                                       -inf: the row has no codes
    error_ratios,  # OUT  (m,)                    float64  error / scale
):
    d = X.shape[1]
    centered, per_unit = np.empty(d), 1.0 / unit
    row_codes = np.zeros(4 * codes.shape[1], np.int8)
    fours, offsets = row_codes.view(np.int32), np.full(4, OFFSET, np.uint8)
    four_offsets = offsets.view(np.int32)[0]
    for j in range(start, stop):
        row = rows[j]
        if j + AHEAD < stop:
            prefetch(X, rows[j + AHEAD])
        magnitude = subtract_center(X, row, center, per_unit, centered)
        scale, _, sum_squares, error = encode_vector(
            centered, magnitude, row_codes, 127, unit
        )
        panel, lane = positions[j] // PANEL, positions[j] % PANEL
        for step in range(fours.shape[0]):
            # An offset of 128 turns over the highest bit.
            codes[panel, step, lane] = fours[step] ^ four_offsets
        scales[positions[j]] = scale
        if scale > 0 or error == 0:
            lengths[j] = np.float64(scale) * np.float64(scale) * sum_squares
            error_ratios[j] = error / scale if scale > 0 else 0.0
            if error == 0 and not is_whole(X, row):
                # 0 is kept for integers, of which the filter knows more.
                error_ratios[j] = TINY_RATIO
        else:
            lengths[j] = -np.inf
            # Its distances are not those of integers, see ``tie_threshold``.
            error_ratios[j] = TINY_RATIO


def encode_sq8(X, rows, positions, center, unit, codes, scales, n_threads):
    """Quantise rows of X into panels.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        float32 or float64; the rows to encode are finite.
    rows : ndarray of shape (m,), int64
        Rows of X.
    positions : ndarray of shape (m,), int64
        Where their codes go.
    center : ndarray of shape (d,), float64
    unit : float
        A power of two.
    codes, scales : ndarray
        Written at the positions, as ``FlatIndex`` lays them out.
    n_threads : int

    Returns
    -------
    lengths : ndarray of shape (m,), float64
        Squared lengths of the decoded rows; -inf for a row that has no codes.
    error_ratios : ndarray of shape (m,), float64
        Error over scale.
    """
    X, rows, positions, center = map(read_only, (X, rows, positions, center))
    lengths, error_ratios = np.empty(len(rows)), np.empty(len(rows))
    fours = codes.view(np.int32)[..., 0]
    run_blocks(
        lambda start, stop: _encode_rows(
            start, stop, X, rows, positions, center, unit,
            fours, scales, lengths, error_ratios,
        ),
        cut(len(rows), _BLOCK),
        n_threads,
    )
    return lengths, error_ratios
