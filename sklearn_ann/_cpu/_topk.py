"""Selection of the k smallest: a quickselect, and a sort of (distance, id) pairs."""

from __future__ import annotations

from sklearn_ann._cpu._jit import jit


@jit
def kth_smallest(
    values,   # IN       (>= count,)  float64
    count,    # IN       int          values in use, at least k
    k,        # IN       int          1 is the smallest
    scratch,  # SCRATCH  (>= count,)  float64
):
    """Hoare's quickselect on a copy: average time linear in `count`."""
    for i in range(count):
        scratch[i] = values[i]
    low, high = 0, count - 1
    while low < high:
        pivot = scratch[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while scratch[i] < pivot:
                i += 1
            while scratch[j] > pivot:
                j -= 1
            if i <= j:
                scratch[i], scratch[j] = scratch[j], scratch[i]
                i += 1
                j -= 1
        if k - 1 <= j:
            high = j
        elif k - 1 >= i:
            low = i
        else:
            break
    return scratch[k - 1]


@jit
def _is_after(sqdist_a, id_a, sqdist_b, id_b):
    return sqdist_a > sqdist_b or (sqdist_a == sqdist_b and id_a > id_b)


@jit
def _sift_down(sqdists, ids, root, end):
    """Restore the max-heap below `root`, in the first `end` pairs."""
    sqdist, id_ = sqdists[root], ids[root]
    while 2 * root + 1 < end:
        child = 2 * root + 1
        if child + 1 < end and _is_after(
            sqdists[child + 1], ids[child + 1], sqdists[child], ids[child]
        ):
            child += 1
        if not _is_after(sqdists[child], ids[child], sqdist, id_):
            break
        sqdists[root], ids[root] = sqdists[child], ids[child]
        root = child
    sqdists[root], ids[root] = sqdist, id_


@jit
def sort_pairs(
    sqdists,  # INOUT  (>= count,)  float64  ascending on return
    ids,      # INOUT  (>= count,)  int64    ascending among equal distances
    count,    # IN     int
):
    """Heapsort by (distance, id): in place, and never slower than n log n."""
    for root in range(count // 2 - 1, -1, -1):
        _sift_down(sqdists, ids, root, count)
    for end in range(count - 1, 0, -1):
        sqdists[0], sqdists[end] = sqdists[end], sqdists[0]
        ids[0], ids[end] = ids[end], ids[0]
        _sift_down(sqdists, ids, 0, end)
