"""Queries that are filtered by 8-bit codes: their own codes, thresholds, candidates.

Lengths are in units (see ``_layout.py``); a prime marks a decoded vector.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sklearn_ann._cpu._jit import jit
from sklearn_ann._cpu._rounding import (
    limit_of,
    narrowed,
    nudged_up,
    rounded_up,
    widened,
)
from sklearn_ann._cpu._sq8_codes import encode_vector, is_whole
from sklearn_ann._cpu._sq8_quantize import subtract_center
from sklearn_ann._cpu._sq8_simd import QUERY_LEVELS, TILE
from sklearn_ann._layout import OFFSET


class SQ8Block(NamedTuple):
    """Encoded queries, what the filter needs of them, and their candidates."""

    codes: np.ndarray  # (padded, steps, 4)     int8
    biases: np.ndarray  # (padded,)             int32    undo the offset of rows
    scales: np.ndarray  # (padded,)             float64  in units
    sqnorms: np.ndarray  # (padded,)            float64  of the decoded query
    errors: np.ndarray  # (padded,)             float64
    sqdist_steps: np.ndarray  # (padded,)       float64  see ``tie_threshold``
    thresholds: np.ndarray  # (padded,)         float64  -1: nothing is a neighbour
    factors: np.ndarray  # (padded,)            float32  arguments of ``survivors``
    bases: np.ndarray  # (padded,)              float32
    limits: np.ndarray  # (padded,)             float32
    counts: np.ndarray  # (padded,)             int64    candidates
    full_at: np.ndarray  # (padded,)          int64    of more candidates some must go
    lowers: np.ndarray  # (padded, capacity)    float64  bounds of their distances
    uppers: np.ndarray  # (padded, capacity)    float64
    rows: np.ndarray  # (padded, capacity)      int64


@jit
def _empty_block(n, steps, capacity):
    """A block for n queries, padded to whole tiles, without neighbours so far."""
    padded = n if n == 1 else (n + TILE - 1) // TILE * TILE
    return SQ8Block(
        codes=np.zeros((padded, steps, 4), np.int8),
        biases=np.zeros(padded, np.int32),
        scales=np.zeros(padded),
        sqnorms=np.zeros(padded),
        errors=np.zeros(padded),
        sqdist_steps=np.zeros(padded),
        thresholds=np.full(padded, -1.0),
        factors=np.zeros(padded, np.float32),
        bases=np.zeros(padded, np.float32),
        limits=np.full(padded, np.float32(-np.inf)),
        counts=np.zeros(padded, np.int64),
        full_at=np.zeros(padded, np.int64),
        lowers=np.empty((padded, capacity)),
        uppers=np.empty((padded, capacity)),
        rows=np.empty((padded, capacity), np.int64),
    )


@jit
def encode_queries(
    start,     # IN  int      first query
    stop,      # IN  int      one past the last
    Q,         # IN  (nq, d)  float
    index,     # IN  FlatIndex
    capacity,  # IN  int      candidates that each query has room for
):
    """A new block of some queries; those not finite get no neighbours."""
    n, d = stop - start, Q.shape[1]
    block = _empty_block(n, index.codes.shape[1], capacity)
    # Taken out of their tuples once, see ``filter_panels``.
    all_codes, biases, scales = block.codes, block.biases, block.scales
    sqnorms, errors, sqdist_steps = block.sqnorms, block.errors, block.sqdist_steps
    thresholds, factors, limits = block.thresholds, block.factors, block.limits
    center, unit = index.center, index.unit
    centered = np.empty(d)
    # All rows are integers: see `TINY_RATIO`. So are their squared distances from a
    # query of integers.
    is_integer = index.error_ratio == 0 and is_whole(center.reshape(1, -1), 0)
    is_in_order = len(index.ids) == 0
    # The largest code for which no dot product overflows 32 bits. One less, because
    # integer vectors also have the code -128.
    levels = min(QUERY_LEVELS, (2**31 - 1) // (OFFSET * d) - 1)
    per_unit = 1.0 / unit
    for i in range(n):
        magnitude = subtract_center(Q, start + i, center, per_unit, centered)
        # Far from the center also finite features overflow.
        if not magnitude < np.inf and not np.isfinite(Q[start + i]).all():
            continue
        scale, sum_codes, sum_squares, error = encode_vector(
            centered, magnitude, all_codes[i].reshape(-1), levels, unit
        )
        biases[i] = np.int32(-OFFSET * sum_codes)
        scales[i] = scale
        sqnorms[i] = np.float64(scale) * np.float64(scale) * sum_squares
        errors[i] = error
        if is_integer and is_in_order and error == 0 and is_whole(Q, start + i):
            sqdist_steps[i] = per_unit * per_unit
        factors[i] = np.float32(2.0 * scale)
        thresholds[i], limits[i] = np.inf, np.float32(np.inf)
    return block


@jit
def threshold_terms(threshold, query_sqnorm, query_error, error_ratio):
    """Base and limit of ``survivors`` for rows within `threshold` (in units).

    It drops a row if ``|q' - x'| > reach + error(x)``, both sides squared, with
    ``reach = threshold + error(q)`` and ``error(x) <= error_ratio * scale(x)``. A
    negative threshold drops all rows.
    """
    if threshold == np.inf:
        return np.float32(0.0), np.float32(np.inf)
    if threshold < 0:
        return np.float32(0.0), np.float32(-np.inf)
    reach = rounded_up(threshold) + query_error
    base = np.float32(widened(2.0 * reach * error_ratio))
    limit = limit_of(widened(reach * reach) - narrowed(query_sqnorm))
    if not (base < np.inf and limit < np.inf):
        # Too far away for a bound: every row is measured.
        return np.float32(0.0), np.float32(np.inf)
    return base, limit


@jit
def tie_threshold(threshold, sqdist_step):
    """The threshold of rows that come after k others within `threshold` (in units).

    If squared distances are multiples of `sqdist_step`, which is 0 where that is not
    known, and rows come in the order of their numbers, those that tie with the k-th are
    too late.
    """
    if sqdist_step == 0 or threshold == np.inf:
        return threshold
    n_steps = np.floor(nudged_up(threshold * threshold / sqdist_step))
    return np.sqrt((n_steps - 0.5) * sqdist_step) if n_steps > 0 else -1.0


@jit
def set_threshold(
    block,        # INOUT  SQ8Block
    i,            # IN     int    query of the block
    threshold,    # IN     float  in units
    error_ratio,  # IN     float
):
    """Drop rows further than `threshold` from a query from now on."""
    block.thresholds[i] = threshold
    block.bases[i], block.limits[i] = threshold_terms(
        threshold, block.sqnorms[i], block.errors[i], error_ratio
    )
