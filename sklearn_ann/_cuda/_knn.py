"""Exact nearest neighbours: filter in float32, measure what is left in float64.

The rows are visited in rounds that grow. After each, the list of candidates of a query
is cut at a bound for its k-th smallest distance, which becomes the threshold of the
next round: no matrix of distances is ever written. What is left at the end is measured
as on the CPU and sorted by distance and row number, so the answer has the same bits.

A list that overflows has lost candidates, but its threshold is good: the query is
searched once more, from that threshold on. If its list overflows again, as it does when
more rows are equally near than a list holds, all rows are measured for it.
"""

from __future__ import annotations

import math

import numpy as np

from sklearn_ann._cuda._compat import (
    WARP,
    cuda,
    empty,
    float32,
    int32,
    kernel,
    launch,
    to_device,
)
from sklearn_ann._cuda._distance import measure_candidates, sqdist
from sklearn_ann._cuda._filter import TILE, filter_tiles, set_thresholds
from sklearn_ann._cuda._image import (
    empty_lists,
    equal_starts,
    image_of,
    split_queries,
    upload_queries,
)
from sklearn_ann._cuda._topk import NO_ROW, THREADS, select, shrink, sort_pairs

# Places in a list: at least so many, so that rounds are few.
_SHORTEST_LIST = 1024

# Rows that a block measures before it looks whether its list is full.
_MEASURED = 64


@kernel
def _knn_of_all(
    X,            # IN   (n, d)      float
    Q,            # IN   (nq, d)     float
    queries,      # IN   (m,)        int32    which of them; one a block
    k,            # IN   int
    length,       # IN   int         of a list: a power of two, at least k + 64
    row_sqdists,  # SCRATCH (m * length,)  float64
    rows,         # SCRATCH (m * length,)  int32
    sqdists,      # OUT  (m, k)      float64  ascending
    ids,          # OUT  (m, k)      int64
):
    """The k nearest rows, all of which are measured."""
    n_listed = cuda.shared.array(1, int32)
    block, n, n_warps = cuda.blockIdx.x, X.shape[0], cuda.blockDim.x // WARP
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    query, start, room = queries[block], block * length, length - _MEASURED
    farthest, last = math.inf, NO_ROW
    if cuda.threadIdx.x == 0:
        n_listed[0] = 0
    cuda.syncthreads()
    for first in range(0, n, _MEASURED):
        for row in range(first + warp, min(n, first + _MEASURED), n_warps):
            exact = sqdist(X, row, Q, query, lane)
            is_near = exact < farthest or (exact == farthest and row < last)
            if lane == 0 and is_near:
                slot = start + cuda.atomic.add(n_listed, 0, 1)
                row_sqdists[slot], rows[slot] = exact, row
        cuda.syncthreads()
        count = n_listed[0]
        cuda.syncthreads()
        if count > room or first + _MEASURED >= n:
            sort_pairs(row_sqdists, rows, start, count)
            if count >= k:
                farthest, last = row_sqdists[start + k - 1], rows[start + k - 1]
            cuda.syncthreads()
            if cuda.threadIdx.x == 0:
                n_listed[0] = min(count, k)
            cuda.syncthreads()
    for c in range(cuda.threadIdx.x, k, cuda.blockDim.x):
        sqdists[block, c] = row_sqdists[start + c]
        ids[block, c] = rows[start + c]


def knn(Q, index, k, n_threads):
    """The k nearest rows of each query, exactly.

    Parameters and returns are those of ``_cpu.knn``.
    """
    image = image_of(index)
    parts = [
        _knn_part(Q[start:stop], image, k)
        for start, stop in split_queries(Q, image, capacity(k))
    ]
    sqdists, ids = map(np.concatenate, zip(*parts, strict=True))
    return sqdists, ids


def capacity(k):
    """Places in the list of a query: a power of two, many times what it shall find."""
    return max(_SHORTEST_LIST, 2 ** math.ceil(math.log2(16 * k)))


def rounds(n_tiles, k):
    """How many tiles have been visited after each round.

    Among the first rows all are candidates. If rows come in no order, the number of
    candidates below a threshold grows in proportion: to a quarter of the room.
    """
    seen = min(n_tiles, -(-4 * k // TILE))
    growth = 1 + capacity(k) // (4 * k)
    ends = [seen]
    while seen < n_tiles:
        seen = min(n_tiles, seen * growth)
        ends.append(seen)
    return ends


def _knn_part(Q, image, k):
    """As ``knn``, for queries whose lists fit into memory."""
    queries = upload_queries(Q, image)
    thresholds = empty(len(queries.norms), np.float32)
    launch(
        set_thresholds, len(thresholds) // THREADS, THREADS,
        queries.norms, math.inf, image.bound.keep, thresholds,
    )  # fmt: skip
    ends = rounds(image.n_tiles, k)
    sqdists, ids, is_lost = search(queries, image, k, thresholds, ends)
    lost = np.flatnonzero(is_lost)
    if len(lost):
        again = upload_queries(Q[lost], image)
        known = np.full(len(again.norms), np.nan, np.float32)
        known[: len(lost)] = thresholds.copy_to_host()[lost]
        found = search(again, image, k, to_device(known), [image.n_tiles])
        sqdists[lost], ids[lost], is_lost = found
        lost = lost[is_lost]
    if len(lost):
        sqdists[lost], ids[lost] = _measure_all(queries.Q, image.X, lost, k)
    return sqdists, ids


def search(queries, image, k, thresholds, ends):
    """The k nearest rows, starting from thresholds, which become lower.

    Returns squared distances and ids, and which of the queries are not answered.
    """
    n, padded = queries.n, len(queries.norms)
    lists = empty_lists(equal_starts(n, padded, capacity(k)))
    is_lost = to_device(np.zeros(padded, np.int32))
    seen = 0
    for end in ends:
        filter_tiles(queries, image, seen, end, thresholds, lists)
        launch(
            shrink, n, THREADS,
            k, float32(image.bound.twice), float32(image.bound.tiny), queries.norms,
            lists.starts, thresholds, lists.counts, is_lost,
            lists.lows, lists.uppers, lists.places,
        )  # fmt: skip
        seen = end
    measure_candidates(queries.Q, n, image, lists)
    sqdists, ids = empty((n, k), np.float64), empty((n, k), np.int64)
    launch(
        select, n, THREADS,
        k, lists.starts, lists.counts, lists.rows, lists.sqdists, sqdists, ids,
    )  # fmt: skip
    is_lost = is_lost.copy_to_host()[:n] > 0
    return sqdists.copy_to_host(), ids.copy_to_host(), is_lost


def _measure_all(Q, X, queries, k):
    """The k nearest rows of some queries that the filter could not answer."""
    m, length = len(queries), 2 ** math.ceil(math.log2(k + _MEASURED))
    sqdists, ids = empty((m, k), np.float64), empty((m, k), np.int64)
    launch(
        _knn_of_all, m, THREADS,
        X, Q, to_device(queries.astype(np.int32)), k, length,
        empty(m * length, np.float64), empty(m * length, np.int32), sqdists, ids,
    )  # fmt: skip
    return sqdists.copy_to_host(), ids.copy_to_host()
