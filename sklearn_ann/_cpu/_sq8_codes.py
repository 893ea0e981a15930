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

from typing import NamedTuple

import numpy as np

from sklearn_ann._cpu._arrays import as_bytes, zeros
from sklearn_ann._cpu._borrow import borrowed, keep
from sklearn_ann._cpu._distance import AHEAD, prefetch
from sklearn_ann._cpu._jit import inlined_jit, jit, jit_part
from sklearn_ann._cpu._rounding import rounded_up
from sklearn_ann._cpu._sq8_project import (
    empty_vectors,
    has_projection,
    largest_of_image,
    project,
)
from sklearn_ann._cpu._sq8_quantize import quantize, subtract_center
from sklearn_ann._cpu._sq8_simd import TILE
from sklearn_ann._cpu._threads import cut, run_blocks
from sklearn_ann._layout import OFFSET, PANEL, read_only, read_only_index

# A vector whose largest feature (in units) is larger, or smaller, has no codes. Within
# these limits no float32 number overflows or loses digits.
TOO_LONG, TOO_SHORT = 2.0**40, 2.0**-100

# Error over scale of a row that has no codes, or that loses nothing to them and is not
# one of integers. 0 is kept for these: see ``tie_threshold`` in ``_sq8_block.py``.
TINY_RATIO = 1e-30

# The offset of four codes.
_FOUR_OFFSETS = np.full(4, OFFSET, np.uint8).view(np.int32)[0]

# Rows that a thread encodes at a time.
_BLOCK = 64 * PANEL


@jit_part
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


@jit_part
def is_whole(X, i):
    """Whether all features of ``X[i]`` are integers."""
    # Without a way out of the loop, so that it vectorises; without a view of the row,
    # which would count references, one thread waiting for another.
    has_fraction = False
    for t in range(X.shape[1]):
        has_fraction |= X[i, t] != np.rint(X[i, t])
    return not has_fraction


@jit_part
def is_finite(X, i):
    """Whether all features of ``X[i]`` are finite."""
    # 0 times a number that is not finite is NaN, and a sum with NaN is NaN.
    total = 0.0
    for t in range(X.shape[1]):
        total += 0.0 * X[i, t]
    return total == 0.0


@inlined_jit
def _length_and_ratio(scale, sum_squares, error, can_be_exact):
    """Squared length of a decoded vector, -inf without codes, and error over scale."""
    if scale > 0 or error == 0:
        length = np.float64(scale) * np.float64(scale) * sum_squares
        ratio = error / scale if scale > 0 else 0.0
        # 0 is kept for integers, of which the filter knows more.
        return length, ratio if ratio > 0 or can_be_exact else TINY_RATIO
    # Its distances are not those of integers, see ``tie_threshold``.
    return -np.inf, TINY_RATIO


class Encoded(NamedTuple):
    """What is written of rows, and of place j among those that are encoded."""

    codes: np.ndarray  # (n_panels, steps, 64)  int32  four codes at a time
    scales: np.ndarray  # (n_panels * 64,)  float32
    full_codes: np.ndarray  # (n_panels * 64, padded)  uint8  with a projection
    full_scales: np.ndarray  # (n_panels * 64,)  float32  with a projection
    lengths: np.ndarray  # (2, m)  float64  squared, of decoded rows; -inf: no codes
    error_ratios: np.ndarray  # (2, m)  float64  error / scale


@jit_part
def center_tile(
    tile,        # IN   int         the first of up to 4 rows
    stop,        # IN   int         one past the last of all that are to come
    X,           # IN   (n, d)      float
    rows,        # IN   (m,)        int64    rows of X
    center,      # IN   (d,)        float64
    unit,        # IN   float
    projection,  # IN   Projection
    vectors,     # OUT  Vectors
):
    """Center some rows, and project them if there is a projection."""
    in_tile = min(TILE, stop - tile)
    for i in range(in_tile):
        if tile + i + AHEAD < stop:
            prefetch(X, rows[tile + i + AHEAD])
        vectors.magnitudes[i] = subtract_center(
            X, rows[tile + i], center, 1.0 / unit, vectors.centered[i]
        )
    if projection.axes.shape[1] > 0:
        project(in_tile, vectors, projection)


