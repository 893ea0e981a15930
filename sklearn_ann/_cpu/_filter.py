"""The filter: which rows can be neighbours of a query, from their codes alone.

For a block of queries and one panel of 64 rows after the other:

1. ``dot_tile``: integer dot products of the codes, 4 queries x 64 rows at a time;
2. ``survivors``: which rows the bound cannot exclude, given the query's threshold;
3. the survivors join the query's list of candidates, with a lower and an upper bound of
   their distance.

Lengths are in units (see ``_layout.py``); a prime marks a decoded vector.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sklearn_ann._cpu._jit import jit
from sklearn_ann._cpu._quantize import subtract_center
from sklearn_ann._cpu._simd import (
    QUERY_LEVELS,
    TILE,
    dot_one,
    dot_tile,
    lowest_bit,
    survivors,
)
from sklearn_ann._cpu._sq8 import encode_vector, is_whole
from sklearn_ann._layout import OFFSET, PANEL, ROUNDING

# A row is dropped when its bound exceeds the threshold by this factor: more than the
# rounding errors of two distances computed in float64.
SLACK = 1 + 1e-9


class Block(NamedTuple):
    """Encoded queries, what the filter needs of them, and their candidates."""

    codes: np.ndarray  # (padded, steps, 4)     int8
    biases: np.ndarray  # (padded,)             int32    undo the offset of rows
    scales: np.ndarray  # (padded,)             float64  in units
    sqnorms: np.ndarray  # (padded,)            float64  of the decoded query
    errors: np.ndarray  # (padded,)             float64
    gaps: np.ndarray  # (padded,)               float64  see ``latecomers``
    thresholds: np.ndarray  # (padded,)         float64  -1: nothing is a neighbour
    factors: np.ndarray  # (padded,)            float32  arguments of ``survivors``
    bases: np.ndarray  # (padded,)              float32
    limits: np.ndarray  # (padded,)             float32
    counts: np.ndarray  # (padded,)             int64    candidates
    marks: np.ndarray  # (padded,)              int64    how many are too many
    lowers: np.ndarray  # (padded, capacity)    float64  bounds of their distances
    uppers: np.ndarray  # (padded, capacity)    float64
    rows: np.ndarray  # (padded, capacity)      int64


@jit
def _empty_block(n, steps, capacity):
    """A block for n queries, padded to whole tiles, without neighbours so far."""
    padded = n if n == 1 else (n + TILE - 1) // TILE * TILE
    return Block(
        np.zeros((padded, steps, 4), np.int8),
        np.zeros(padded, np.int32),
        np.zeros(padded),
        np.zeros(padded),
        np.zeros(padded),
        np.zeros(padded),
        np.full(padded, -1.0),
        np.zeros(padded, np.float32),
        np.zeros(padded, np.float32),
        np.full(padded, np.float32(-np.inf)),
        np.zeros(padded, np.int64),
        np.zeros(padded, np.int64),
        np.empty((padded, capacity)),
        np.empty((padded, capacity)),
        np.empty((padded, capacity), np.int64),
    )


@jit
def encode_queries(start, stop, Q, index, capacity):
    """The block of the queries start to stop; those not finite get no neighbours."""
    n, d = stop - start, Q.shape[1]
    block = _empty_block(n, index.codes.shape[1], capacity)
    # Taken out of their tuples once, see ``filter_panels``.
    all_codes, biases, scales, sqnorms, errors, gaps = block[:6]
    thresholds, factors, _, limits = block[6:10]
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
        largest = subtract_center(Q, start + i, center, per_unit, centered)
        # Far from the center also finite features overflow.
        if not largest < np.inf and not np.isfinite(Q[start + i]).all():
            continue
        scale, sum_codes, sum_squares, error = encode_vector(
            centered, largest, all_codes[i].reshape(-1), levels, unit
        )
        biases[i] = np.int32(-OFFSET * sum_codes)
        scales[i] = scale
        sqnorms[i] = np.float64(scale) * np.float64(scale) * sum_squares
        errors[i] = error
        if is_integer and is_in_order and error == 0 and is_whole(Q, start + i):
            gaps[i] = per_unit * per_unit
        factors[i] = np.float32(2.0 * scale)
        thresholds[i], limits[i] = np.inf, np.float32(np.inf)
    return block


@jit
def threshold_terms(threshold, query_sqnorm, query_error, error_ratio):
    """Base and limit of ``survivors`` for rows within `threshold` (in units).

    It drops a row if ``|q' - x'| > reach + error(x)``, both sides squared, with
    ``reach = threshold + error(q)`` and ``error(x) <= error_ratio * scale(x)``. The
    limit is rounded up by ROUNDING of each term, and by what may underflow. A negative
    threshold drops all rows.
    """
    if threshold == np.inf:
        return np.float32(0.0), np.float32(np.inf)
    if threshold < 0:
        return np.float32(0.0), np.float32(-np.inf)
    reach = threshold * SLACK + query_error
    limit = reach * reach * (1 + ROUNDING) - query_sqnorm * (1 - ROUNDING)
    base = np.float32(2.0 * reach * error_ratio * (1 + ROUNDING))
    limit = np.float32(limit + 1e-6 * abs(limit) + 1e-30)
    if not (base < np.inf and limit < np.inf):
        # Too far away for a bound: every row is measured.
        return np.float32(0.0), np.float32(np.inf)
    return base, limit


@jit
def latecomers(threshold, gap):
    """The threshold of rows that come after k others within `threshold` (in units).

    If squared distances are multiples of `gap`, which is 0 where that is not known, and
    rows come in the order of their numbers, those that tie with the k-th are too late.
    """
    if gap == 0 or threshold == np.inf:
        return threshold
    n_gaps = np.floor(threshold * threshold / gap * (1 + 1e-12))
    return np.sqrt((n_gaps - 0.5) * gap) if n_gaps > 0 else -1.0


@jit
def set_threshold(block, i, threshold, error_ratio):
    """Drop rows further than `threshold` (in units) from query i from now on."""
    block.thresholds[i] = threshold
    block.bases[i], block.limits[i] = threshold_terms(
        threshold, block.sqnorms[i], block.errors[i], error_ratio
    )


@jit
def bounds(scale, sqnorm, error_ratio, query_scale, query_sqnorm, query_error, dot):
    """Lower and upper bound of the distance of a row and a query, in units."""
    if sqnorm == -np.inf:
        return 0.0, np.inf
    error = error_ratio * scale
    # sqnorm is |x'|^2 - error^2, rounded down by about ROUNDING (_scalar_quantizer.py):
    # low <= |q' - x'|^2 <= low + rounded.
    product = 2.0 * query_scale * scale * dot
    low = query_sqnorm + sqnorm + error * error - product
    rounded = 4 * ROUNDING * (abs(sqnorm) + 2 * error * error)
    # The roundings of the lines above, a few units of float64 in each term, and what
    # may underflow in a computed distance.
    terms = query_sqnorm + abs(sqnorm) + error * error + abs(product)
    fuzz = 1e-14 * terms + 1e-30
    width = query_error + error
    lower = np.sqrt(max(low - fuzz, 0.0)) - width
    return lower, np.sqrt(max(low + rounded + fuzz, 0.0)) + width


@jit
def _level_of(k):
    """The first level of `twins` that marks no row among the k nearest."""
    level = 0
    while 2**level < k:
        level += 1
    return level


@jit
def filter_panels(
    panels,   # IN     (n_panels,)     int64  numbers of the panels to look at
    first,    # IN     int             where to begin among them
    members,  # IN     (n_members,)    int64  queries of the block
    queries,  # IN     (padded, steps, 4)  int8  their codes, padded to whole tiles
    biases,   # IN     (padded,)       int32
    block,    # INOUT  Block
    index,    # IN     FlatIndex
    k,        # IN     int             how many neighbours a query wants at most
    dots,     # SCRATCH (4, 64)        int32
):
    """Collect the candidates of some queries, panel by panel.

    Stops behind the panel that makes some list grow beyond its mark; returns where to
    go on. Marks leave room for a whole panel.
    """
    # Taken out of their tuples once: each access inside the loops would cost an atomic
    # increment and decrement of a reference count.
    _, _, codes, scales, sqnorms, _, error_ratio, ids, twins = index
    _, _, query_scales, query_sqnorms, query_errors, _ = block[:6]
    thresholds, factors, bases, limits, counts, marks, lowers, uppers, rows = block[6:]
    n_members, is_identity = len(members), len(ids) == 0
    level = _level_of(k)
    n_known = twins.shape[1] if level < twins.shape[0] else 0
    for at in range(first, len(panels)):
        panel = panels[at]
        is_due = False
        for tile in range(0, n_members, TILE):
            in_tile = min(TILE, n_members - tile)
            if in_tile == 1:
                dot_one(codes, panel, queries, tile, biases, dots)
            else:
                dot_tile(codes, panel, queries, tile, biases, dots)
            for j in range(in_tile):
                i = members[tile + j]
                args = j, panel, factors[i], bases[i], limits[i]
                mask = survivors(dots, scales, sqnorms, *args)
                if mask == 0 or thresholds[i] < 0:
                    continue
                # Those that k others with smaller numbers are identical to.
                if panel < n_known:
                    mask &= ~twins[level, panel]
                count = counts[i]
                while mask != 0:
                    lane = lowest_bit(mask)
                    mask &= mask - np.uint64(1)
                    position = panel * PANEL + lane
                    if sqnorms[position] < np.inf:
                        lowers[i, count], uppers[i, count] = bounds(
                            np.float64(scales[position]),
                            np.float64(sqnorms[position]),
                            error_ratio,
                            query_scales[i],
                            query_sqnorms[i],
                            query_errors[i],
                            dots[j, lane],
                        )
                        rows[i, count] = position if is_identity else ids[position]
                        count += 1
                counts[i] = count
                is_due |= count > marks[i]
        if is_due:
            return at + 1
    return len(panels)
