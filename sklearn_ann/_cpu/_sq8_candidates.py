"""The candidates of a query in 8-bit codes: fewer of them, measured in the end.

Where k of them have an upper bound no larger than some distance, this distance is the
new threshold, and candidates whose lower bound lies above it go.
"""

from __future__ import annotations

import numpy as np

from sklearn_ann._cpu._candidates import growth
from sklearn_ann._cpu._distance import prefetch, sqdist
from sklearn_ann._cpu._jit import inlined_jit, jit_part
from sklearn_ann._cpu._rounding import rounded_down, rounded_up
from sklearn_ann._cpu._sq8_block import set_threshold, tie_threshold
from sklearn_ann._cpu._sq8_filter import bound_noted
from sklearn_ann._cpu._topk import (
    above_kth_smallest,
    is_after,
    make_heap,
    replace_root,
    sort_pairs,
)
from sklearn_ann._layout import PANEL

# Candidates ahead of their turn that are fetched into the cache.
_AHEAD = 3


@jit_part
def _shrink_sq8(
    block,        # INOUT  SQ8Block
    i,            # IN     int    query of the block
    k,            # IN     int
    index,        # IN     FlatIndex
    sqdist_step,  # IN     float  0: rows to come need not have larger numbers
):
    """Lower the threshold of a query, and drop the candidates above it."""
    uppers, lowers, rows = block.uppers[i], block.lowers[i], block.rows[i]
    count = block.counts[i]
    if count >= k:
        threshold = min(above_kth_smallest(uppers, count, k), block.thresholds[i])
        set_threshold(block, i, tie_threshold(threshold, sqdist_step), index)
        block.thresholds[i] = threshold
        kept = 0
        for c in range(count):
            # Copied in any case: a branch here is predicted wrongly half the time.
            lower = lowers[c]
            lowers[kept], uppers[kept], rows[kept] = lower, uppers[c], rows[c]
            kept += lower <= rounded_up(threshold)
        block.counts[i] = block.ends[i] = kept
    block.full_at[i] = block.counts[i] + growth(k)


@inlined_jit
def _nearest_first(
    block,  # INOUT  SQ8Block
    i,      # IN     int       query of the block
):
    """Bring the candidates that make the threshold to the front.

    When these are measured, many of the others need not be.
    """
    lowers, uppers, rows = block.lowers[i], block.uppers[i], block.rows[i]
    first = 0
    for c in range(block.counts[i]):
        if uppers[c] <= block.thresholds[i]:
            lowers[c], lowers[first] = lowers[first], lowers[c]
            uppers[c], uppers[first] = uppers[first], uppers[c]
            rows[c], rows[first] = rows[first], rows[c]
            first += 1


@jit_part
def _measure_sq8(
    block,    # INOUT  SQ8Block
    i,        # IN     int        query of the block
    k,        # IN     int
    Q,        # IN     (nq, d)    float
    query,    # IN     int        the same query, of all
    index,    # IN     FlatIndex
    sqdist_step,  # IN  float     0: rows to come need not have larger numbers
    exact,    # OUT    (capacity,)  float64  squared distances of the candidates
):
    """Measure the candidates of a query and keep the k nearest, in order."""
    X, lowers, uppers, rows = index.X, block.lowers[i], block.uppers[i], block.rows[i]
    kept, count, reach = 0, block.counts[i], np.inf
    _nearest_first(block, i)
    for c in range(min(_AHEAD, count)):
        prefetch(X, rows[c])
    for c in range(count):
        if lowers[c] > reach:
            continue
        if c + _AHEAD < count:
            prefetch(X, rows[c + _AHEAD])
        measured, row = sqdist(X, rows[c], Q, query), rows[c]
        # The k best so far are a heap. Of equally near rows most come in the order of
        # their numbers, so that one comparison is all that most late ones cost.
        if kept < k:
            exact[kept], rows[kept] = measured, row
            kept += 1
            if kept < k:
                continue
            make_heap(exact, rows, k)
        elif is_after(exact[0], rows[0], measured, row):
            replace_root(exact, rows, k, measured, row)
        else:
            continue
        reach = rounded_up(np.sqrt(exact[0]) / index.unit)
    sort_pairs(exact, rows, kept)
    for c in range(kept):
        distance = np.sqrt(exact[c]) / index.unit
        # A square that overflows says nothing, where the bound before may have been
        # finite: a row that stays must not exceed the threshold of that.
        lowers[c] = rounded_down(distance) if distance < np.inf else 0.0
        uppers[c] = rounded_up(distance)
    block.counts[i] = block.ends[i] = kept
    block.full_at[i] = kept + growth(k)
    if kept == k:
        threshold = min(uppers[k - 1], block.thresholds[i])
        nearer = tie_threshold(threshold, sqdist_step)
        set_threshold(block, i, nearer, index)
        block.thresholds[i] = threshold


@jit_part
def sort_out(
    i,      # IN     int      query of the block
    k,      # IN     int
    Q,      # IN     (nq, d)  float
    query,  # IN     int      the same query, of all
    index,  # IN     FlatIndex
    block,  # INOUT  SQ8Block
    sqdist_step,  # IN  float  0: rows to come need not have larger numbers
    exact,  # SCRATCH (capacity,)  float64
):
    """Fewer candidates, at a lower threshold, of a query that has noted many rows."""
    bound_noted(i, block, index)
    if block.counts[i] > block.full_at[i]:
        _shrink_sq8(block, i, k, index, sqdist_step)
        # No room for another panel all the same.
        if block.full_at[i] > len(exact) - PANEL:
            _measure_sq8(block, i, k, Q, query, index, sqdist_step, exact)


@jit_part
def finish(
    start,    # IN     int      first query of the block
    members,  # IN     (n,)     int64  all of its queries
    Q,        # IN     (nq, d)  float
    index,    # IN     FlatIndex
    block,    # INOUT  SQ8Block
    exact,    # SCRATCH (capacity,)  float64
    sqdists,  # OUT    (nq, k)  float64  ascending
    ids,      # OUT    (nq, k)  int64    -1 where there is none
):
    """Measure what is left and write down the k nearest."""
    k = sqdists.shape[1]
    for i in members:
        bound_noted(i, block, index)
        _shrink_sq8(block, i, k, index, 0.0)
        _measure_sq8(block, i, k, Q, start + i, index, 0.0, exact)
        found = block.counts[i]
        for c in range(k):
            sqdists[start + i, c] = exact[c] if c < found else np.inf
            ids[start + i, c] = block.rows[i, c] if c < found else -1