@jit_part
def _encode_in_full(
    i,          # IN   int      which of the vectors
    j,          # IN   int      its place among all that are encoded
    position,   # IN   int      where its codes go
    vectors,    # IN   Vectors
    X,          # IN   (n, d)   float
    row,        # IN   int      the vector, in X
    unit,       # IN   float
    row_codes,  # SCRATCH (d,)  int8
    encoded,    # OUT  Encoded
):
    """Codes of all features of a vector, in a row."""
    d, full_codes = len(row_codes), encoded.full_codes
    scale, _, sum_squares, error = encode_vector(
        vectors.centered[i], vectors.magnitudes[i], row_codes, 127, unit
    )
    encoded.full_scales[position] = scale
    for t in range(d):
        full_codes[position, t] = np.uint8(row_codes[t]) ^ np.uint8(OFFSET)
    # Nothing is multiplied with these.
    for t in range(d, full_codes.shape[1]):
        full_codes[position, t] = OFFSET
    encoded.lengths[1, j], encoded.error_ratios[1, j] = _length_and_ratio(
        scale, sum_squares, error, error == 0 and is_whole(X, row)
    )


@jit_part
def _encode_image(
    i,          # IN   int       which of the vectors
    vectors,    # IN   Vectors
    row_codes,  # OUT  (width,)  int8
):
    """Codes of the projection of a vector; its scale, and what follows."""
    magnitude, lost = np.inf, vectors.errors[i]
    if has_projection(vectors.magnitudes[i]):
        # A scale that is no less than the error: no ratio of the two is large.
        magnitude = max(largest_of_image(vectors, i), 127.0 * lost)
    scale, _, sum_squares, error = encode_vector(
        vectors.images[i], magnitude, row_codes, 127, 0.0
    )
    return scale, sum_squares, error + lost


@jit
def _encode_rows(
    start,       # IN   int         first of the rows to encode
    stop,        # IN   int         one past the last
    X,           # IN   (n, d)      float
    rows,        # IN   (m,)        int64    rows of X
    positions,   # IN   (m,)        int64    where their codes go
    center,      # IN   (d,)        float64
    unit,        # IN   float
    projection,  # IN   Projection
    encoded,     # OUT  Encoded
):
    d, width = projection.axes.shape
    encoded, projection = borrowed(encoded), borrowed(projection)
    owned, codes, scales = empty_vectors(d, width), encoded.codes, encoded.scales
    vectors, lengths = borrowed(owned), encoded.lengths
    steps, all_codes = zeros(codes.shape[1], np.int32), zeros(d, np.int8)
    row_codes = as_bytes(steps)
    for tile in range(start, stop, TILE):
        in_tile = min(TILE, stop - tile)
        center_tile(tile, stop, X, rows, center, unit, projection, vectors)
        for i in range(in_tile):
            j, position = tile + i, positions[tile + i]
            if width > 0:
                _encode_in_full(
                    i, j, position, vectors, X, rows[j], unit, all_codes, encoded
                )
                image = row_codes[:width]
                scale, sum_squares, error = _encode_image(i, vectors, image)
            else:
                scale, _, sum_squares, error = encode_vector(
                    vectors.centered[i], vectors.magnitudes[i], row_codes, 127, unit
                )
            scales[position] = scale
            panel, lane = position // PANEL, position % PANEL
            for step in range(codes.shape[1]):
                # An offset of 128 turns over the highest bit.
                codes[panel, step, lane] = steps[step] ^ _FOUR_OFFSETS
            is_integer = width == 0 and error == 0 and is_whole(X, rows[j])
            lengths[0, j], encoded.error_ratios[0, j] = _length_and_ratio(
                scale, sum_squares, error, is_integer
            )
    keep(owned)
    keep(steps)


def encode_sq8(
    X, rows, positions, center, unit, projection, codes, scales, full, n_threads
):
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
    projection : Projection
    codes, scales : ndarray
        Written at the positions, as ``FlatIndex`` lays them out.
    full : tuple of ndarray
        Codes and scales as ``FullCodes`` lays them out, if there is a projection.
    n_threads : int

    Returns
    -------
    lengths : ndarray of shape (2, m), float64
        Squared lengths of what `codes` and `full` decode to; -inf for a row that has no
        codes.
    error_ratios : ndarray of shape (2, m), float64
        Error over scale.
    """
    X, rows, positions, center = map(read_only, (X, rows, positions, center))
    lengths, error_ratios = np.zeros((2, len(rows))), np.zeros((2, len(rows)))
    fours = codes.view(np.int32)[..., 0]
    encoded = Encoded(fours, scales, *full, lengths, error_ratios)
    projection = read_only_index(projection)
    run_blocks(
        lambda start, stop: _encode_rows(
            start, stop, X, rows, positions, center, unit, projection, encoded
        ),
        cut(len(rows), _BLOCK),
        n_threads,
    )
    return lengths, error_ratios
