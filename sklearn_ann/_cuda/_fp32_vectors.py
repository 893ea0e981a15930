"""Vectors in float32 for the filter, with a proven bound on what it computes.

A vector is centered, divided by the unit of the index and rounded to float32. For a
query q and a row x, so rounded, a kernel computes

    v  =  lowered(x) - 2 dot(q, x),    lowered(x)  =  |x|^2 (1 - a) - underflow

in float32. Let D be the distance of the vectors as given, in units. With u = 2^-24, the
rounding unit, and any order of the d additions of a dot product, D^2 differs from
|q|^2 + |x|^2 - 2 dot by at most (d + 8) u (|q|^2 + |x|^2), and by what underflows:

- d u for the dot product: its error is at most d u |q| |x| (1 + d u), doubled, and
  2 |q| |x| <= |q|^2 + |x|^2;
- 5 u because q and x are rounded themselves;
- 3 u for the last subtraction, whose terms are rounded once more.

So with a = (d + 16) u / (1 - (d + 16) u)

    v - a |q|^2  <=  D^2 - |q|^2  <=  v + 2 a |x|^2 + a |q|^2 + 2 underflow,

and the other 8 units pay for the roundings of these bounds, of thresholds made of them,
and of the distances in float64, which decide. What underflows loses less than 2^-148
for each product.

Vectors with a feature beyond TOO_LONG units have no float32 image: they are zero there,
and lowered(x) is -inf, so that a filter never drops them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from sklearn_ann._cuda._compat import (
    FULL_WARP,
    WARP,
    cuda,
    device,
    float32,
    float64,
    kernel,
)
from sklearn_ann._layout import PANEL

# Beyond it squares and their sums might overflow in float32.
TOO_LONG = 2.0**40

# Beyond it the bound above does not hold.
MOST_FEATURES = 2**18

# Features of a step of the tile; vectors are padded to whole steps with zeros.
FEATURES = 8

# Vectors of a block of threads: a warp takes one after the other.
ENCODED_BY_BLOCK = 64
THREADS = 256


class Bound(NamedTuple):
    """The constants of the bound for vectors of d features.

    The lower and the upper bound of a distance are at most `gap_factor` (lowered(x) +
    spread of the query) + 4 `underflow` apart. The spread is |q|^2 here.
    """

    lower_factor: float  # 1 - a: makes lowered(x) of |x|^2
    underflow: float
    gap_factor: float  # 2 a / (1 - a): times lowered(x) it is at least 2 a |x|^2


def bound_for(d):
    """The bound for vectors of d features."""
    if d > MOST_FEATURES:
        raise ValueError(
            f"Vectors of {d} features are too long for a GPU: at most {MOST_FEATURES}."
        )
    rounding = (d + 16) * 2.0**-24
    a = rounding / (1 - rounding)
    return Bound(
        lower_factor=1 - a,
        underflow=(d + 16) * 2.0**-148,
        gap_factor=2 * a / (1 - a),
    )


@device
def _in_units(X, row, t, center, per_unit):
    """A centered feature in units of the index, so that float32 does not overflow."""
    return (float64(X[row, t]) - center[t]) * per_unit


@device
def sum_and_largest(total, largest):
    """The sum and the largest of numbers of all lanes of a warp, none negative."""
    offset = WARP // 2
    while offset > 0:
        total += cuda.shfl_xor_sync(FULL_WARP, total, offset)
        largest = max(largest, cuda.shfl_xor_sync(FULL_WARP, largest, offset))
        offset >>= 1
    return total, largest


@kernel
def encode(
    X,          # IN   (n, d)       float
    rows,       # IN   (n_positions,)  int32  row of X at each position; -1: none
    center,     # IN   (d,)         float64
    per_unit,   # IN   float
    lower_factor,  # IN float       see Bound, for lowered squared lengths
    underflow,  # IN   float        see Bound
    no_row,     # IN   float        squared length of a position without a row
    too_long,   # IN   float        squared length of a row without an image
    n_steps,    # IN   int          steps of 4 features
    vectors,    # OUT  (n_positions / 64 * n_steps * 64 * 4,)  float32  in panels:
                #                            4 features of 64 rows a step
    sqnorms,    # OUT  (n_positions,)  float32  NaN for a row that is not finite
):
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    n_warps, d = cuda.blockDim.x // WARP, X.shape[1]
    first = cuda.blockIdx.x * ENCODED_BY_BLOCK
    for position in range(first + warp, first + ENCODED_BY_BLOCK, n_warps):
        row = rows[position]
        base = (position // PANEL * n_steps * PANEL + position % PANEL) * 4
        total, largest, is_finite = float64(0), float64(0), True
        if row >= 0:
            for t in range(lane, d, WARP):
                value = _in_units(X, row, t, center, per_unit)
                is_finite &= abs(float64(X[row, t])) < math.inf
                largest = max(largest, abs(value))
                rounded = float64(float32(value))
                total += rounded * rounded
            total, largest = sum_and_largest(total, largest)
            is_finite = cuda.all_sync(FULL_WARP, is_finite)
        is_image = row >= 0 and largest <= TOO_LONG and is_finite
        for t in range(lane, 4 * n_steps, WARP):
            value = float64(0)
            if is_image and t < d:
                value = _in_units(X, row, t, center, per_unit)
            vectors[base + t // 4 * PANEL * 4 + t % 4] = float32(value)
        if lane == 0:
            sqnorm = total * lower_factor - underflow
            if row < 0:
                sqnorm = no_row
            elif not is_finite:
                sqnorm = math.nan
            elif not is_image:
                sqnorm = too_long
            sqnorms[position] = float32(sqnorm)
