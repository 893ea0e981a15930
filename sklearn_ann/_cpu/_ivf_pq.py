"""Search among product-quantized rows in inverted lists.

With c the centroid of a list, r the decoded residual of a row and z any fixed point,

    |q - (c + r)|^2  =  |q - c|^2  +  (|r|^2 + 2 (c - z).r)  -  2 (q - z).r

The first part is known from probing, the second is one float for each row, and the
third is a sum of m entries of a table that does not depend on the list: one table per
query. (Faiss has one per query and list; the distances are the same.)

The table is also rounded down to bytes. A sum of bytes is a lower bound, so that only
the rows below the threshold are looked up in the table of floats, and only the best of
these are decoded and measured, in float64. The answer is that of measuring all.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sklearn_ann._cpu._distance import AHEAD, prefetch, sqdist
from sklearn_ann._cpu._ivf_flat import chain, group_by_list
from sklearn_ann._cpu._jit import inlined_jit, jit
from sklearn_ann._cpu._knn import capacity, growth, limit_threads
from sklearn_ann._cpu._pq_codes import decode_pq
from sklearn_ann._cpu._pq_simd import sum_entries, sums_within
from sklearn_ann._cpu._pq_tables import fill_tables
from sklearn_ann._cpu._simd import lowest_bit
from sklearn_ann._cpu._threads import run_blocks, split
from sklearn_ann._cpu._topk import above_kth_smallest, sort_pairs
from sklearn_ann._layout import CODEWORDS, PANEL, read_only

# Bytes of rounded tables of a block of queries: they stay in the L2 cache.
_TABLE_BYTES = 2**19

# Products, as ``limit_threads`` counts them, in the time it takes to look up a code and
# to multiply an entry of a codebook.
_PER_CODE, _PER_ENTRY = 12, 16

# No finite sum exceeds it, empty positions do.
_NO_LIMIT = 3e38

# Ids are below it.
_KEY = 2**31


# -- a block of queries ----------------------------------------------------------


class _Block(NamedTuple):
    """Queries with their tables and their candidates."""

    tables: np.ndarray  # (n, m, 256)       float32  -2 (q - z).codeword
    rounded: np.ndarray  # (n, m, 256)      uint8    the same, rounded down, in steps
    steps: np.ndarray  # (n,)               float32
    bases: np.ndarray  # (n,)               float64  sum of the smallest entries
    errors: np.ndarray  # (n,)              float64  of a value, at most
    thresholds: np.ndarray  # (n,)          float64  values above it are no neighbours
    counts: np.ndarray  # (n,)              int64    candidates
    marks: np.ndarray  # (n,)               int64    how many are too many
    values: np.ndarray  # (n, capacity)     float64  squared distances, but for errors
    positions: np.ndarray  # (n, capacity)  int64


class _Scratch(NamedTuple):
    sums: np.ndarray  # (2, 64)       uint16
    uppers: np.ndarray  # (128,)      float64
    decoded: np.ndarray  # (1, d)     float64
    keys: np.ndarray  # (capacity,)   int64


@jit
def _empty_block(n, m, k):
    return _Block(
        np.empty((n, m, CODEWORDS), np.float32),
        np.empty((n, m, CODEWORDS), np.uint8),
        np.zeros(n, np.float32),
        np.zeros(n),
        np.zeros(n),
        np.full(n, np.inf),
        np.zeros(n, np.int64),
        np.full(n, growth(k)),
        np.empty((n, capacity(k))),
        np.empty((n, capacity(k)), np.int64),
    )


@jit
def _shrink(block, i, k):
    """Lower the threshold to what k candidates do not exceed; drop those above."""
    values, positions, count = block.values[i], block.positions[i], block.counts[i]
    if count >= k:
        # Both the value of a candidate and that of the k-th may be wrong by an error.
        kth = above_kth_smallest(values, count, k) + 2 * block.errors[i]
        threshold = min(block.thresholds[i], kth)
        kept = 0
        for c in range(count):
            value = values[c]
            values[kept], positions[kept] = value, positions[c]
            kept += value <= threshold
        block.thresholds[i], block.counts[i] = threshold, kept
    block.marks[i] = block.counts[i] + growth(k)


@jit
def _measure(block, i, k, query, Q, index, scratch):
    """Measure the candidates of a query and keep the k nearest, by distance and id."""
    values, positions, count = block.values[i], block.positions[i], block.counts[i]
    codes, all_ids, decoded, keys = index.codes, index.ids, *scratch[2:]
    for c in range(count):
        if c + AHEAD < count:
            # The whole panel: each of its lines has a code of the row.
            prefetch(codes, positions[c + AHEAD] // PANEL)
            prefetch(all_ids, positions[c + AHEAD])
        decode_pq(positions[c], index, decoded)
        values[c] = sqdist(decoded, 0, Q, query)
        # Sorted by id among equal distances; the number of the candidate goes along.
        keys[c] = np.int64(all_ids[positions[c]]) * _KEY + c
    sort_pairs(values, keys, count)
    before, kept = positions[:count].copy(), min(count, k)
    for c in range(kept):
        positions[c] = before[keys[c] % _KEY]
    block.counts[i], block.marks[i] = kept, kept + growth(k)


@inlined_jit
def _make_room(block, i, k, query, Q, index, scratch):
    """Drop candidates of a query until another panel of them fits its list."""
    _shrink(block, i, k)
    if block.marks[i] > block.values.shape[1] - PANEL:
        # So many have nearly the same value that only measuring them tells.
        _measure(block, i, k, query, Q, index, scratch)
        _shrink(block, i, k)


@jit
def _limit(threshold, known, error):
    """What ``sums_within`` compares with, where `known` is part of the distance."""
    if threshold == np.inf:
        return np.float32(_NO_LIMIT)
    limit = threshold - known + error
    return np.float32(limit + 1e-6 * abs(limit) + 1e-30)


@inlined_jit
def _first_threshold(
    panels,  # IN       (<= 2,)         int64    whose bytes have been summed
    sums,    # IN       (2, 64)         uint16
    terms,   # IN       (n_panels, 64)  float32
    lowest,  # IN       float           what the distances to these rows have in common
    step,    # IN       float
    lost,    # IN       int             steps that a sum of bytes lacks, at most
    k,       # IN       int
    uppers,  # SCRATCH  (128,)          float64
):
    """A number that the values of k rows of these panels do not exceed.

    It is known without looking anything up in the tables of floats.
    """
    for part in range(len(panels)):
        bytes_, term = sums[part], terms[panels[part]]
        upper = uppers[part * PANEL : (part + 1) * PANEL]
        for lane in range(PANEL):
            steps = np.float64(np.int32(bytes_[lane]) + lost)
            upper[lane] = max(lowest + term[lane] + step * steps, 0.0)
    return above_kth_smallest(uppers, PANEL * len(panels), k)


@inlined_jit
def _look_up(
    mask,       # IN   uint64                 rows of the panel to look up
    panel,      # IN   int
    base,       # IN   float                  what they have in common
    codes,      # IN   (n_panels, m, 64)      uint8
    terms,      # IN   (n_panels * 64,)       float32
    i,          # IN   int                    query of the block
    tables,     # IN   (n, m, 256)            float32
    threshold,  # IN   float
    values,     # OUT  (n, capacity)          float64  those that do not exceed it
    positions,  # OUT  (n, capacity)          int64
    count,      # IN   int                    how many of these are there
):
    """Append rows of a panel to the candidates of a query; their new number."""
    while mask != 0:
        lane = lowest_bit(mask)
        mask &= mask - np.uint64(1)
        value = base + np.float64(terms[panel * PANEL + lane])
        for j in range(codes.shape[1]):
            value += np.float64(tables[i, j, codes[panel, j, lane]])
        if value <= threshold:
            values[i, count] = max(value, 0.0)
            positions[i, count] = panel * PANEL + lane
            count += 1
    return count


@jit
def _scan_lists(
    start,    # IN       int              first query of the block
    ranked,   # IN       (n, n_ranks)     int64    lists to search; -1: none
    known,    # IN       (n, n_ranks)     float64  squared distances to their centroids
    k,        # IN       int
    Q,        # IN       (nq, d)          float
    index,    # IN       IVFPQIndex
    block,    # INOUT    _Block
    scratch,  # SCRATCH  _Scratch
):
    """Bring the candidates of all queries up to date with these lists, list by list."""
    # Taken out of their tuples once, see ``filter_panels``.
    panels, offsets = index.lists.panels, index.lists.offsets
    codes, terms, is_paired = index.codes, index.terms, index.is_paired
    tables, rounded, steps, bases, errors, thresholds = block[:6]
    counts, marks, values, positions = block[6:]
    by_panel, sums, uppers = terms.reshape(-1, PANEL), scratch.sums, scratch.uppers
    # An entry lacks less than a step, those of a pair two, and all their rounding one.
    lost = 2 * codes.shape[1] + 1
    lists, starts, members, ranks = group_by_list(ranked, len(offsets) - 1)
    for n_before in range(len(lists)):
        probe, ahead = lists[n_before], lists[min(n_before + 1, len(lists) - 1)]
        first, last = offsets[probe], offsets[probe + 1] - 1
        fetched, n_queries = offsets[ahead], starts[n_before + 1] - starts[n_before]
        for at in range(starts[n_before], starts[n_before + 1]):
            i = members[at]
            base, step, count = known[i, ranks[at]], steps[i], counts[i]
            threshold, lowest = thresholds[i], base + bases[i]
            limit = _limit(threshold, lowest, errors[i])
            # Each query brings its share of the next list into the cache.
            share = offsets[ahead + 1] - offsets[ahead]
            share = share * (at + 1 - starts[n_before]) // n_queries
            until = offsets[ahead] + share
            for place in range(first, last + 1):
                panel, part = panels[place], (place - first) % 2
                if fetched < until:
                    prefetch(codes, panels[fetched])
                    prefetch(by_panel, panels[fetched])
                    fetched += 1
                if part == 0:
                    other = panels[min(place + 1, last)]
                    sum_entries(codes, panel, other, is_paired, rounded, i, sums)
                    if threshold == np.inf:
                        summed = panels[place : min(place + 2, last + 1)]
                        threshold = 2 * errors[i] + _first_threshold(
                            summed, sums, by_panel, lowest, step, lost, k, uppers
                        )
                        thresholds[i] = threshold
                        limit = _limit(threshold, lowest, errors[i])
                mask = sums_within(sums, part, terms, panel, step, limit)
                count = _look_up(
                    *(mask, panel, base, codes, terms, i, tables, threshold),
                    *(values, positions, count),
                )
                if count > marks[i]:
                    counts[i] = count
                    _make_room(block, i, k, start + i, Q, index, scratch)
                    threshold, count = thresholds[i], counts[i]
                    limit = _limit(threshold, lowest, errors[i])
            counts[i] = count


@jit
def _scan_block(
    start,    # IN   int              first query
    stop,     # IN   int              one past the last
    Q,        # IN   (nq, d)          float
    probes,   # IN   (nq, nprobe)     int64    lists to search; -1: none
    known,    # IN   (nq, nprobe)     float64  squared distances to their centroids
    index,    # IN   IVFPQIndex
    sqdists,  # OUT  (nq, k)          float64
    ids,      # OUT  (nq, k)          int64
):
    n, k = stop - start, sqdists.shape[1]
    block, all_ids = _empty_block(n, len(index.codebooks), k), index.ids
    scratch = _Scratch(
        np.empty((2, PANEL), np.uint16),
        np.empty(2 * PANEL),
        np.empty((1, Q.shape[1])),
        np.empty(capacity(k), np.int64),
    )
    fill_tables(start, Q, index, *block[:5])
    for i in range(n):
        farthest = 0.0
        for rank in range(probes.shape[1]):
            if probes[start + i, rank] >= 0:
                farthest = max(farthest, known[start + i, rank])
        # The distance to a centroid is part of a value.
        block.errors[i] += 2.0**-53 * (Q.shape[1] + 64) * farthest
    # The nearest list of each query first: it lowers the threshold most.
    for first, last in ((0, 1), (1, probes.shape[1])):
        ranked, sqdists_ = probes[start:stop, first:last], known[start:stop, first:last]
        _scan_lists(start, ranked, sqdists_, k, Q, index, block, scratch)
    for i in range(n):
        _shrink(block, i, k)
        _measure(block, i, k, start + i, Q, index, scratch)
        for c in range(k):
            is_found = c < block.counts[i]
            sqdists[start + i, c] = block.values[i, c] if is_found else np.inf
            ids[start + i, c] = all_ids[block.positions[i, c]] if is_found else -1


def scan_ivf_pq(Q, index, probes, probe_sqdists, k, n_threads):
    """The k nearest decoded rows of each query in the lists that it probes.

    Parameters
    ----------
    Q : ndarray of shape (nq, d), float32 or float64
        C-contiguous.
    index : IVFPQIndex
    probes : ndarray of shape (nq, nprobe), int64
        Lists to search, different ones for a query, the nearest first; -1 for none.
    probe_sqdists : ndarray of shape (nq, nprobe), float64
        Squared distances to their centroids.
    k : int
    n_threads : int

    Returns
    -------
    sqdists : ndarray of shape (nq, k), float64
        Squared distances to what the codes decode to, ascending; infinite where the
        lists hold fewer rows.
    ids : ndarray of shape (nq, k), int64
        Row numbers, ascending among equal distances; -1 where there is none.
    """
    args = read_only(Q), read_only(probes), read_only(probe_sqdists), index
    nq, m = len(Q), len(index.codebooks)
    sqdists, ids = np.empty((nq, k)), np.empty((nq, k), np.int64)
    n_codes = index.codes.size * probes.shape[1] // len(index.lists.sizes)
    n_products = n_codes * _PER_CODE + index.codebooks.size * _PER_ENTRY
    n_threads = limit_threads(n_threads, nq, n_products)
    most = max(1, _TABLE_BYTES // (m * CODEWORDS))
    n_blocks = -(-nq // (most * n_threads)) * n_threads
    run_blocks(
        lambda start, stop: _scan_block(start, stop, *args, sqdists, ids),
        split(nq, n_blocks),
        n_threads,
    )
    return sqdists, ids


@jit
def _measure_chain(
    query,    # IN   int
    Q,        # IN   (nq, d)          float
    panels,   # IN   (n_panels,)      int64
    index,    # IN   IVFPQIndex
    sqdists,  # OUT  (64 * n_panels,) float64   infinite at empty positions
    ids,      # OUT  (64 * n_panels,) int64
):
    decoded = np.empty((1, Q.shape[1]))
    for at in range(len(panels)):
        for lane in range(PANEL):
            position, place = panels[at] * PANEL + lane, at * PANEL + lane
            sqdists[place], ids[place] = np.inf, -1
            if index.terms[position] < np.inf:
                decode_pq(position, index, decoded)
                sqdists[place] = sqdist(decoded, 0, Q, query)
                ids[place] = index.ids[position]


def radius_ivf_pq(Q, index, probes, sqradius, n_threads):
    """All rows that decode to a vector within a radius, in the lists that are probed.

    Parameters and returns as those of ``radius_ivf_flat``. Every row of the lists is
    decoded.
    """
    Q, probes, found = read_only(Q), read_only(probes), [None] * len(Q)

    def search(query):
        panels = chain(probes[query], index.lists)
        sqdists = np.empty(PANEL * len(panels))
        ids = np.empty(PANEL * len(panels), np.int64)
        _measure_chain(query, Q, panels, index, sqdists, ids)
        hits = np.flatnonzero((sqdists <= sqradius) & (ids >= 0))
        hits = hits[np.argsort(ids[hits])]
        found[query] = sqdists[hits], ids[hits]

    run_blocks(search, ((query,) for query in range(len(Q))), n_threads)
    offsets = np.zeros(len(Q) + 1, np.int64)
    np.cumsum([len(ids) for _, ids in found], out=offsets[1:])
    sqdists, ids = map(np.concatenate, zip(*found, strict=True))
    return sqdists, ids, offsets
