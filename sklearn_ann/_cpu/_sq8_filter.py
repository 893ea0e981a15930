"""The filter: which rows can be neighbours of a query, from their codes alone.

For a block of queries and one panel of 64 rows after the other, ``filter_panels``:

1. ``dot_tile``: integer dot products of the codes, 4 queries x 64 rows at a time;
2. ``survivors``: which rows the bound cannot exclude, given the query's threshold;
3. these are noted behind the candidates of the query.

From time to time ``bound_noted`` makes candidates of them, with a lower and an upper
bound of their distance. If codes in panels are of projections, the codes of all
features exclude most of them first.

A query without a threshold looks at a chunk of panels first, and there at the rows with
the lowest bounds (``limit_of_best``): all others meet a threshold that is good.

Lengths are in units (see ``_layout.py``); a prime marks a decoded vector.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sklearn_ann._cpu._arrays import empty
from sklearn_ann._cpu._bits import count_bits, lowest_bit
from sklearn_ann._cpu._distance import AHEAD, prefetch
from sklearn_ann._cpu._jit import inlined_jit, jit_in_caller, jit_maker, jit_part
from sklearn_ann._cpu._rounding import float32_rounding, float64_rounding
from sklearn_ann._cpu._sq8_simd import (
    TILE,
    dot_one,
    dot_row,
    dot_tile,
    lowest_bound,
    survivors,
)
from sklearn_ann._cpu._topk import above_kth_smallest
from sklearn_ann._layout import PANEL

# Attempts to find the limit of `limit_of_best`, which need not be found.
_ATTEMPTS = 16

# So many times the rows that are wanted are a sign of ties.
_TIES = 8


class Chunk(NamedTuple):
    """Some panels, and their dot products with some queries.

    The dot products of query m with panel number p of the chunk are row
    ``first_row(chunk, m) + stride * p``.
    """

    panels: np.ndarray  # (n_panels,)  int64  their numbers
    dots: np.ndarray  # (n, 64)  int32  tile by tile, and panel by panel in each
    stride: int  # queries of a tile


@jit_part
def n_rows_of(n_queries):
    """Rows of dot products that each panel of a chunk takes."""
    return 1 if n_queries == 1 else (n_queries + TILE - 1) // TILE * TILE


@inlined_jit
def first_row(chunk, m):
    return m // TILE * TILE * len(chunk.panels) + m % TILE


@jit_in_caller
def dot_panels(
    panels,   # IN   (n_panels,)         int64  numbers of panels
    first,    # IN   int                        the first of some queries
    stop,     # IN   int                        one past the last
    queries,  # IN   (padded, steps, 4)  int8   their codes, padded to whole tiles
    biases,   # IN   (padded,)           int32
    codes,    # IN   (n_panels, steps, 64, 4)  uint8
    dots,     # OUT  (n, 64)             int32
):
    """All dot products of some queries with some panels: a chunk."""
    stride = min(TILE, n_rows_of(stop - first))
    for p in range(len(panels)):
        row = stride * p
        for tile in range(first, stop, TILE):
            if stride == 1:
                dot_one(codes, panels[p], queries, tile, biases, dots, row)
            else:
                dot_tile(codes, panels[p], queries, tile, biases, dots, row)
            row += TILE * len(panels)
    return Chunk(panels, dots, stride)


@jit_part
def bounds(scale, sqnorm, error_ratio, query_scale, query_sqnorm, query_error, dot):
    """Lower and upper bound of the distance of a row and a query, in units."""
    if sqnorm == -np.inf:
        return 0.0, np.inf
    error = error_ratio * scale
    # sqnorm is |x'|^2 - error^2, rounded down by about ROUNDING (_scalar_quantizer.py):
    # low <= |q' - x'|^2 <= low + rounded.
    product = 2.0 * query_scale * scale * dot
    low = query_sqnorm + sqnorm + error * error - product
    rounded = float32_rounding(4, abs(sqnorm) + 2 * error * error)
    # Of the lines above, and of a computed distance.
    lost = float64_rounding(query_sqnorm + abs(sqnorm) + error * error + abs(product))
    width = query_error + error
    lower = np.sqrt(max(low - lost, 0.0)) - width
    return lower, np.sqrt(max(low + rounded + lost, 0.0)) + width


@jit_part
def level_of(k):
    """The first level of `duplicates` that marks no row among the k nearest."""
    level = 0
    while 2**level < k:
        level += 1
    return level


@inlined_jit
def _count_below(chunk, row, scales, sqnorms, factor, limit):
    """How many rows of a chunk have bounds up to a limit."""
    n_below, base = 0, np.float32(0.0)
    for p in range(len(chunk.panels)):
        n_below += count_bits(
            survivors(
                chunk.dots, scales, sqnorms, row + chunk.stride * p, chunk.panels[p],
                factor, base, limit,
            )
        )
    return n_below


@jit_maker
def limit_of_best(
    chunk,    # IN   Chunk
    row,      # IN   int                      of the query's first dot products
    scales,   # IN   (n_panels * 64,)  float32
    sqnorms,  # IN   (n_panels * 64,)  float32
    factor,   # IN   float32                  argument of ``survivors``
    least,    # IN   int                      how many rows are wanted
):
    """A limit that about so many rows, at most twice as many, do not exceed.

    What is compared with it is the left side of ``survivors`` with a base of 0. It is
    -inf where so few rows cannot be told from the others: ties are best looked at in
    the order of their numbers.
    """
    n, none = len(chunk.panels), np.float32(-np.inf)
    if least >= n * PANEL:
        return none
    lowest, low, high = empty(n, np.float64), np.float32(np.inf), np.float32(-np.inf)
    for p in range(n):
        bound = lowest_bound(
            chunk.dots, scales, sqnorms, row + chunk.stride * p, chunk.panels[p], factor
        )
        lowest[p], low, high = bound, min(low, bound), max(high, bound)
    if not -np.inf < low <= high < np.inf:
        return none
    if 2 * least <= n:
        # Few panels hold two of the best rows.
        for p in range(n):
            lowest[p] -= low
        limit = np.float32(low + above_kth_smallest(lowest, n, least))
        n_below = _count_below(chunk, row, scales, sqnorms, factor, limit)
        return limit if n_below <= _TIES * least else none
    lower, upper, limit = low, np.float32(np.inf), high
    step = max(high - low, np.float32(1e-3) * abs(high))
    for _ in range(_ATTEMPTS):
        n_below = _count_below(chunk, row, scales, sqnorms, factor, limit)
        if n_below < least:
            lower = limit
        elif n_below <= 2 * least:
            return limit
        else:
            upper = limit
        if upper < np.inf:
            limit = np.float32(0.5) * (lower + upper)
        else:
            limit, step = limit + step, step + step
    return none


@inlined_jit
def _note(
    mask,   # IN     uint64         rows of the panel to look at
    panel,  # IN     int
    dots,   # IN     (n, 64)  int32
    row,    # IN     int            of the dot products
    i,      # IN     int            query of the block
    block,  # INOUT  SQ8Block
    level,  # IN     int            of `duplicates`
    index,  # IN     FlatIndex
):
    """Note rows of a panel that are left behind the candidates of a query."""
    duplicates, end = index.duplicates, block.ends[i]
    # Those that k others with smaller numbers are identical to.
    if level < duplicates.shape[0] and panel < duplicates.shape[1]:
        mask &= ~duplicates[level, panel]
    while mask != 0:
        lane = lowest_bit(mask)
        mask &= mask - np.uint64(1)
        block.rows[i, end] = panel * PANEL + lane
        # 53 bits hold all of them.
        block.lowers[i, end] = dots[row, lane]
        end += 1
    block.ends[i] = end


@jit_in_caller
def find_in_chunk(
    chunk,  # IN     Chunk
    row,    # IN     int      of the query's first dot products
    p,      # IN     int      where to begin among the panels
    i,      # IN     int      query of the block
    base,   # IN     float32  arguments of ``survivors``
    limit,  # IN     float32
    seen,   # IN     float32  rows below this limit are not looked at again
    level,  # IN     int      of `duplicates`
    block,  # INOUT  SQ8Block
    index,  # IN     FlatIndex
):
    """Note the rows of a chunk that a query cannot exclude.

    Stops behind the panel after which there are more than `full_at`, which leaves room
    for a whole panel; returns where to go on.
    """
    dots, scales, sqnorms = chunk.dots, index.scales, index.sqnorms
    factor, none = block.panels.factors[i], np.float32(0.0)
    while p < len(chunk.panels) and block.ends[i] <= block.full_at[i]:
        panel, at = chunk.panels[p], row + chunk.stride * p
        p += 1
        mask = survivors(dots, scales, sqnorms, at, panel, factor, base, limit)
        if mask != 0 and seen > -np.inf:
            mask &= ~survivors(dots, scales, sqnorms, at, panel, factor, none, seen)
        if mask != 0:
            _note(mask, panel, dots, at, i, block, level, index)
    return p


@jit_part
def filter_panels(
    panels,   # IN     (n_panels,)     int64  numbers of the panels to look at
    first,    # IN     int             where to begin among them
    members,  # IN     (n_members,)    int64  queries of the block
    queries,  # IN     (padded, steps, 4)  int8  their codes, padded to whole tiles
    biases,   # IN     (padded,)       int32
    block,    # INOUT  SQ8Block
    index,    # IN     FlatIndex
    k,        # IN     int             how many neighbours a query wants at most
    dots,     # SCRATCH (4, 64)        int32
):
    """Note the rows of panels that queries cannot exclude, panel by panel.

    Stops behind the panel after which some query has more than `full_at`, which leaves
    room for a whole panel; returns where to go on.
    """
    scales, sqnorms, n_members = index.scales, index.sqnorms, len(members)
    factors, bases = block.panels.factors, block.panels.bases
    limits, level = block.panels.limits, level_of(k)
    for at in range(first, len(panels)):
        panel, is_due = panels[at], False
        for tile in range(0, n_members, TILE):
            in_tile = min(TILE, n_members - tile)
            if in_tile == 1:
                dot_one(index.codes, panel, queries, tile, biases, dots, 0)
            else:
                dot_tile(index.codes, panel, queries, tile, biases, dots, 0)
            for j in range(in_tile):
                i = members[tile + j]
                mask = survivors(
                    dots, scales, sqnorms, j, panel, factors[i], bases[i], limits[i]
                )
                if mask == 0 or block.thresholds[i] < 0:
                    continue
                _note(mask, panel, dots, j, i, block, level, index)
                is_due |= block.ends[i] > block.full_at[i]
        if is_due:
            return at + 1
    return len(panels)


@jit_part
def bound_noted(
    i,      # IN     int  query of the block
    block,  # INOUT  SQ8Block
    index,  # IN     FlatIndex
):
    """Make candidates of the rows that are noted, with bounds of their distances.

    If codes in panels are of projections, those of all features exclude most.
    """
    full, queries = index.full, block.full
    is_projected, is_identity = len(full.codes) > 0, len(index.ids) == 0
    scales, sqnorms, error_ratio = index.scales, index.sqnorms, index.error_ratio
    if is_projected:
        scales, sqnorms, error_ratio = full.scales, full.sqnorms, full.error_ratio
    lowers, uppers, rows = block.lowers[i], block.uppers[i], block.rows[i]
    count, end = block.counts[i], block.ends[i]
    if is_projected:
        for c in range(count, min(count + AHEAD, end)):
            prefetch(full.codes, rows[c])
    for c in range(count, end):
        position, dot = rows[c], np.int64(lowers[c])
        if sqnorms[position] == np.inf:
            continue
        if is_projected:
            if c + AHEAD < end:
                prefetch(full.codes, rows[c + AHEAD])
            dot = dot_row(full.codes, position, queries.codes, i, queries.biases[i])
            slope = queries.bases[i] + queries.factors[i] * np.float32(dot)
            # As in ``survivors``.
            if sqnorms[position] - scales[position] * slope > queries.limits[i]:
                continue
        lowers[count], uppers[count] = bounds(
            np.float64(scales[position]),
            np.float64(sqnorms[position]),
            error_ratio,
            queries.scales[i],
            queries.sqnorms[i],
            queries.errors[i],
            dot,
        )
        rows[count] = position if is_identity else index.ids[position]
        count += 1
    block.counts[i] = block.ends[i] = count
