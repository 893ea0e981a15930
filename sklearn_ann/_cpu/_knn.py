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

from sklearn_ann._cpu._candidates import capacity, growth
from sklearn_ann._cpu._distance import prefetch, sqdist
from sklearn_ann._cpu._jit import jit
from sklearn_ann._cpu._rounding import rounded_down, rounded_up
from sklearn_ann._cpu._schedule import limit_threads, split_queries
from sklearn_ann._cpu._sq8_block import (
    encode_queries,
    set_threshold,
    threshold_terms,
    tie_threshold,
)
from sklearn_ann._cpu._sq8_filter import filter_panels
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


@jit
def shrink_sq8(
    block,        # INOUT  SQ8Block
    members,      # IN     (n_members,)  int64  queries of the block to look at
    k,            # IN     int
    error_ratio,  # IN     float
):
    """Of more candidates than `full_at`, drop those above a lower threshold.

    Returns whether some query has no room for the candidates of another panel all the
    same.
    """
    # Taken out of the tuple once, see ``filter_panels``.
    sqnorms, errors, sqdist_steps = block.sqnorms, block.errors, block.sqdist_steps
    thresholds, bases, limits = block.thresholds, block.bases, block.limits
    counts, full_at = block.counts, block.full_at
    lowers, uppers, rows = block.lowers, block.uppers, block.rows
    most = lowers.shape[1] - PANEL
    is_stuck = False
    for i in members:
        count = counts[i]
        if count <= full_at[i]:
            continue
        if count >= k:
            threshold = min(above_kth_smallest(uppers[i], count, k), thresholds[i])
            thresholds[i] = threshold
            nearer = tie_threshold(threshold, sqdist_steps[i])
            bases[i], limits[i] = threshold_terms(
                nearer, sqnorms[i], errors[i], error_ratio
            )
            kept = 0
            for c in range(count):
                # Copied in any case: a branch here is predicted wrongly half the time.
                lower = lowers[i, c]
                lowers[i, kept] = lower
                uppers[i, kept] = uppers[i, c]
                rows[i, kept] = rows[i, c]
                kept += lower <= rounded_up(threshold)
            counts[i] = kept
        full_at[i] = counts[i] + growth(k)
        is_stuck |= full_at[i] > most
    return is_stuck


@jit
def _measure_sq8(
    block,    # INOUT  SQ8Block
    i,        # IN     int        query of the block
    k,        # IN     int
    Q,        # IN     (nq, d)    float
    query,    # IN     int        the same query, of all
    index,    # IN     FlatIndex
    exact,    # OUT    (capacity,)  float64  squared distances of the candidates
):
    """Measure the candidates of a query and keep the k nearest, in order."""
    X, lowers, uppers, rows = index.X, block.lowers[i], block.uppers[i], block.rows[i]
    kept, count, reach = 0, block.counts[i], np.inf
    for c in range(count):
        if lowers[c] > reach:
            continue
        if c + 1 < count:
            prefetch(X, rows[c + 1])
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
    block.counts[i] = kept
    block.full_at[i] = kept + growth(k)
    if kept == k:
        threshold = min(uppers[k - 1], block.thresholds[i])
        nearer = tie_threshold(threshold, block.sqdist_steps[i])
        set_threshold(block, i, nearer, index.error_ratio)
        block.thresholds[i] = threshold


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
    dots = np.empty((TILE, PANEL), np.int32)
    # No literal 0, for which Numba would compile the filter a second time.
    at, most = np.int64(0), len(exact) - PANEL
    while at < len(panels):
        at = filter_panels(panels, at, members, codes, biases, block, index, k, dots)
        if shrink_sq8(block, members, k, index.error_ratio):
            for i in members:
                if block.full_at[i] > most:
                    _measure_sq8(block, i, k, Q, start + i, index, exact)


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
    k = sqdists.shape[1]
    block.full_at[:] = -1
    shrink_sq8(block, members, k, index.error_ratio)
    for i in members:
        _measure_sq8(block, i, k, Q, start + i, index, exact)
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
    codes, biases = block.codes, block.biases
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
    n_threads = limit_threads(n_threads, nq, index.codes.size)
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
