"""Exact nearest neighbours: filter in float32, measure what is left in float64.

The rows are visited in rounds that grow. After each, the candidates of a query are cut
at a bound for its k-th smallest distance, which becomes the threshold of the next
round: no matrix of distances is ever written. What is left at the end is measured as on
the CPU and sorted by distance and row number, so the answer has the same bits.

A query whose candidates overflow has lost some, but its threshold is good: the query is
searched once more, from that threshold on. If they overflow again, as they do when more
rows are equally near than there is room for, all rows are measured for it.
"""

from __future__ import annotations

import math

import numpy as np

from sklearn_ann._cuda._candidates import empty_candidates, equal_starts
from sklearn_ann._cuda._chains import panel_of_chain
from sklearn_ann._cuda._compat import (
    WARP,
    cuda,
    float32,
    int32,
    kernel,
    launch,
)
from sklearn_ann._cuda._distance import sqdist
from sklearn_ann._cuda._fp32_filter import TILE
from sklearn_ann._cuda._fp32_routes import AllRows
from sklearn_ann._cuda._image import image_of
from sklearn_ann._cuda._memory import split_queries
from sklearn_ann._cuda._queries import bytes_of_query, take_queries
from sklearn_ann._cuda._scratch import (
    new_scratch,
    scratch,
    scratch_copy,
    scratch_zeros,
)
from sklearn_ann._cuda._topk import (
    NO_ROW,
    THREADS,
    select,
    shrink_candidates,
    sort_pairs,
)
from sklearn_ann._layout import PANEL

# Candidates of a query: room for at least so many, and for 64 for each neighbour up to
# so many, so that rounds are few; for many neighbours 16 for each. k-means has many
# queries at once, and wants one neighbour.
_LEAST_CAPACITY, _LARGE_CAPACITY = 256, 1024


@kernel
def _measure_chains(
    X,            # IN   (n, d)       float
    rows_at,      # IN   (n_positions,)  int32  row at each position; -1: none
    by_position,  # IN   bool         whether X has rows by position, or by number
    Q,            # IN   (nq, d)      float
    queries,      # IN   (m,)         int32    which of them; one a block
    panels,       # IN   (n_panels,)  int32    see Chains, which are those of the m
    offsets,      # IN   (nlist + 1,)  int64
    probes,       # IN   (m, nprobe)  int32
    ends,         # IN   (m, nprobe)  int32
    k,            # IN   int
    length,       # IN   int          of a query's scratch: 2**i, at least k + 64
    row_sqdists,  # SCRATCH (m * length,)  float64
    rows,         # SCRATCH (m * length,)  int32
    sqdists,      # OUT  (m, k)       float64  ascending; +inf where there is none
    ids,          # OUT  (m, k)       int64    -1 where there is none
):
    """The k nearest rows of the chains of some queries: all are measured."""
    n_kept = cuda.shared.array(1, int32)
    block, n_warps = cuda.blockIdx.x, cuda.blockDim.x // WARP
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    query, start, room = queries[block], block * length, length - PANEL
    farthest, last, n_visited = math.inf, NO_ROW, ends[block, ends.shape[1] - 1]
    if cuda.threadIdx.x == 0:
        n_kept[0] = 0
    cuda.syncthreads()
    for visited in range(n_visited):
        panel = panel_of_chain(panels, offsets, probes, ends, block, visited)
        for position in range(panel * PANEL + warp, (panel + 1) * PANEL, n_warps):
            row = rows_at[position]
            if row >= 0:
                exact = sqdist(X, position if by_position else row, Q, query, lane)
                is_near = exact < farthest or (exact == farthest and row < last)
                if lane == 0 and is_near:
                    slot = start + cuda.atomic.add(n_kept, 0, 1)
                    row_sqdists[slot], rows[slot] = exact, row
        cuda.syncthreads()
        count = n_kept[0]
        cuda.syncthreads()
        if count > room or visited == n_visited - 1:
            sort_pairs(row_sqdists, rows, start, count)
            if count >= k:
                farthest, last = row_sqdists[start + k - 1], rows[start + k - 1]
            cuda.syncthreads()
            if cuda.threadIdx.x == 0:
                n_kept[0] = min(count, k)
            cuda.syncthreads()
    count = n_kept[0]
    for c in range(cuda.threadIdx.x, k, cuda.blockDim.x):
        sqdists[block, c] = row_sqdists[start + c] if c < count else math.inf
        ids[block, c] = rows[start + c] if c < count else -1


