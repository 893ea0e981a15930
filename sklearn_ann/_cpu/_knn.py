"""Exact nearest neighbours: filter with the codes, measure what is left.

Few candidates are kept: where k of them have an upper bound no larger than some
distance, this distance is the new threshold, and candidates whose lower bound lies
above it go. At the end the search measures the remaining ones exactly.

A row is dropped only when it is strictly further than k others, or as far, for certain,
as k others with smaller numbers; all other ties are there to be resolved by row number.
Data that defeats the bounds costs time, never a neighbour: candidates that do not get
fewer are measured, and only the k nearest stay.
"""

from __future__ import annotations

import numpy as np

from sklearn_ann._cpu._borrow import borrowed
from sklearn_ann._cpu._candidates import capacity, growth
from sklearn_ann._cpu._distance import prefetch, sqdist
from sklearn_ann._cpu._jit import inlined_jit, jit
from sklearn_ann._cpu._rounding import rounded_down, rounded_up
from sklearn_ann._cpu._schedule import limit_threads, split_queries
from sklearn_ann._cpu._sq8_block import encode_queries, set_threshold, tie_threshold
from sklearn_ann._cpu._sq8_filter import (
    bound_noted,
    dot_panels,
    filter_panels,
    find_in_chunk,
    first_row,
    level_of,
    limit_of_best,
    n_rows_of,
)
from sklearn_ann._cpu._sq8_simd import TILE
from sklearn_ann._cpu._threads import run_blocks
from sklearn_ann._cpu._topk import (
    above_kth_smallest,
    is_after,
    make_heap,
    replace_root,
    sort_pairs,
)
from sklearn_ann._layout import PANEL, read_only

# Codes of the queries of a block stay in the L2 cache while the panels stream by.
_BLOCK_BYTES = 2**18

# Queries whose dot products with a chunk of panels are kept at a time; how many bytes
# these and the codes of the panels may have, to stay in the L2 cache; panels at most.
_GROUP = 16 * TILE
_CHUNK_BYTES = 2**20
_MOST_PANELS = 64

# Rows with the lowest bounds that give a query its first threshold, for each neighbour.
_SEEDS = 2

# Candidates ahead of their turn that are fetched into the cache.
_AHEAD = 3


@inlined_jit
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


@jit
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
    for c in range(min(_AHEAD, count)):
        prefetch(X, rows[c])
    for c in range(count):
        if lowers[c] > reach:
            continue
        if c + _AHEAD < count:
            prefetch(X, rows[c + _AHEAD])
        measured, row = sqdist(X, rows[c], Q, query), rows[c]
        # The k best so far are a heap. Of equally near rows most come in the order of
        # their numbers, so that one comparison is all that a late one costs.
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


