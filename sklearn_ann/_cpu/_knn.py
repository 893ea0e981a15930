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

from functools import lru_cache

import numpy as np

from sklearn_ann._cpu._arrays import copy_row, count_up, empty
from sklearn_ann._cpu._borrow import borrowed, keep
from sklearn_ann._cpu._candidates import capacity
from sklearn_ann._cpu._jit import jit, jit_in_caller, jit_maker
from sklearn_ann._cpu._lists import group_by_list
from sklearn_ann._cpu._schedule import limit_threads, n_products, split_queries
from sklearn_ann._cpu._sq8_block import encode_queries
from sklearn_ann._cpu._sq8_candidates import finish, sort_out
from sklearn_ann._cpu._sq8_filter import (
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
from sklearn_ann._layout import PANEL, read_only

# Codes of the queries of a block stay in the L2 cache while the panels stream by.
_BLOCK_BYTES = 2**18

# Queries whose dot products with a chunk of panels are kept at a time; how many bytes
# these and the codes of the panels may have, to stay in the L2 cache; panels at most.
_GROUP = 16 * TILE
_CHUNK_BYTES = 2**20
_MOST_PANELS = 64

# Queries search their nearest list first if there are so many of them for each list,
# and if they probe so many lists.
_SHARED, _MANY_LISTS = 2, 8

# Rows with the lowest bounds that give a query its first threshold, for each neighbour.
_SEEDS = 2


@jit_maker
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
                sort_out(i, k, Q, query, index, block, step, exact)
        if not is_first:
            break
        is_first = False


@jit_maker
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
    n_members = len(members)
    n_rows, n_panels = n_rows_of(min(n_members, _GROUP)), _MOST_PANELS
    if n_rows > 1:
        bytes_of_panel = index.codes.shape[1] * 4 * PANEL + n_rows * 4 * PANEL
        n_panels = max(1, min(n_panels, _CHUNK_BYTES // bytes_of_panel))
    panels = panels[:n_panels]
    dots = empty((n_rows * len(panels), PANEL), np.int32)
    for first in range(0, n_members, _GROUP):
        stop = min(first + _GROUP, n_members)
        owned = dot_panels(panels, first, stop, codes, biases, index.codes, dots)
        chunk = borrowed(owned)
        for m in range(first, stop):
            i, row = members[m], first_row(chunk, m - first)
            if block.thresholds[i] >= 0:
                _start(chunk, row, i, k, Q, start + i, index, block, exact)
        keep(owned)
    return len(panels)


@jit_in_caller
def _collect(
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
    is_new = False
    for i in members:
        is_new |= block.thresholds[i] == np.inf
    at, dots = 0, empty((TILE, PANEL), np.int32)
    if is_new and len(panels):
        at = _first_chunk(
            panels, members, codes, biases, start, k, Q, index, block, exact
        )
    while at < len(panels):
        at = filter_panels(panels, at, members, codes, biases, block, index, k, dots)
        for i in members:
            if block.ends[i] > block.full_at[i]:
                step = block.sqdist_steps[i]
                sort_out(i, k, Q, start + i, index, block, step, exact)


@jit_maker
def _collect_lists(
    probes,   # IN     (n, nprobe)   int64    lists to search; -1: none
    start,    # IN     int                    first query of the block
    k,        # IN     int
    Q,        # IN     (nq, d)       float
    panels,   # IN     (n_panels,)   int64    numbers of panels, list after list
    offsets,  # IN     (nlist + 1,)  int64    where each list starts among them
    index,    # IN     FlatIndex
    block,    # INOUT  SQ8Block
    exact,    # SCRATCH (capacity,)  float64
):
    """Bring the candidates of a block up to date with lists, each read once."""
    if probes.size == 0:
        return
    all_codes, all_biases = block.panels.codes, block.panels.biases
    n_lists, list_numbers, starts, members_of_all, _ = group_by_list(probes, offsets)
    # The members' codes side by side, as the tile wants them.
    codes = empty(all_codes.shape, np.int8)
    biases = empty(len(all_codes), np.int32)
    for nth in range(n_lists):
        list_number = list_numbers[nth]
        members = members_of_all[starts[nth] : starts[nth + 1]]
        for j in range(len(members)):
            biases[j] = all_biases[members[j]]
            copy_row(all_codes, members[j], codes, j)
        in_list = panels[offsets[list_number] : offsets[list_number + 1]]
        _collect(in_list, members, codes, biases, start, k, Q, index, block, exact)


@jit
def search_lists(
    start,       # IN   int           first query
    stop,        # IN   int           one past the last
    n_together,  # IN   int           queries that read a list once
    Q,           # IN   (nq, d)       float
    probes,      # IN   (nq, nprobe)  int64    lists to search; -1: none
    panels,      # IN   (n_panels,)   int64    numbers of panels, list after list
    offsets,     # IN   (nlist + 1,)  int64    where each list starts among them
    index,       # IN   FlatIndex
    sqdists,     # OUT  (nq, k)       float64  ascending
    ids,         # OUT  (nq, k)       int64    -1 where there is none
):
    """The k nearest rows of each query in the lists that it probes.

    A query that goes through lists with others meets its nearest one first where that
    pays: then its threshold is good for all others. With a projection it does, since
    rows that a loose threshold lets pass cost a second dot product.
    """
    k, nprobe, index = sqdists.shape[1], probes.shape[1], borrowed(index)
    exact, nlist = empty(capacity(k), np.float64), len(offsets) - 1
    is_projected, has_many = len(index.full.codes) > 0, nprobe >= _MANY_LISTS
    for first in range(start, stop, n_together):
        last = min(first + n_together, stop)
        owned = encode_queries(first, last, Q, index, len(exact))
        block = borrowed(owned)
        is_shared = has_many and last - first >= _SHARED * nlist
        nearest = nprobe
        if last - first > 1 and (is_projected or is_shared):
            nearest = 1
        for rank, end in ((0, nearest), (nearest, nprobe)):
            some = probes[first:last, rank:end]
            _collect_lists(some, first, k, Q, panels, offsets, index, block, exact)
        members = count_up(last - first)
        finish(first, members, Q, index, block, exact, sqdists, ids)
        keep(owned)


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
    sqdists, ids = np.empty((nq, k)), np.empty((nq, k), np.int64)
    n_threads = limit_threads(n_threads, nq, n_products(index))
    if n_threads > 1 and nq < 2 * TILE * n_threads:
        return _knn_over_rows(Q, index, k, n_threads)
    probes, lists = read_only(np.zeros((nq, 1), np.int64)), _one_list(len(index.codes))
    run_blocks(
        lambda start, stop: search_lists(
            start, stop, max(nq, 1), Q, probes, *lists, index, sqdists, ids
        ),
        split_queries(nq, Q.shape[1], k, n_threads, _BLOCK_BYTES),
        n_threads,
    )
    return sqdists, ids


# A single query does not wait for them to be made again.
@lru_cache(maxsize=16)
def _one_list(n_panels):
    """Panels and offsets of a list of all panels."""
    return read_only(np.arange(n_panels)), read_only(np.array([0, n_panels]))


def _knn_over_rows(Q, index, k, n_threads):
    """Few queries: each thread searches a share of the rows; the best are merged."""
    nq, n_panels = len(Q), len(index.codes)
    panels, offsets = np.arange(n_panels), n_panels * np.arange(n_threads + 1)
    lists = read_only(panels), read_only(offsets // n_threads)
    sqdists = np.empty((n_threads, nq, k))
    ids = np.empty((n_threads, nq, k), np.int64)

    def search(part):
        probes = read_only(np.full((nq, 1), part))
        search_lists(0, nq, nq, Q, probes, *lists, index, sqdists[part], ids[part])

    run_blocks(search, ((part,) for part in range(n_threads)), n_threads)
    sqdists, ids = np.hstack(sqdists), np.hstack(ids)
    # Seen as unsigned, the -1 of an empty place comes last among equal distances.
    order = np.lexsort((ids.view(np.uint64), sqdists))[:, :k]
    return np.take_along_axis(sqdists, order, 1), np.take_along_axis(ids, order, 1)
