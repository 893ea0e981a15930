"""Selection of the k smallest: a bound for the k-th, these in order, sorts of pairs."""

from __future__ import annotations

import numpy as np

from sklearn_ann._cpu._jit import jit_part

# Halvings of the range of the values: the answers are less than a thousandth of that
# range apart. Each is one pass without a branch, which for some dozens of values takes
# half as long as a quickselect.
_HALVINGS = 10


@jit_part
def bracket_kth_smallest(
    values,  # IN  (>= count,)  float64  not negative; infinite for unknown
    count,   # IN  int          values in use
    k,       # IN  int          1 is the smallest
):
    """Two numbers that the k-th smallest value lies between, or is: close ones."""
    low, high, n_finite = 0.0, 0.0, 0
    for c in range(count):
        is_finite = values[c] < np.inf
        n_finite += is_finite
        high = max(high, values[c] if is_finite else 0.0)
    if n_finite < k:
        return np.inf, np.inf
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        n_below = 0
        for c in range(count):
            n_below += values[c] <= middle
        if n_below >= k:
            high = middle
        else:
            low = middle
    return low, high


@jit_part
def above_kth_smallest(values, count, k):
    """A number hardly above the k-th smallest value: at least k do not exceed it."""
    return bracket_kth_smallest(values, count, k)[1]


@jit_part
def is_after(sqdist_a, id_a, sqdist_b, id_b):
    return sqdist_a > sqdist_b or (sqdist_a == sqdist_b and id_a > id_b)


@jit_part
def _sift_down(sqdists, ids, root, end):
    """Restore the max-heap below `root`, in the first `end` pairs."""
    sqdist, id_ = sqdists[root], ids[root]
    while 2 * root + 1 < end:
        child = 2 * root + 1
        if child + 1 < end and is_after(
            sqdists[child + 1], ids[child + 1], sqdists[child], ids[child]
        ):
            child += 1
        if not is_after(sqdists[child], ids[child], sqdist, id_):
            break
        sqdists[root], ids[root] = sqdists[child], ids[child]
        root = child
    sqdists[root], ids[root] = sqdist, id_


@jit_part
def make_heap(
    sqdists,  # INOUT  (>= count,)  float64  the last by (distance, id) first
    ids,      # INOUT  (>= count,)  int64
    count,    # IN     int
):
    """Order pairs as a max-heap."""
    for root in range(count // 2 - 1, -1, -1):
        _sift_down(sqdists, ids, root, count)


@jit_part
def replace_root(
    sqdists,  # INOUT  (>= count,)  float64  a max-heap
    ids,      # INOUT  (>= count,)  int64
    count,    # IN     int
    sqdist,   # IN     float
    id_,      # IN     int
):
    """Put a pair in the place of the last by (distance, id)."""
    sqdists[0], ids[0] = sqdist, id_
    _sift_down(sqdists, ids, 0, count)


@jit_part
def sort_pairs(
    sqdists,  # INOUT  (>= count,)  float64  ascending on return
    ids,      # INOUT  (>= count,)  int64    ascending among equal distances
    count,    # IN     int
):
    """Heapsort by (distance, id): in place, and never slower than n log n."""
    make_heap(sqdists, ids, count)
    for end in range(count - 1, 0, -1):
        sqdists[0], sqdists[end] = sqdists[end], sqdists[0]
        ids[0], ids[end] = ids[end], ids[0]
        _sift_down(sqdists, ids, 0, end)


@jit_part
def sort_smallest(
    sqdists,  # INOUT  (>= count,)  float64  not negative
    ids,      # INOUT  (>= count,)  int64
    count,    # IN     int
    k,        # IN     int
):
    """Bring the k smallest pairs forward, in order; how many these are."""
    bound, kept = above_kth_smallest(sqdists, count, k), 0
    for c in range(count):
        sqdist, id_ = sqdists[c], ids[c]
        sqdists[kept], ids[kept] = sqdist, id_
        kept += sqdist <= bound
    sort_pairs(sqdists, ids, kept)
    return min(kept, k)
