"""Exact nearest neighbours: filter with the codes, measure what is left.

For a block of queries and one panel of 64 rows after the other:

1. ``dot_tile``: integer dot products of the codes, 4 queries x 64 rows at a time;
2. ``survivors``: which rows the bound cannot exclude, given the query's threshold;
3. ``_collect``: their lower and upper bounds go to the query's list of candidates.

A list that fills up is shrunk: k candidates are no further than the k-th smallest upper
bound, which is the new threshold, and candidates whose lower bound lies above it go. At
the end the remaining candidates (14 of 14504 sentence embeddings) are measured exactly.
A candidate is dropped only when it is strictly further than k others, so ties are all
there to be resolved by row number. Data that defeats the bounds costs time, never a
neighbour: a list that does not shrink is measured, and only the k nearest stay.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sklearn_ann._cpu._jit import jit
from sklearn_ann._cpu._simd import (
    PANEL,
    TILE,
    dot_one,
    dot_tile,
    lowest_bit,
    sqdist,
    survivors,
)
from sklearn_ann._cpu._sq8 import OFFSET, ROUNDING, encode_vector
from sklearn_ann._cpu._threads import run_blocks
from sklearn_ann._cpu._topk import kth_smallest, sort_pairs

# Codes of the queries of a block stay in the L2 cache while the panels stream by.
_BLOCK_BYTES = 2**18
_MAX_BLOCK = 1024

# Candidate lists of a block; they are touched at their ends only.
_CANDIDATE_BYTES = 2**23

# Below this many bytes of codes per thread, handing work over costs more than it saves.
_MIN_WORK = 2**24

# Distances computed in float64 may differ from the true ones by less than this.
_SLACK = 1 + 1e-9

# Hits that ``radius`` collects before it hands them over.
_HITS = 2**16


class _Block(NamedTuple):
    """Encoded queries, what the filter needs of them, and their candidates."""

    codes: np.ndarray  # (padded, steps, 4)     int8
    biases: np.ndarray  # (padded,)             int32    undo the offset of the row codes
    scales: np.ndarray  # (padded,)             float64  in units
    sqnorms: np.ndarray  # (padded,)            float64  of the decoded query
    errors: np.ndarray  # (padded,)             float64
    thresholds: np.ndarray  # (padded,)         float64  -1: nothing is a neighbour
    factors: np.ndarray  # (padded,)            float32  arguments of ``survivors``
    bases: np.ndarray  # (padded,)              float32
    limits: np.ndarray  # (padded,)             float32
    counts: np.ndarray  # (padded,)             int64    candidates
    marks: np.ndarray  # (padded,)              int64    shrink the list beyond this many
    lowers: np.ndarray  # (padded, capacity)    float64  bounds of their distances
    uppers: np.ndarray  # (padded, capacity)    float64
    rows: np.ndarray  # (padded, capacity)      int64


@jit
def _encode_queries(start, stop, Q, index, capacity):
    """The block of the queries start..stop, padded to whole tiles."""
    n, d = stop - start, Q.shape[1]
    padded = n if n == 1 else (n + TILE - 1) // TILE * TILE
    steps = index.codes.shape[1]
    block = _Block(
        np.zeros((padded, steps, 4), np.int8),
        np.zeros(padded, np.int32),
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
    centred, decoded = np.empty((1, d)), np.empty((1, d))
    # The largest code for which no dot product overflows 32 bits.
    levels = min(127, (2**31 - 1) // (OFFSET * d))
    for i in range(n):
        for t in range(d):
            centred[0, t] = np.float64(Q[start + i, t]) - index.center[t]
        codes = block.codes[i].reshape(4 * steps)
        scale, sum_squares, error = encode_vector(
            centred, decoded, codes, levels, index.unit
        )
        if np.isnan(error):
            continue
        sum_codes = np.int64(0)
        for t in range(d):
            sum_codes += codes[t]
        block.biases[i] = np.int32(-OFFSET * sum_codes)
        block.scales[i] = scale
        block.sqnorms[i] = np.float64(scale) * np.float64(scale) * sum_squares
        block.errors[i] = error
        block.factors[i] = np.float32(2.0 * scale)
        _set_threshold(block, i, np.inf, index.error_ratio)
    return block


@jit
def _set_threshold(block, i, threshold, error_ratio):
    """Drop rows further than `threshold` (in units) from query i from now on.

    ``survivors`` drops a row if ``|q' - x'| > reach + error(x)``, both sides squared,
    with ``reach = threshold + error(q)`` and ``error(x) <= error_ratio * scale(x)``.
    The limit is rounded up by ROUNDING of each term, and by what may underflow.
    """
    block.thresholds[i] = threshold
    if threshold == np.inf:
        block.limits[i] = np.inf
        return
    reach = threshold * _SLACK + block.errors[i]
    limit = reach * reach * (1 + ROUNDING) - block.sqnorms[i] * (1 - ROUNDING)
    block.bases[i] = np.float32(2.0 * reach * error_ratio * (1 + ROUNDING))
    block.limits[i] = np.float32(limit + 1e-6 * abs(limit) + 1e-30)


@jit
def _bounds(scale, sqnorm, error_ratio, query_scale, query_sqnorm, query_error, dot):
    """Lower and upper bound of the distance of a row and a query, in units."""
    if sqnorm == -np.inf:
        return 0.0, np.inf
    error = error_ratio * scale
    # sqnorm is |x'|^2 - error^2, rounded down by about ROUNDING (_scalar_quantizer.py):
    # low <= |q' - x'|^2 <= low + rounded.
    product = 2.0 * query_scale * scale * dot
    low = query_sqnorm + sqnorm + error * error - product
    rounded = 4 * ROUNDING * (abs(sqnorm) + 2 * error * error) + 1e-30
    # The roundings of the lines above: a few units of float64 in each term.
    fuzz = 1e-14 * (query_sqnorm + abs(sqnorm) + error * error + abs(product))
    width = query_error + error
    lower = np.sqrt(max(low - fuzz, 0.0)) - width
    return lower, np.sqrt(max(low + rounded + fuzz, 0.0)) + width


@jit
def _filter_panels(first_panel, last_panel, block, index, dots):
    """Collect the candidates of all queries, panel by panel.

    Stops behind the panel that makes some list grow beyond its mark; returns the number
    of the panel to go on with. Marks leave room for a whole panel.
    """
    # Taken out of their tuples once: each access inside the loops would cost an atomic
    # increment and decrement of a reference count.
    _, _, codes, scales, sqnorms, _, error_ratio = index
    queries, biases, query_scales, query_sqnorms, query_errors = block[:5]
    thresholds, factors, bases, limits, counts, marks, lowers, uppers, rows = block[5:]
    n = index.X.shape[0]
    n_queries = len(counts)
    for panel in range(first_panel, last_panel):
        is_due = False
        for first in range(0, n_queries, TILE):
            in_tile = min(TILE, n_queries - first)
            if in_tile == TILE:
                dot_tile(codes, panel, queries, first, biases, dots)
            else:
                dot_one(codes, panel, queries, first, biases, dots)
            for j in range(in_tile):
                i = first + j
                args = panel, factors[i], bases[i], limits[i]
                mask = survivors(dots, j, scales, sqnorms, *args)
                if mask == 0 or thresholds[i] < 0:
                    continue
                count = counts[i]
                while mask != 0:
                    lane = lowest_bit(mask)
                    mask &= mask - np.uint64(1)
                    row = panel * PANEL + lane
                    if row < n:
                        lowers[i, count], uppers[i, count] = _bounds(
                            np.float64(scales[row]),
                            np.float64(sqnorms[row]),
                            error_ratio,
                            query_scales[i],
                            query_sqnorms[i],
                            query_errors[i],
                            dots[j, lane],
                        )
                        rows[i, count] = row
                        count += 1
                counts[i] = count
                is_due |= count > marks[i]
        if is_due:
            return panel + 1
    return last_panel


@jit
def _shrink(block, i, k, index, scratch):
    """Lower the threshold of query i and drop the candidates that lie above it."""
    count = block.counts[i]
    if count < k:
        return
    threshold = kth_smallest(block.uppers[i], count, k, scratch)
    _set_threshold(block, i, min(threshold, block.thresholds[i]), index.error_ratio)
    limit = block.thresholds[i] * _SLACK
    kept = 0
    for c in range(count):
        if block.lowers[i, c] <= limit:
            block.lowers[i, kept] = block.lowers[i, c]
            block.uppers[i, kept] = block.uppers[i, c]
            block.rows[i, kept] = block.rows[i, c]
            kept += 1
    block.counts[i] = kept


@jit
def _measure(block, i, k, Q, query, index, scratch):
    """Sort the candidates of query i by exact distance and keep the k nearest.

    The exact squared distances are left in `scratch`.
    """
    X, rows, count = index.X, block.rows[i], block.counts[i]
    for c in range(count):
        scratch[c] = sqdist(X, rows[c], Q, query)
    sort_pairs(scratch, rows, count)
    kept = min(count, k)
    for c in range(kept):
        distance = np.sqrt(scratch[c]) / index.unit
        block.lowers[i, c] = distance / _SLACK
        block.uppers[i, c] = distance * _SLACK
    block.counts[i] = kept
    if kept == k:
        _set_threshold(
            block, i, min(block.uppers[i, k - 1], block.thresholds[i]), index.error_ratio
        )


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
    growth, capacity = _growth(k), _capacity(k)
    block = _encode_queries(start, stop, Q, index, capacity)
    dots = np.empty((TILE, PANEL), np.int32)
    scratch = np.empty(capacity)
    panel = first_panel
    while panel < last_panel:
        panel = _filter_panels(panel, last_panel, block, index, dots)
        for i in range(stop - start):
            if block.counts[i] > block.marks[i]:
                _shrink(block, i, k, index, scratch)
                if block.counts[i] + growth > capacity - PANEL:
                    _measure(block, i, k, Q, start + i, index, scratch)
                block.marks[i] = block.counts[i] + growth
    for i in range(stop - start):
        _shrink(block, i, k, index, scratch)
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
    """Length of a list: k neighbours, as many that bounds cannot tell from them, ..."""
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
    nq, d = Q.shape
    n_panels = len(index.codes)
    sqdists, ids = np.empty((nq, k)), np.empty((nq, k), np.int64)
    n_threads = max(1, min(n_threads, nq * index.codes.size // _MIN_WORK))
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
    return list(zip(edges[:-1], edges[1:], strict=True))


def _knn_over_rows(Q, index, k, n_threads):
    """Few queries: each thread searches a share of the rows, then the best are merged."""
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


@jit
def _radius(
    start,        # IN   int         first query
    stop,         # IN   int         one past the last
    first_panel,  # IN   int
    Q,            # IN   (nq, d)     float
    index,        # IN   FlatIndex
    sqradius,     # IN   float       in the units of X
    queries,      # OUT  (hits,)     int64
    ids,          # OUT  (hits,)     int64
    sqdists,      # OUT  (hits,)     float64
):
    """Rows within the radius, until the outputs are full.

    Returns the panel to go on with and the number of hits.
    """
    capacity = 2 * PANEL
    block = _encode_queries(start, stop, Q, index, capacity)
    for i in range(stop - start):
        _set_threshold(block, i, np.sqrt(sqradius) / index.unit, index.error_ratio)
    dots = np.empty((TILE, PANEL), np.int32)
    n_panels, n_hits, panel = index.codes.shape[0], 0, first_panel
    while panel < n_panels and n_hits + (stop - start) * capacity <= len(ids):
        panel = _filter_panels(panel, n_panels, block, index, dots)
        for i in range(stop - start):
            for c in range(block.counts[i]):
                row = block.rows[i, c]
                exact = sqdist(index.X, row, Q, start + i)
                if exact <= sqradius:
                    queries[n_hits], ids[n_hits], sqdists[n_hits] = start + i, row, exact
                    n_hits += 1
            block.counts[i] = 0
    return panel, n_hits


def radius(Q, index, sqradius, n_threads):
    """All rows within a radius of each query, exactly.

    Parameters
    ----------
    Q : ndarray of shape (nq, d), float32 or float64
        Finite, C-contiguous.
    index : FlatIndex
    sqradius : float
        Squared; rows at this distance are inside.
    n_threads : int

    Returns
    -------
    sqdists : ndarray of shape (total,), float64
        Squared distances, query after query.
    ids : ndarray of shape (total,), int64
        Row numbers, ascending for each query.
    offsets : ndarray of shape (nq + 1,), int64
        Query i has the places offsets[i] to offsets[i + 1].
    """
    block = 16 * TILE
    starts = range(0, len(Q), block)
    found = [None] * len(starts)

    def search(number, start):
        parts, panel = [], 0
        while panel < len(index.codes):
            hits = np.empty(_HITS, np.int64), np.empty(_HITS, np.int64), np.empty(_HITS)
            stop = min(start + block, len(Q))
            panel, n_hits = _radius(start, stop, panel, Q, index, sqradius, *hits)
            parts.append([array[:n_hits].copy() for array in hits])
        queries, ids, sqdists = map(np.concatenate, zip(*parts, strict=True))
        order = np.argsort(queries, kind="stable")
        found[number] = queries[order], ids[order], sqdists[order]

    run_blocks(search, enumerate(starts), n_threads)
    queries, ids, sqdists = map(np.concatenate, zip(*found, strict=True))
    offsets = np.searchsorted(queries, np.arange(len(Q) + 1))
    return sqdists, ids, offsets
