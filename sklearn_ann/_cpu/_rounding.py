"""What rounding may do to a number, given away towards keeping a row.

The proofs in the developer guide (``filter.rst``, ``kernels.rst``) hold for real
numbers. Each function here moves a computed number by more than its rounding error, in
the direction in which more rows are kept.
"""

from __future__ import annotations

import numpy as np

from sklearn_ann._cpu._jit import jit_part
from sklearn_ann._layout import ROUNDING

# More than the relative rounding errors of two distances computed in float64, which are
# below 1e-11 each for a million features.
_SLACK = 1 + 1e-9

# More than the relative rounding errors of some dozens of operations in float64.
_FEW_ROUNDINGS = 1e-12

# Whatever underflows, in float32 or on the way to a distance in float64, is smaller.
UNDERFLOW = 1e-30


@jit_part
def rounded_up(distance):
    """No true distance exceeds it if its computed one does not exceed `distance`."""
    return distance * _SLACK


@jit_part
def rounded_down(distance):
    """No true distance is below it if its computed one is not below `distance`."""
    return distance / _SLACK


@jit_part
def nudged_up(value):
    """More than `value`, which a few operations in float64 have rounded."""
    return value * (1 + _FEW_ROUNDINGS)


@jit_part
def widened(term):
    """A term of the filter's test, in favour of the row: see ``ROUNDING``."""
    return term * (1 + ROUNDING)


@jit_part
def narrowed(term):
    """As ``widened``, for a term that is subtracted."""
    return term * (1 - ROUNDING)


@jit_part
def limit_of(value):
    """The float32 that is compared with bounds of rows: no less than `value`.

    The conversion rounds by 6e-8 of the value, the comparison by as much.
    """
    return np.float32(value + 1e-6 * abs(value) + UNDERFLOW)


@jit_part
def float32_rounding(n, terms):
    """What `n` evaluations in float32 of positive `terms` may be wrong by together."""
    return n * ROUNDING * terms


@jit_part
def float64_rounding(terms):
    """What a few sums in float64 of positive `terms` may be wrong by together."""
    return 1e-14 * terms + UNDERFLOW
