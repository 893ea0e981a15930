"""Queries that are filtered by 8-bit codes: their own codes, thresholds, candidates.

Lengths are in units (see ``_layout.py``); a prime marks a decoded vector.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sklearn_ann._cpu._arrays import empty, filled, zeros
from sklearn_ann._cpu._borrow import borrowed, keep
from sklearn_ann._cpu._jit import jit_maker, jit_part
from sklearn_ann._cpu._rounding import (
    limit_of,
    narrowed,
    nudged_up,
    rounded_up,
    widened,
)
from sklearn_ann._cpu._sq8_codes import encode_vector, is_finite, is_whole
from sklearn_ann._cpu._sq8_project import empty_vectors, largest_of_image, project
from sklearn_ann._cpu._sq8_quantize import subtract_center
from sklearn_ann._cpu._sq8_simd import QUERY_LEVELS, TILE
from sklearn_ann._layout import OFFSET


class SQ8Queries(NamedTuple):
    """Encoded queries, and what ``survivors`` needs of them."""

    codes: np.ndarray  # (padded, steps, 4)     int8
    biases: np.ndarray  # (padded,)             int32    undo the offset of rows
    scales: np.ndarray  # (padded,)             float64  in units
    sqnorms: np.ndarray  # (padded,)            float64  of the decoded query
    errors: np.ndarray  # (padded,)             float64
    factors: np.ndarray  # (padded,)            float32  arguments of ``survivors``
    bases: np.ndarray  # (padded,)              float32
    limits: np.ndarray  # (padded,)             float32


class SQ8Block(NamedTuple):
    """Encoded queries, their thresholds, and their candidates."""

    panels: SQ8Queries  # for the codes in panels
    full: SQ8Queries  # for codes of all features: the same without a projection
    sqdist_steps: np.ndarray  # (padded,)       float64  see ``tie_threshold``
    thresholds: np.ndarray  # (padded,)         float64  -1: nothing is a neighbour
    counts: np.ndarray  # (padded,)             int64    candidates
    ends: np.ndarray  # (padded,)               int64    with the rows noted behind them
    full_at: np.ndarray  # (padded,)            int64    of more candidates some must go
    lowers: np.ndarray  # (padded, capacity)    float64  bounds of their distances
    uppers: np.ndarray  # (padded, capacity)    float64
    rows: np.ndarray  # (padded, capacity)      int64


@jit_maker
def _empty_queries(padded, steps):
    return SQ8Queries(
        codes=zeros((padded, steps, 4), np.int8),
        biases=zeros(padded, np.int32),
        scales=zeros(padded, np.float64),
        sqnorms=zeros(padded, np.float64),
        errors=zeros(padded, np.float64),
        factors=zeros(padded, np.float32),
        bases=zeros(padded, np.float32),
        limits=filled(padded, np.float32(-np.inf)),
    )


@jit_maker
def _empty_block(n, index, capacity):
    """A block for n queries, padded to whole tiles, without neighbours so far."""
    padded = n if n == 1 else (n + TILE - 1) // TILE * TILE
    panels = full = _empty_queries(padded, index.codes.shape[1])
    if index.projection.axes.shape[1] > 0:
        full = _empty_queries(padded, index.full.codes.shape[1] // 4)
    return SQ8Block(
        panels=panels,
        full=full,
        sqdist_steps=zeros(padded, np.float64),
        thresholds=filled(padded, -1.0),
        counts=zeros(padded, np.int64),
        ends=zeros(padded, np.int64),
        full_at=zeros(padded, np.int64),
        lowers=empty((padded, capacity), np.float64),
        uppers=empty((padded, capacity), np.float64),
        rows=empty((padded, capacity), np.int64),
    )


@jit_part
def _encode_query(
    vector,     # IN   (d,)  float64  in units
    magnitude,  # IN   float          the largest of its features
    lost,       # IN   float          the error that the vector comes with
    unit,       # IN   float
    queries,    # OUT  SQ8Queries
    i,          # IN   int            where it goes
):
    """Encode one query; its error."""
    d = len(vector)
    # The largest code for which no dot product overflows 32 bits. One less, because
    # integer vectors also have the code -128.
    levels = min(QUERY_LEVELS, (2**31 - 1) // (OFFSET * d) - 1)
    scale, sum_codes, sum_squares, error = encode_vector(
        vector, magnitude, queries.codes[i].reshape(-1)[:d], levels, unit
    )
    queries.biases[i] = np.int32(-OFFSET * sum_codes)
    queries.scales[i] = scale
    queries.sqnorms[i] = np.float64(scale) * np.float64(scale) * sum_squares
    queries.errors[i] = error + lost
    queries.factors[i] = np.float32(2.0 * scale)
    queries.limits[i] = np.float32(np.inf)
    return error


@jit_part
def encode_nth(
    nth,      # IN   int         which of some vectors that are centered and projected
    vectors,  # IN   Vectors
    unit,     # IN   float
    panels,   # OUT  SQ8Queries
    full,     # OUT  SQ8Queries  the same without a projection
    i,        # IN   int         where it goes
):
    """Encode a query for codes in panels and for those of all features; its error."""
    centered, magnitudes = vectors.centered, vectors.magnitudes
    error = _encode_query(centered[nth], magnitudes[nth], 0.0, unit, full, i)
    if vectors.images.shape[1] > 0:
        image, lost = vectors.images[nth], vectors.errors[nth]
        _encode_query(image, largest_of_image(vectors, nth), lost, 0.0, panels, i)
    return error


@jit_maker
def encode_queries(
    start,     # IN  int      first query
    stop,      # IN  int      one past the last
    Q,         # IN  (nq, d)  float
    index,     # IN  FlatIndex
    capacity,  # IN  int      candidates that each query has room for
):
    """A new block of some queries; those not finite get no neighbours."""
    n, d = stop - start, Q.shape[1]
    owned = _empty_block(n, index, capacity)
    block = borrowed(owned)
    sqdist_steps, thresholds = block.sqdist_steps, block.thresholds
    panels, full = block.panels, block.full
    center, unit, projection = index.center, index.unit, index.projection
    width = projection.axes.shape[1]
    owned_vectors = empty_vectors(d, width)
    vectors = borrowed(owned_vectors)
    centered, magnitudes = vectors.centered, vectors.magnitudes
    # All rows are integers: see `TINY_RATIO`. So are their squared distances from a
    # query of integers.
    ratio = index.full.error_ratio if width > 0 else index.error_ratio
    is_integer = ratio == 0
    for t in range(d):
        is_integer &= center[t] == np.rint(center[t])
    is_in_order = len(index.ids) == 0
    per_unit = 1.0 / unit
    for i in range(n):
        nth = i % TILE
        if nth == 0:
            in_tile = min(TILE, n - i)
            for j in range(in_tile):
                magnitudes[j] = subtract_center(
                    Q, start + i + j, center, per_unit, centered[j]
                )
            if width > 0:
                project(in_tile, vectors, projection)
        magnitude = magnitudes[nth]
        # Far from the center also finite features overflow.
        if not magnitude < np.inf and not is_finite(Q, start + i):
            continue
        error = encode_nth(nth, vectors, unit, panels, full, i)
        if is_integer and is_in_order and error == 0 and is_whole(Q, start + i):
            sqdist_steps[i] = per_unit * per_unit
        thresholds[i] = np.inf
    keep(owned_vectors)
    return owned


@jit_part
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


@jit_part
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


@jit_part
def set_threshold(
    block,      # INOUT  SQ8Block
    i,          # IN     int    query of the block
    threshold,  # IN     float  in units
    index,      # IN     FlatIndex
):
    """Drop rows further than `threshold` from a query from now on."""
    panels, full = block.panels, block.full
    block.thresholds[i] = threshold
    panels.bases[i], panels.limits[i] = threshold_terms(
        threshold, panels.sqnorms[i], panels.errors[i], index.error_ratio
    )
    if index.projection.axes.shape[1] > 0:
        full.bases[i], full.limits[i] = threshold_terms(
            threshold, full.sqnorms[i], full.errors[i], index.full.error_ratio
        )