@inlined_jit
def _sort_out(
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


@inlined_jit
def _start(
    chunk,  # IN     Chunk
    row,    # IN     int      of the query's first dot products
    i,      # IN     int      query of the block
    k,      # IN     int
    Q,      # IN     (nq, d)  float
    query,  # IN     int      the same query, of all
    index,  # IN     FlatIndex
    block,  # INOUT  SQ8Block
    exact,  # SCRATCH (capacity,)  float64
):
    """The candidates of a query in a chunk, those with the lowest bounds first."""
    level, none, best = level_of(k), np.float32(-np.inf), np.float32(-np.inf)
    if block.thresholds[i] == np.inf:
        factor, least = block.panels.factors[i], _SEEDS * k
        best = limit_of_best(chunk, row, index.scales, index.sqnorms, factor, least)
    is_first = best > none
    # Then rows are not looked at in the order of their numbers.
    step = 0.0 if is_first else block.sqdist_steps[i]
    while True:
        p = 0
        while p < len(chunk.panels):
            base, limit, seen = block.panels.bases[i], block.panels.limits[i], best
            if is_first:
                base, limit, seen = np.float32(0.0), best, none
            p = find_in_chunk(
                chunk, row, p, i, base, limit, seen, level, block, index
            )
            if is_first and p == len(chunk.panels):
                # The others meet the threshold that these give.
                block.full_at[i] = -1
            if block.ends[i] > block.full_at[i]:
                _sort_out(i, k, Q, query, index, block, step, exact)
        if not is_first:
            break
        is_first = False


@jit
def _first_chunk(
    panels,   # IN     (n_panels,)         int64  numbers of the panels to search
    members,  # IN     (n_members,)        int64  queries of the block
    codes,    # IN     (padded, steps, 4)  int8   of the members
    biases,   # IN     (padded,)           int32
    start,    # IN     int                        first query of the block
    k,        # IN     int
    Q,        # IN     (nq, d)             float
    index,    # IN     FlatIndex
    block,    # INOUT  SQ8Block
    exact,    # SCRATCH (capacity,)        float64
):
    """Search the first panels, for thresholds that are good; how many they are."""
    index, block, Q, exact = borrowed((index, block, Q, exact))
    n_members = len(members)
    n_rows, n_panels = n_rows_of(min(n_members, _GROUP)), _MOST_PANELS
    if n_rows > 1:
        bytes_of_panel = index.codes.shape[1] * 4 * PANEL + n_rows * 4 * PANEL
        n_panels = max(1, min(n_panels, _CHUNK_BYTES // bytes_of_panel))
    panels = panels[:n_panels]
    dots = np.empty((n_rows * len(panels), PANEL), np.int32)
    for first in range(0, n_members, _GROUP):
        stop = min(first + _GROUP, n_members)
        owned = dot_panels(panels, first, stop, codes, biases, index.codes, dots)
        chunk = borrowed(owned)
        for m in range(first, stop):
            i, row = members[m], first_row(chunk, m - first)
            if block.thresholds[i] >= 0:
                _start(chunk, row, i, k, Q, start + i, index, block, exact)
    # Named here, the last chunk outlives the loop above.
    return len(owned.panels)


@jit
def collect(
    panels,   # IN     (n_panels,)         int64  numbers of the panels to search
    members,  # IN     (n_members,)        int64  queries of the block
    codes,    # IN     (padded, steps, 4)  int8   of the members
    biases,   # IN     (padded,)           int32
    start,    # IN     int                        first query of the block
    k,        # IN     int
    Q,        # IN     (nq, d)             float
    index,    # IN     FlatIndex
    block,    # INOUT  SQ8Block
    exact,    # SCRATCH (capacity,)        float64
):
    """Bring the candidates of some queries up to date with some panels."""
    index, block, Q, exact = borrowed((index, block, Q, exact))
    is_new = False
    for i in members:
        is_new |= block.thresholds[i] == np.inf
    # No literal 0, for which Numba would compile the filter a second time.
    at, dots = np.int64(0), np.empty((TILE, PANEL), np.int32)
    if is_new and len(panels):
        at += _first_chunk(
            panels, members, codes, biases, start, k, Q, index, block, exact
        )
    while at < len(panels):
        at = filter_panels(panels, at, members, codes, biases, block, index, k, dots)
        for i in members:
            if block.ends[i] > block.full_at[i]:
                step = block.sqdist_steps[i]
                _sort_out(i, k, Q, start + i, index, block, step, exact)


@jit
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
    index, block, Q, exact = borrowed((index, block, Q, exact))
    k = sqdists.shape[1]
    for i in members:
        bound_noted(i, block, index)
        _shrink_sq8(block, i, k, index, 0.0)
        _measure_sq8(block, i, k, Q, start + i, index, 0.0, exact)
        found = block.counts[i]
        for c in range(k):
            sqdists[start + i, c] = exact[c] if c < found else np.inf
            ids[start + i, c] = block.rows[i, c] if c < found else -1


@jit
def knn_block(
    start,    # IN   int          first query
    stop,     # IN   int          one past the last
    panels,   # IN   (n_panels,)  int64  numbers of the panels to search
    Q,        # IN   (nq, d)      float
    index,    # IN   FlatIndex
    sqdists,  # OUT  (nq, k)      float64  ascending
    ids,      # OUT  (nq, k)      int64    -1 where there is none
):
    """The k nearest rows, in these panels, of each query of a block."""
    k = sqdists.shape[1]
    exact = np.empty(capacity(k))
    block = encode_queries(start, stop, Q, index, len(exact))
    members = np.arange(stop - start)
    codes, biases = block.panels.codes, block.panels.biases
    collect(panels, members, codes, biases, start, k, Q, index, block, exact)
    finish(start, members, Q, index, block, exact, sqdists, ids)


def knn(Q, index, k, n_threads):
    """The k nearest rows of each query, exactly.

    Parameters
    ----------
    Q : ndarray of shape (nq, d), float32 or float64
        C-contiguous.
    index : FlatIndex
    k : int
        At most n.
    n_threads : int

    Returns
    -------
    sqdists : ndarray of shape (nq, k), float64
        Squared distances, ascending.
    ids : ndarray of shape (nq, k), int64
        Row numbers, ascending among equal distances; -1 throughout for a query that
        is not finite.
    """
    Q = read_only(Q)
    nq = len(Q)
    panels = np.arange(len(index.codes))
    sqdists, ids = np.empty((nq, k)), np.empty((nq, k), np.int64)
    # Codes of all features are read for some rows, and wait for memory.
    n_products = index.codes.size + index.full.codes.size // 2
    n_threads = limit_threads(n_threads, nq, n_products)
    if n_threads > 1 and nq < 2 * TILE * n_threads:
        return _knn_over_rows(Q, panels, index, k, n_threads)
    run_blocks(
        lambda start, stop: knn_block(start, stop, panels, Q, index, sqdists, ids),
        split_queries(nq, Q.shape[1], k, n_threads, _BLOCK_BYTES),
        n_threads,
    )
    return sqdists, ids


def _knn_over_rows(Q, panels, index, k, n_threads):
    """Few queries: each thread searches a share of the rows; the best are merged."""
    nq = len(Q)
    sqdists = np.empty((n_threads, nq, k))
    ids = np.empty((n_threads, nq, k), np.int64)
    run_blocks(
        lambda part, panels: knn_block(
            0, nq, panels, Q, index, sqdists[part], ids[part]
        ),
        enumerate(np.array_split(panels, n_threads)),
        n_threads,
    )
    sqdists, ids = np.hstack(sqdists), np.hstack(ids)
    # Seen as unsigned, the -1 of an empty place comes last among equal distances.
    order = np.lexsort((ids.view(np.uint64), sqdists))[:, :k]
    return np.take_along_axis(sqdists, order, 1), np.take_along_axis(ids, order, 1)
