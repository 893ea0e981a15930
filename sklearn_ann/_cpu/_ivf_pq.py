"""Search among product-quantized rows in inverted lists.

With c the centroid of a list, r the decoded residual of a row and z any fixed point,

    |q - (c + r)|^2  =  |q - c|^2  +  (|r|^2 + 2 (c - z).r)  -  2 (q - z).r

The first part is known from probing, the second is one float for each row, and the
third is a sum of m entries of a table that does not depend on the list: one table per
query. (Faiss has one per query and list; the distances are the same.)

The table is rounded down to numbers of two bytes. A sum of the upper bytes is a lower
bound, so that the lower ones are added only where a row may be below the threshold, and
only the best of these rows are decoded and measured, in float64. The answer is that of
measuring all.
"""

from __future__ import annotations

import numpy as np

from sklearn_ann._cpu._arrays import empty
from sklearn_ann._cpu._bits import lowest_bit
from sklearn_ann._cpu._borrow import borrowed, keep
from sklearn_ann._cpu._distance import prefetch, sqdist
from sklearn_ann._cpu._jit import inlined_jit, jit, jit_maker, jit_part
from sklearn_ann._cpu._lists import chain, group_by_list
from sklearn_ann._cpu._pq_block import (
    certain_first,
    empty_block,
    empty_scratch,
    make_room,
    measure_pq,
    shrink_pq,
)
from sklearn_ann._cpu._pq_codes import decode_pq
from sklearn_ann._cpu._pq_simd import (
    HAS_PERMUTE,
    SPLITS_PAIRS,
    sum_entries,
    sums_within,
)
from sklearn_ann._cpu._pq_tables import fill_tables, half_bits
from sklearn_ann._cpu._rounding import limit_of
from sklearn_ann._cpu._schedule import limit_threads, split_queries
from sklearn_ann._cpu._threads import run_blocks
from sklearn_ann._layout import CODEWORDS, PANEL, read_only

# Bytes of the upper halves of the tables of a block of queries: they, and most of the
# lower ones, stay in the L2 cache.
_TABLE_BYTES = 2**19

# Products, as ``limit_threads`` counts them, in the time it takes to look up a code and
# to multiply an entry of a codebook.
_PER_CODE, _PER_ENTRY = 12, 16

# No sum exceeds it (see FARTHEST), empty positions do.
_NO_LIMIT = 3e38


@jit_part
def _limit(threshold, base, error):
    """What ``sums_within`` compares with, where `base` is part of the distance."""
    if threshold == np.inf:
        return np.float32(_NO_LIMIT)
    return limit_of(threshold - base + error)


@inlined_jit
def _sum_lower_halves(
    mask,          # IN   uint64             rows of the panel that are wanted
    panel,         # IN   int
    codes,         # IN   (n_panels, m, 64)  uint8
    is_paired,     # IN   bool
    lower_halves,  # IN   (n, m, 256)        uint8
    i,             # IN   int                query of the block
    sums,          # OUT  (1, 64)            uint16
):
    """Sums of the lower halves of entries."""
    if HAS_PERMUTE or (SPLITS_PAIRS and is_paired):
        sum_entries(codes, (panel,), is_paired, lower_halves, i, sums)
        return
    while mask != 0:
        lane = lowest_bit(mask)
        mask &= mask - np.uint64(1)
        total = np.uint32(0)
        for j in range(codes.shape[1]):
            total += lower_halves[i, j, codes[panel, j, lane]]
        sums[0, lane] = total


@inlined_jit
def _append(
    mask,          # IN   uint64             rows of the panel to look at
    panel,         # IN   int
    codes,         # IN   (n_panels, m, 64)  uint8
    is_paired,     # IN   bool
    lower_halves,  # IN   (n, m, 256)        uint8
    sums,          # IN   (2, 64)            uint16   of upper halves
    part,          # IN   int                which of these two is of the panel
    bits,          # IN   int                of half an entry
    lowest,        # IN   float              what all rows have in common
    step,          # IN   float32
    row_terms,     # IN   (n_panels * 64,)   float32
    threshold,     # IN   float
    i,             # IN   int                query of the block
    lower_sums,    # SCRATCH  (1, 64)        uint16
    values,        # OUT  (n, capacity)      float64  those that do not exceed it
    positions,     # OUT  (n, capacity)      int64
    count,         # IN   int                how many of these are there
):
    """Append rows of a panel to the candidates of a query; their new number."""
    _sum_lower_halves(mask, panel, codes, is_paired, lower_halves, i, lower_sums)
    while mask != 0:
        lane = lowest_bit(mask)
        mask &= mask - np.uint64(1)
        steps = (np.int64(sums[part, lane]) << bits) + np.int64(lower_sums[0, lane])
        value = lowest + np.float64(row_terms[panel * PANEL + lane])
        value += np.float64(step) * np.float64(steps)
        if value <= threshold:
            values[i, count] = max(value, 0.0)
            positions[i, count] = panel * PANEL + lane
            count += 1
    return count


