"""The filter: which rows can be neighbours of a query, from their codes alone.

For a block of queries and one panel of 64 rows after the other:

1. ``dot_tile``: integer dot products of the codes, 4 queries x 64 rows at a time;
2. ``survivors``: which rows the bound cannot exclude, given the query's threshold;
3. the survivors join the candidates of the query, with a lower and an upper bound of
   their distance.

Lengths are in units (see ``_layout.py``); a prime marks a decoded vector.
"""

from __future__ import annotations

import numpy as np

from sklearn_ann._cpu._bits import lowest_bit
from sklearn_ann._cpu._jit import inlined_jit, jit
from sklearn_ann._cpu._rounding import float32_rounding, float64_rounding
from sklearn_ann._cpu._sq8_simd import TILE, dot_one, dot_tile, survivors
from sklearn_ann._layout import PANEL


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
    rounded = float32_rounding(4, abs(sqnorm) + 2 * error * error)
    # Of the lines above, and of a computed distance.
    lost = float64_rounding(query_sqnorm + abs(sqnorm) + error * error + abs(product))
    width = query_error + error
    lower = np.sqrt(max(low - lost, 0.0)) - width
    return lower, np.sqrt(max(low + rounded + lost, 0.0)) + width


@jit
def _level_of(k):
    """The first level of `duplicates` that marks no row among the k nearest."""
    level = 0
    while 2**level < k:
        level += 1
    return level


@inlined_jit
def _append(
    mask,          # IN   uint64              rows of the panel to look at
    panel,         # IN   int
    scales,        # IN   (n_panels * 64,)    float32
    sqnorms,       # IN   (n_panels * 64,)    float32
    error_ratio,   # IN   float
    ids,           # IN   (n_panels * 64,)    int64    or (0,)
    query_scale,   # IN   float
    query_sqnorm,  # IN   float
    query_error,   # IN   float
    dots,          # IN   (4, 64)             int32
    j,             # IN   int                 place of the query in its tile
    i,             # IN   int                 query of the block
    lowers,        # OUT  (padded, capacity)  float64
    uppers,        # OUT  (padded, capacity)  float64
    rows,          # OUT  (padded, capacity)  int64
    count,         # IN   int                 how many of these are there
):
    """Append rows of a panel to the candidates of a query; their new number."""
    is_identity = len(ids) == 0
    while mask != 0:
        lane = lowest_bit(mask)
        mask &= mask - np.uint64(1)
        position = panel * PANEL + lane
        if sqnorms[position] < np.inf:
            lowers[i, count], uppers[i, count] = bounds(
                np.float64(scales[position]),
                np.float64(sqnorms[position]),
                error_ratio,
                query_scale,
                query_sqnorm,
                query_error,
                dots[j, lane],
            )
            rows[i, count] = position if is_identity else ids[position]
            count += 1
    return count


@jit
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
    """Collect the candidates of some queries, panel by panel.

    Stops behind the panel after which some query has more than `full_at` candidates;
    returns where to go on. That leaves room for a whole panel.
    """
    # Taken out of their tuples once: each access inside the loops would cost an atomic
    # increment and decrement of a reference count.
    codes, scales, sqnorms = index.codes, index.scales, index.sqnorms
    error_ratio, ids, duplicates = index.error_ratio, index.ids, index.duplicates
    query_scales, query_sqnorms = block.scales, block.sqnorms
    query_errors, thresholds = block.errors, block.thresholds
    factors, bases, limits = block.factors, block.bases, block.limits
    counts, full_at = block.counts, block.full_at
    lowers, uppers, rows = block.lowers, block.uppers, block.rows
    n_members, level = len(members), _level_of(k)
    n_marked = duplicates.shape[1] if level < duplicates.shape[0] else 0
    for at in range(first, len(panels)):
        panel, is_due = panels[at], False
        for tile in range(0, n_members, TILE):
            in_tile = min(TILE, n_members - tile)
            if in_tile == 1:
                dot_one(codes, panel, queries, tile, biases, dots)
            else:
                dot_tile(codes, panel, queries, tile, biases, dots)
            for j in range(in_tile):
                i = members[tile + j]
                mask = survivors(
                    dots, scales, sqnorms, j, panel, factors[i], bases[i], limits[i]
                )
                if mask == 0 or thresholds[i] < 0:
                    continue
                # Those that k others with smaller numbers are identical to.
                if panel < n_marked:
                    mask &= ~duplicates[level, panel]
                counts[i] = _append(
                    mask, panel, scales, sqnorms, error_ratio, ids,
                    query_scales[i], query_sqnorms[i], query_errors[i],
                    dots, j, i, lowers, uppers, rows, counts[i],
                )
                is_due |= counts[i] > full_at[i]
        if is_due:
            return at + 1
    return len(panels)