def knn(Q, index, k, n_threads):
    """The k nearest rows of each query, exactly.

    Parameters and returns are those of ``_cpu.knn``.
    """
    image = image_of(index)
    return knn_of(Q, k, AllRows.route_of(image), bytes_of_query(Q, image))


def knn_of(Q, k, route_of, n_bytes):
    """The k nearest rows on the route of each query, which may be on the GPU.

    ``route_of(start, stop)`` is that of some queries: see ``_routes``. A query takes
    `n_bytes` on the GPU, and its candidates.
    """
    parts = [
        _knn_part(Q[start:stop], k, route_of(start, stop))
        for start, stop in split_queries(len(Q), n_bytes, capacity(k))
    ]
    return _joined(parts)


def _joined(parts):
    """Distances and ids of the queries of all parts."""
    if len(parts) == 1:
        return parts[0]
    sqdists, ids = map(np.concatenate, zip(*parts, strict=True))
    return sqdists, ids


def capacity(k):
    """Candidates that a query has room for: a power of two, many times k."""
    least = max(_LEAST_CAPACITY, min(_LARGE_CAPACITY, 64 * k), 16 * k)
    return 2 ** math.ceil(math.log2(least))


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


def _knn_part(Q, k, route):
    """As ``knn_of``, for queries whose candidates fit into memory."""
    with scratch():
        queries, thresholds = route.upload(Q, math.inf)
        ends = rounds(route.n_tiles, k)
        sqdists, ids, is_lost = search(queries, k, route, thresholds, ends)
        lost = np.flatnonzero(is_lost)
        if len(lost):
            again = _search_again(queries, lost, thresholds, k, route)
            sqdists[lost], ids[lost] = again
    return sqdists, ids


def _search_again(queries, lost, thresholds, k, route):
    """The k nearest rows of some queries, from the thresholds on that they have."""
    route = route.some(lost)
    again, _ = route.upload(take_queries(queries, lost), math.inf)
    # NaN for the padding, which has no candidates.
    lowered = np.full(len(again.spreads), np.nan, np.float32)
    lowered[: len(lost)] = thresholds.copy_to_host()[lost]
    sqdists, ids, is_lost = search(
        again, k, route, scratch_copy(lowered), [route.n_tiles]
    )
    if is_lost.any():
        route = route.some(np.flatnonzero(is_lost))
        measured = _measure_all(queries.Q, lost[is_lost], route, k)
        sqdists[is_lost], ids[is_lost] = measured
    return sqdists, ids


def search(queries, k, route, thresholds, ends):
    """The k nearest rows, starting from thresholds, which become lower.

    Returns squared distances and ids, and which of the queries are not answered.
    """
    n, padded, bound = queries.n, len(thresholds), route.bound
    candidates = empty_candidates(equal_starts(n, padded, capacity(k)))
    is_lost = scratch_zeros(padded, np.int32)
    seen = 0
    for end in ends:
        route.visit(queries, seen, end, thresholds, candidates)
        launch(
            shrink_candidates, n, THREADS,
            k, float32(bound.gap_factor), float32(bound.underflow), queries.spreads,
            candidates.starts, thresholds, candidates.counts, is_lost,
            candidates.lowers, candidates.uppers, candidates.positions,
        )  # fmt: skip
        seen = end
    route.measure(queries, candidates)
    sqdists, ids = new_scratch((n, k), np.float64), new_scratch((n, k), np.int64)
    launch(
        select, n, THREADS,
        k, candidates.starts, candidates.counts, candidates.rows, candidates.sqdists,
        sqdists, ids,
    )  # fmt: skip
    is_lost = is_lost.copy_to_host()[:n] > 0
    return sqdists.copy_to_host(), ids.copy_to_host(), is_lost


def _measure_all(Q, queries, route, k):
    """The k nearest rows of some queries that the filter could not answer."""
    length, parts = 2 ** math.ceil(math.log2(k + PANEL)), []
    for start, stop, X, rows_at, by_position, chains in route.rows():
        with scratch():
            m, of_part = stop - start, queries[start:stop].astype(np.int32)
            sqdists = new_scratch((m, k), np.float64)
            ids = new_scratch((m, k), np.int64)
            launch(
                _measure_chains, m, THREADS,
                X, rows_at, by_position, Q, scratch_copy(of_part),
                chains.panels, chains.offsets, chains.probes, chains.ends,
                k, length,
                new_scratch(m * length, np.float64), new_scratch(m * length, np.int32),
                sqdists, ids,
            )  # fmt: skip
            parts.append((sqdists.copy_to_host(), ids.copy_to_host()))
    return _joined(parts)