@jit_maker
def _share_next_lists(
    n_lists,       # IN  int
    list_numbers,  # IN  (n_lists,)      int64
    starts,        # IN  (n_lists + 1,)  int64  of their members
    offsets,       # IN  (nlist + 1,)    int64  of their panels
):
    """The panels that queries bring into the cache, each a share of the next list.

    Returns where the list behind each list starts, and where the share of each member
    stops.
    """
    first_ahead = empty(n_lists, np.int64)
    stops = empty(starts[n_lists], np.int64)
    for nth in range(n_lists):
        ahead = list_numbers[min(nth + 1, n_lists - 1)]
        first_ahead[nth] = offsets[ahead]
        n_panels = offsets[ahead + 1] - offsets[ahead]
        n_members = starts[nth + 1] - starts[nth]
        for at in range(starts[nth], starts[nth + 1]):
            share = n_panels * (at + 1 - starts[nth]) // n_members
            stops[at] = offsets[ahead] + share
    return first_ahead, stops


@jit_maker
def _scan_pq_by_list(
    probes,         # IN       (n, nprobe)  int64    lists to search; -1: none
    probe_sqdists,  # IN       (n, nprobe)  float64  of their centroids
    k,              # IN       int
    Q,              # IN       (n, d)       float
    index,          # IN       IVFPQIndex
    block,          # INOUT    PQBlock
    scratch,        # SCRATCH  PQScratch
):
    """Bring the candidates of all queries up to date with these lists, list by list."""
    panels, offsets = index.lists.panels, index.lists.offsets
    codes, row_terms, is_paired = index.codes, index.row_terms, index.is_paired
    upper_halves, lower_halves = block.upper_halves, block.lower_halves
    steps, bases, errors = block.steps, block.bases, block.errors
    thresholds, counts, full_at = block.thresholds, block.counts, block.full_at
    values, positions = block.values, block.positions
    sums, lower_sums = scratch.upper_sums, scratch.lower_sums
    by_panel, bits = row_terms.reshape(-1, PANEL), half_bits(codes.shape[1], is_paired)
    n_lists, list_numbers, starts, members, ranks = group_by_list(probes, offsets)
    first_ahead, shares = _share_next_lists(n_lists, list_numbers, starts, offsets)
    for nth in range(n_lists):
        first, last = offsets[list_numbers[nth]], offsets[list_numbers[nth] + 1] - 1
        fetched = first_ahead[nth]
        for at in range(starts[nth], starts[nth + 1]):
            i, fetch_until = members[at], shares[at]
            lowest, threshold = probe_sqdists[i, ranks[at]] + bases[i], thresholds[i]
            step, upper_step = steps[i], steps[i] * np.float32(1 << bits)
            limit, count = _limit(threshold, lowest, errors[i]), counts[i]
            for place in range(first, last + 1):
                panel, part = panels[place], (place - first) % 2
                if fetched < fetch_until:
                    prefetch(codes, panels[fetched])
                    prefetch(by_panel, panels[fetched])
                    fetched += 1
                if part == 0:
                    pair = panel, panels[min(place + 1, last)]
                    sum_entries(codes, pair, is_paired, upper_halves, i, sums)
                mask = sums_within(sums, part, row_terms, panel, upper_step, limit)
                if mask == 0:
                    continue
                count = _append(
                    mask, panel, codes, is_paired, lower_halves, sums, part, bits,
                    lowest, step, row_terms, threshold, i, lower_sums,
                    values, positions, count,
                )
                if count > full_at[i]:
                    counts[i] = count
                    make_room(block, i, k, Q, index, scratch)
                    threshold, count = thresholds[i], counts[i]
                    limit = _limit(threshold, lowest, errors[i])
            counts[i] = count


@jit_part
def _lost_in_decoding(
    length,    # IN  float         of a query
    farthest,  # IN  float         distance of its farthest centroid
    radii,     # IN  (m,)  float64
):
    """How much the rounding of decoded rows changes squared distances, at most."""
    square = 0.0
    for radius in radii:
        square += radius * radius
    reach = farthest + np.sqrt(square)
    lost = 2.0**-52 * (length + reach)
    return lost * (2 * reach + lost)


