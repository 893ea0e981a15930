"""Selection by a block of threads: a bound for the k-th, what is near, sorted pairs."""

from __future__ import annotations

import math

from sklearn_ann._cuda._candidates import rounded_up
from sklearn_ann._cuda._compat import (
    FULL_WARP,
    INFINITY,
    WARP,
    bits_of,
    cuda,
    device,
    float32,
    float_of,
    int32,
    int64,
    kernel,
)

# One block selects for one query.
THREADS = 128
N_WARPS = THREADS // WARP
TWO_PER_WARP = 2 * N_WARPS

# Sorts after all rows at the same distance.
NO_ROW = 2**31 - 1


@device
def _ordered(value):
    """An integer for each float32, in the same order."""
    bits = bits_of(value)
    return int64(bits if bits >= 0 else bits ^ 0x7FFFFFFF)


@device
def _from_ordered(key):
    """The float32 of an integer of ``_ordered``."""
    return float_of(int32(key if key >= 0 else key ^ 0x7FFFFFFF))


@device
def _block_range(smallest, largest):
    """The smallest and the largest of the numbers of all threads."""
    scratch = cuda.shared.array(TWO_PER_WARP, int64)
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    offset = WARP // 2
    while offset > 0:
        smallest = min(smallest, cuda.shfl_xor_sync(FULL_WARP, smallest, offset))
        largest = max(largest, cuda.shfl_xor_sync(FULL_WARP, largest, offset))
        offset >>= 1
    if lane == 0:
        scratch[2 * warp] = smallest
        scratch[2 * warp + 1] = largest
    cuda.syncthreads()
    for other in range(N_WARPS):
        smallest = min(smallest, scratch[2 * other])
        largest = max(largest, scratch[2 * other + 1])
    cuda.syncthreads()
    return smallest, largest


@device
def above_kth_smallest(values, start, count, k):
    """The k-th smallest value, or one below the next larger: k values do not exceed it.

    Of ``values[start : start + count]``, float32, +inf for unknown; +inf if fewer than
    k are known. By halving the range, of integers, so that it does not matter how much
    wider it is than the values of interest; mostly a dozen times.
    """
    t = cuda.threadIdx.x
    low, high, n_finite = _ordered(INFINITY), _ordered(-INFINITY), 0
    for first in range(0, count, THREADS):
        value = INFINITY
        if first + t < count:
            value = values[start + first + t]
        if value < INFINITY:
            low, high = min(low, _ordered(value)), max(high, _ordered(value))
        n_finite += cuda.syncthreads_count(int32(value < INFINITY))
    if n_finite < k:
        return INFINITY
    low, high = _block_range(low, high)
    while low < high:
        middle = (low + high) >> 1
        n_below = 0
        for first in range(0, count, THREADS):
            is_below = int32(0)
            if first + t < count:
                is_below = int32(_ordered(values[start + first + t]) <= middle)
            n_below += cuda.syncthreads_count(is_below)
        if n_below >= k:
            high = middle
        else:
            low = middle + 1
        if n_below == k:
            break
    return _from_ordered(high)


@device
def _drop_far(lowers, uppers, positions, start, count, threshold):
    """Drop candidates above the threshold; the others move up. How many stay."""
    warp_counts = cuda.shared.array(N_WARPS, int32)
    t = cuda.threadIdx.x
    lane, warp = t % WARP, t // WARP
    kept = 0
    for first in range(0, count, THREADS):
        lower, upper, position, is_kept = INFINITY, INFINITY, int32(0), False
        if first + t < count:
            slot = start + first + t
            lower, upper, position = lowers[slot], uppers[slot], positions[slot]
            is_kept = lower <= threshold
        mask = cuda.ballot_sync(FULL_WARP, is_kept)
        if lane == 0:
            warp_counts[warp] = cuda.popc(mask)
        cuda.syncthreads()
        slot = start + kept + cuda.popc(mask & ((1 << lane) - 1))
        for other in range(N_WARPS):
            slot += warp_counts[other] if other < warp else 0
            kept += warp_counts[other]
        if is_kept:
            lowers[slot], uppers[slot], positions[slot] = lower, upper, position
        cuda.syncthreads()
    return kept


