"""Exact nearest neighbours: filter with the codes, measure what is left.

The list of candidates is kept short: where k of them have an upper bound no larger than
some distance, that is the new threshold, and those whose lower bound lies above it go.
At the end those that remain are measured exactly.

A row is dropped only when it is strictly further than k others, or as far, for certain,
as k others with smaller numbers; all other ties are there to be resolved by row number.
Data that defeats the bounds costs time, never a neighbour: a list that does not get
shorter is measured, and only the k nearest stay.
"""

from __future__ import annotations

import numpy as np

from sklearn_ann._cpu._distance import prefetch, sqdist
from sklearn_ann._cpu._filter import (
    SLACK,
    encode_queries,
    filter_panels,
    latecomers,
    set_threshold,
    threshold_terms,
)
from sklearn_ann._cpu._jit import jit
from sklearn_ann._cpu._simd import TILE
from sklearn_ann._cpu._threads import run_blocks, split
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

# Candidate lists of a block; they are touched at their ends only.
_CANDIDATE_BYTES = 2**23

# Below this many products per thread, about 0.3 ms, waking another thread up costs more
# than it saves. A single query waits for memory: it takes as long as 8 out of a batch.
# To encode a query and to choose its neighbours takes as long as some products too.
_MIN_WORK = 2**27
_QUERIES_PER_READ = 8
_PRODUCTS_PER_QUERY = 2**19


@jit
def shrink(block, members, k, error_ratio):
    """Lower the threshold of lists beyond their marks; drop candidates above it.

    Only those of `members` are looked at. Returns whether some list has become too long
    for another panel all the same.
    """
    # Taken out of the tuple once, see ``filter_panels``.
    _, _, _, sqnorms, errors, gaps, thresholds, _, bases, limits = block[:10]
    counts, marks, lowers, uppers, rows = block[10:]
    longest = lowers.shape[1] - PANEL
    is_stuck = False
    for i in members:
        count = counts[i]
        if count <= marks[i]:
            continue
        if count >= k:
            threshold = min(above_kth_smallest(uppers[i], count, k), thresholds[i])
            thresholds[i] = threshold
            nearer = latecomers(threshold, gaps[i])
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
                kept += lower <= threshold * SLACK
            counts[i] = kept
        marks[i] = counts[i] + growth(k)
        is_stuck |= marks[i] > longest
    return is_stuck


@jit
def _measure(block, i, k, Q, query, index, scratch):
    """Measure the candidates of query i and keep the k nearest, in order.

    The exact squared distances are left in `scratch`.
    """
    X, lowers, uppers, rows = index.X, block.lowers[i], block.uppers[i], block.rows[i]
    kept, count, reach = 0, block.counts[i], np.inf
    for c in range(count):
        if lowers[c] > reach:
            continue
        if c + 1 < count:
            prefetch(X, rows[c + 1])
        exact, row = sqdist(X, rows[c], Q, query), rows[c]
        # The k best so far are a heap. Of equally near rows most come in the order of
        # their numbers, so that one comparison is all that a late one costs.
        if kept < k:
            scratch[kept], rows[kept] = exact, row
            kept += 1
            if kept < k:
                continue
            make_heap(scratch, rows, k)
        elif is_after(scratch[0], rows[0], exact, row):
            replace_root(scratch, rows, k, exact, row)
        else:
            continue
        reach = np.sqrt(scratch[0]) / index.unit * SLACK
    sort_pairs(scratch, rows, kept)
    for c in range(kept):
        distance = np.sqrt(scratch[c]) / index.unit
        # A square that overflows says nothing, where the bound before may have been
        # finite: a row that stays must not exceed the threshold of that.
        lowers[c] = distance / SLACK if distance < np.inf else 0.0
        uppers[c] = distance * SLACK
    block.counts[i] = kept
    block.marks[i] = kept + growth(k)
    if kept == k:
        threshold = min(uppers[k - 1], block.thresholds[i])
        set_threshold(block, i, latecomers(threshold, block.gaps[i]), index.error_ratio)
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
    block,    # INOUT  Block
    scratch,  # SCRATCH (capacity,)        float64
):
    """Bring the candidates of some queries up to date with some panels."""
    dots = np.empty((TILE, PANEL), np.int32)
    at, longest = 0, len(scratch) - PANEL
    while at < len(panels):
        args = block, index, k, dots
        at = filter_panels(panels, at, members, codes, biases, *args)
        if shrink(block, members, k, index.error_ratio):
            for i in members:
                if block.marks[i] > longest:
                    _measure(block, i, k, Q, start + i, index, scratch)


@jit
def finish(
    start,    # IN     int      first query of the block
    members,  # IN     (n,)     int64  all of its queries
    Q,        # IN     (nq, d)  float
    index,    # IN     FlatIndex
    block,    # INOUT  Block
    scratch,  # SCRATCH (capacity,)  float64
    sqdists,  # OUT    (nq, k)  float64  ascending
    ids,      # OUT    (nq, k)  int64    -1 where there is none
):
    """Measure what is left and write down the k nearest."""
    k = sqdists.shape[1]
    block.marks[:] = -1
    shrink(block, members, k, index.error_ratio)
    for i in members:
        _measure(block, i, k, Q, start + i, index, scratch)
        found = block.counts[i]
        for c in range(k):
            sqdists[start + i, c] = scratch[c] if c < found else np.inf
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
    scratch = np.empty(capacity(k))
    block = encode_queries(start, stop, Q, index, len(scratch))
    members = np.arange(stop - start)
    codes, biases = block.codes, block.biases
    collect(panels, members, codes, biases, start, k, Q, index, block, scratch)
    finish(start, members, Q, index, block, scratch, sqdists, ids)


@jit
def growth(k):
    """New candidates after which a list is shrunk: rarely for many, often for few."""
    return k + 16


@jit
def capacity(k):
    """Length of a list: neighbours, rows that bounds cannot tell from them, a panel."""
    return 2 * k + 32 + growth(k) + PANEL


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


def limit_threads(n_threads, nq, products_per_query):
    """No more threads than have enough to do."""
    products = products_per_query + _PRODUCTS_PER_QUERY
    work = max(nq, _QUERIES_PER_READ) * products
    return max(1, min(n_threads, work // _MIN_WORK))


def split_queries(nq, query_bytes, k, n_threads, block_bytes):
    """Blocks of queries, equally many for each thread, of so many bytes in the cache.

    A query takes `query_bytes` of them. Lists of candidates are limited, too.
    """
    most = min(block_bytes // query_bytes, _CANDIDATE_BYTES // (24 * capacity(k)))
    most = max(TILE, most // TILE * TILE)
    return split(nq, -(-nq // (most * n_threads)) * n_threads)


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
