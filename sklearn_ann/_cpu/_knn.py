"""Exact nearest neighbours: filter with the codes, measure what is left.

The list of candidates is kept short: where k of them have an upper bound no larger than
some distance, that is the new threshold, and those whose lower bound lies above it go.
At the end those that remain are measured exactly.

A row is dropped only when it is strictly further than k others, so ties are all there
to be resolved by row number. Data that defeats the bounds costs time, never a
neighbour: a list that does not get shorter is measured, and only the k nearest stay.
"""

from __future__ import annotations

import itertools

import numpy as np

from sklearn_ann._cpu._filter import (
    SLACK,
    encode_queries,
    filter_panels,
    set_threshold,
    threshold_terms,
)
from sklearn_ann._cpu._jit import jit
from sklearn_ann._cpu._simd import TILE, prefetch_row, sqdist
from sklearn_ann._cpu._threads import run_blocks
from sklearn_ann._cpu._topk import above_kth_smallest, sort_pairs
from sklearn_ann._layout import PANEL, read_only

# Codes of the queries of a block stay in the L2 cache while the panels stream by.
_BLOCK_BYTES = 2**18
_MAX_BLOCK = 1024

# Candidate lists of a block; they are touched at their ends only.
_CANDIDATE_BYTES = 2**23

# Below this many products per thread, about 0.3 ms, waking another thread up costs more
# than it saves. A single query waits for memory: it takes as long as 8 out of a batch.
_MIN_WORK = 2**27
_QUERIES_PER_READ = 8


@jit
def _shrink(block, k, error_ratio):
    """Lower the threshold of each list beyond its mark; drop candidates above it.

    Returns whether some list has become too long for another panel all the same.
    """
    # Taken out of the tuple once, see ``filter_panels``.
    _, _, _, sqnorms, errors, thresholds, _, bases, limits = block[:9]
    counts, marks, lowers, uppers, rows = block[9:]
    longest = lowers.shape[1] - PANEL
    is_stuck = False
    for i in range(len(counts)):
        count = counts[i]
        if count <= marks[i]:
            continue
        if count >= k:
            threshold = min(above_kth_smallest(uppers[i], count, k), thresholds[i])
            thresholds[i] = threshold
            bases[i], limits[i] = threshold_terms(
                threshold, sqnorms[i], errors[i], error_ratio
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
        marks[i] = counts[i] + _growth(k)
        is_stuck |= marks[i] > longest
    return is_stuck


@jit
def _measure(block, i, k, Q, query, index, scratch):
    """Measure the candidates of query i and keep the k nearest, in order.

    The exact squared distances are left in `scratch`.
    """
    X, lowers, uppers, rows = index.X, block.lowers[i], block.uppers[i], block.rows[i]
    count = block.counts[i]
    sort_pairs(lowers, rows, count)
    n_measured, farthest = 0, 0.0
    for c in range(count):
        if c >= k and lowers[c] > np.sqrt(farthest) / index.unit * SLACK:
            break
        if c + 1 < count:
            prefetch_row(X, rows[c + 1])
        scratch[c] = sqdist(X, rows[c], Q, query)
        n_measured = c + 1
        if c < k:
            farthest = max(farthest, scratch[c])
    sort_pairs(scratch, rows, n_measured)
    kept = min(n_measured, k)
    for c in range(kept):
        distance = np.sqrt(scratch[c]) / index.unit
        lowers[c], uppers[c] = distance / SLACK, distance * SLACK
    block.counts[i] = kept
    block.marks[i] = kept + _growth(k)
    if kept == k:
        threshold = min(uppers[k - 1], block.thresholds[i])
        set_threshold(block, i, threshold, index.error_ratio)


@jit
def _knn(
    start,        # IN   int            first query
    stop,         # IN   int            one past the last
    first_panel,  # IN   int            rows to search, in panels
    last_panel,   # IN   int
    Q,            # IN   (nq, d)        float
    index,        # IN   FlatIndex
    sqdists,      # OUT  (nq, k)        float64  ascending
    ids,          # OUT  (nq, k)        int64    -1 where there is none
):
    k = sqdists.shape[1]
    capacity = _capacity(k)
    block = encode_queries(start, stop, Q, index, capacity)
    dots, scratch = np.empty((TILE, PANEL), np.int32), np.empty(capacity)
    panel = first_panel
    while panel < last_panel:
        panel = filter_panels(panel, last_panel, block, index, dots)
        if _shrink(block, k, index.error_ratio):
            for i in range(stop - start):
                if block.marks[i] > capacity - PANEL:
                    _measure(block, i, k, Q, start + i, index, scratch)
    block.marks[:] = -1
    _shrink(block, k, index.error_ratio)
    for i in range(stop - start):
        _measure(block, i, k, Q, start + i, index, scratch)
        found = block.counts[i]
        for c in range(k):
            sqdists[start + i, c] = scratch[c] if c < found else np.inf
            ids[start + i, c] = block.rows[i, c] if c < found else -1


@jit
def _growth(k):
    """New candidates after which a list is shrunk: rarely for many, often for few."""
    return k + 16


@jit
def _capacity(k):
    """Length of a list: neighbours, rows that bounds cannot tell from them, a panel."""
    return 2 * k + 32 + _growth(k) + PANEL


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
    nq, d = Q.shape
    n_panels = len(index.codes)
    sqdists, ids = np.empty((nq, k)), np.empty((nq, k), np.int64)
    work = max(nq, _QUERIES_PER_READ) * index.codes.size
    n_threads = max(1, min(n_threads, work // _MIN_WORK))
    if n_threads > 1 and nq < 2 * TILE * n_threads:
        return _knn_over_rows(Q, index, k, n_threads)
    most = min(_BLOCK_BYTES // d, _CANDIDATE_BYTES // (24 * _capacity(k)), _MAX_BLOCK)
    most = max(TILE, most // TILE * TILE)
    n_blocks = -(-nq // (most * n_threads)) * n_threads
    run_blocks(
        lambda start, stop: _knn(start, stop, 0, n_panels, Q, index, sqdists, ids),
        _split(nq, n_blocks),
        n_threads,
    )
    return sqdists, ids


def _split(n, n_parts):
    """Cut range(n) into parts of almost the same length: pairs of start and stop."""
    edges = [n * part // n_parts for part in range(n_parts + 1)]
    return list(itertools.pairwise(edges))


def _knn_over_rows(Q, index, k, n_threads):
    """Few queries: each thread searches a share of the rows; the best are merged."""
    nq = len(Q)
    sqdists = np.empty((n_threads, nq, k))
    ids = np.empty((n_threads, nq, k), np.int64)
    run_blocks(
        lambda part, panels: _knn(0, nq, *panels, Q, index, sqdists[part], ids[part]),
        enumerate(_split(len(index.codes), n_threads)),
        n_threads,
    )
    sqdists, ids = np.hstack(sqdists), np.hstack(ids)
    # Seen as unsigned, the -1 of an empty place comes last among equal distances.
    order = np.lexsort((ids.view(np.uint64), sqdists))[:, :k]
    return np.take_along_axis(sqdists, order, 1), np.take_along_axis(ids, order, 1)