@kernel
def shrink_candidates(
    k,           # IN     int
    gap_factor,  # IN     float32           see Bound
    underflow,   # IN     float32           see Bound
    spreads,     # IN     (padded,)         float32  of the queries: see Bound
    starts,      # IN     (padded + 1,)     int64    see Candidates
    thresholds,  # INOUT  (padded,)         float32
    counts,      # INOUT  (padded,)         int32
    is_lost,     # INOUT  (padded,)         int32    1: there was not room for all
    lowers,      # INOUT  (n_candidates,)   float32
    uppers,      # INOUT  (n_candidates,)   float32
    positions,   # INOUT  (n_candidates,)   int32
):
    """Lower the thresholds; drop the candidates above them. One query a block."""
    query = cuda.blockIdx.x
    start = starts[query]
    room = starts[query + 1] - start
    count = counts[query]
    before = thresholds[query]
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        is_lost[query] |= count > room
        counts[query] = min(count, room)
    count = min(count, room)
    if count >= k:
        upper = above_kth_smallest(uppers, start, count, k)
        threshold = upper + gap_factor * spreads[query] + float32(4) * underflow
        threshold = min(before, rounded_up(threshold))
        kept = _drop_far(lowers, uppers, positions, start, count, threshold)
        if cuda.threadIdx.x == 0:
            thresholds[query] = threshold
            counts[query] = kept


@device
def _is_after(sqdist_a, id_a, sqdist_b, id_b):
    return sqdist_a > sqdist_b or (sqdist_a == sqdist_b and id_a > id_b)


@device
def sort_pairs(sqdists, ids, start, count):
    """Sort the pairs start to start + count by (distance, id).

    A bitonic sort by all threads of a block. What is behind the pairs is overwritten,
    up to the next power of two.
    """
    length = 1
    while length < count:
        length *= 2
    for i in range(count + cuda.threadIdx.x, length, cuda.blockDim.x):
        sqdists[start + i], ids[start + i] = math.inf, NO_ROW
    size = 2
    while size <= length:
        distance = size // 2
        while distance > 0:
            cuda.syncthreads()
            for i in range(cuda.threadIdx.x, length, cuda.blockDim.x):
                j = i ^ distance
                if j > i:
                    a, b = start + i, start + j
                    sqdist_a, id_a, sqdist_b, id_b = (
                        sqdists[a], ids[a], sqdists[b], ids[b],
                    )  # fmt: skip
                    is_after = _is_after(sqdist_a, id_a, sqdist_b, id_b)
                    if is_after == ((i & size) == 0):
                        sqdists[a], ids[a] = sqdist_b, id_b
                        sqdists[b], ids[b] = sqdist_a, id_a
            distance //= 2
        size *= 2
    cuda.syncthreads()


@kernel
def select(
    k,            # IN     int
    starts,       # IN     (padded + 1,)    int64    see Candidates
    counts,       # IN     (padded,)        int32
    rows,         # INOUT  (n_candidates,)  int32    the room is a power of two
    row_sqdists,  # INOUT  (n_candidates,)  float64
    sqdists,      # OUT    (nq, k)          float64  ascending; +inf where there is none
    ids,          # OUT    (nq, k)          int64    -1 where there is none
):
    """The k nearest of the candidates of each query; one query a block."""
    query = cuda.blockIdx.x
    start, count = starts[query], counts[query]
    sort_pairs(row_sqdists, rows, start, count)
    for c in range(cuda.threadIdx.x, k, cuda.blockDim.x):
        sqdists[query, c] = row_sqdists[start + c] if c < count else math.inf
        ids[query, c] = rows[start + c] if c < count else -1