@jit
def _scan_block(
    start,          # IN   int           first query
    stop,           # IN   int           one past the last
    Q,              # IN   (nq, d)       float
    probes,         # IN   (nq, nprobe)  int64    lists to search; -1: none
    probe_sqdists,  # IN   (nq, nprobe)  float64  of their centroids
    index,          # IN   IVFPQIndex
    is_sorted,      # IN   bool          if not: ids in any order, and no distances
    sqdists,        # OUT  (nq, k)       float64  or (0, k)
    ids,            # OUT  (nq, k)       int64
):
    n, k, queries = stop - start, ids.shape[1], Q[start:stop]
    index = borrowed(index)
    owned_block = empty_block(n, len(index.codebooks_t), k)
    owned_scratch = empty_scratch(Q.shape[1], k)
    block, scratch, all_ids = borrowed(owned_block), borrowed(owned_scratch), index.ids
    fill_tables(
        queries, index, block.upper_halves, block.lower_halves,
        block.steps, block.bases, block.errors,
    )
    origin = scratch.decoded
    for t in range(Q.shape[1]):
        origin[0, t] = 0.0
    for i in range(n):
        farthest = 0.0
        for rank in range(probes.shape[1]):
            if probes[start + i, rank] >= 0:
                farthest = max(farthest, probe_sqdists[start + i, rank])
        # The distance to a centroid is part of a value.
        block.errors[i] += 2.0**-53 * (Q.shape[1] + 64) * farthest
        length = np.sqrt(sqdist(origin, 0, queries, i))
        block.errors[i] += _lost_in_decoding(length, np.sqrt(farthest), index.radii)
    # The nearest list of each query first: it lowers the threshold most.
    for first, last in ((0, 1), (1, probes.shape[1])):
        _scan_pq_by_list(
            probes[start:stop, first:last],
            probe_sqdists[start:stop, first:last],
            k, queries, index, block, scratch,
        )
    for i in range(n):
        shrink_pq(block, i, k)
        first = 0 if is_sorted else certain_first(block, i, k)
        measure_pq(block, i, k, first, queries, index, scratch)
        for c in range(k):
            is_found = c < block.counts[i]
            if is_sorted:
                sqdists[start + i, c] = block.values[i, c] if is_found else np.inf
            ids[start + i, c] = all_ids[block.positions[i, c]] if is_found else -1
    keep(owned_block)
    keep(owned_scratch)


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
    return _scan(Q, index, probes, probe_sqdists, k, n_threads, True)


def candidates_ivf_pq(Q, index, probes, probe_sqdists, k, n_threads):
    """The same rows as from ``scan_ivf_pq``, in any order; only their ids.

    That is faster, as nearly all are known without being measured.
    """
    return _scan(Q, index, probes, probe_sqdists, k, n_threads, False)[1]


def _scan(Q, index, probes, probe_sqdists, k, n_threads, is_sorted):
    Q, probes, probe_sqdists = map(read_only, (Q, probes, probe_sqdists))
    nq, m = len(Q), len(index.codebooks_t)
    sqdists, ids = np.empty((nq * is_sorted, k)), np.empty((nq, k), np.int64)
    n_codes = index.codes.size * probes.shape[1] // len(index.lists.sizes)
    n_products = n_codes * _PER_CODE + index.codebooks_t.size * _PER_ENTRY
    n_threads = limit_threads(n_threads, nq, n_products)
    run_blocks(
        lambda start, stop: _scan_block(
            start, stop, Q, probes, probe_sqdists, index, is_sorted, sqdists, ids
        ),
        split_queries(nq, m * CODEWORDS, k, n_threads, _TABLE_BYTES),
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
    index, decoded = borrowed(index), empty((1, Q.shape[1]), np.float64)
    for at in range(len(panels)):
        for lane in range(PANEL):
            position, place = panels[at] * PANEL + lane, at * PANEL + lane
            sqdists[place], ids[place] = np.inf, -1
            if index.row_terms[position] < np.inf:
                decode_pq(position, index, decoded)
                sqdists[place] = sqdist(decoded, 0, Q, query)
                ids[place] = index.ids[position]


def radius_ivf_pq(Q, index, probes, sqradius, with_sqdists, n_threads):
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
        found[query] = sqdists[hits[: len(hits) * with_sqdists]], ids[hits]

    run_blocks(search, ((query,) for query in range(len(Q))), n_threads)
    offsets = np.zeros(len(Q) + 1, np.int64)
    np.cumsum([len(ids) for _, ids in found], out=offsets[1:])
    sqdists, ids = map(np.concatenate, zip(*found, strict=True))
    return sqdists, ids, offsets
