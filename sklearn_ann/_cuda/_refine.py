"""Re-ranking: the best of some candidates, by their exact distances."""

from __future__ import annotations

import math

import numpy as np

from sklearn_ann._cuda._compat import WARP, cuda, kernel, launch, to_device
from sklearn_ann._cuda._distance import MEASURE_THREADS, sqdist
from sklearn_ann._cuda._image import remember
from sklearn_ann._cuda._memory import check_room, split_rows
from sklearn_ann._cuda._scratch import new_scratch, scratch, scratch_copy
from sklearn_ann._cuda._topk import NO_ROW, THREADS, select


@kernel
def _measure_rows(
    X,           # IN   (n, d)        float
    Q,           # IN   (nq, d)       float
    candidates,  # IN   (nq, n_candidates)  int32  -1: none
    room,        # IN   int           at least n_candidates
    rows,        # OUT  (nq * room,)  int32    NO_ROW where there is none
    sqdists,     # OUT  (nq * room,)  float64  +inf where there is none
):
    """The exact distances of candidates that are known by number; a query a block."""
    query, n_warps = cuda.blockIdx.x, cuda.blockDim.x // WARP
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    for c in range(warp, candidates.shape[1], n_warps):
        row, exact = candidates[query, c], math.inf
        if row >= 0:
            exact = sqdist(X, row, Q, query, lane)
        if lane == 0:
            rows[query * room + c] = row if row >= 0 else NO_ROW
            sqdists[query * room + c] = exact


def refine(Q, X, candidates, k, n_threads):
    """The k nearest of some candidates of each query, measured exactly.

    Parameters and returns are those of ``_cpu.refine``. The vectors stay on the GPU as
    long as the array does.
    """
    return nearest_of(Q, remember(X, lambda: _upload(X)), candidates, k)


def _upload(X):
    check_room(X.nbytes, f"Refinement with the vectors of {len(X)} rows")
    return to_device(X)


def nearest_of(Q, X, candidates, k):
    """As ``refine``, of vectors on the GPU."""
    n, n_candidates = candidates.shape
    room = _room_for(n_candidates)
    sqdists, ids = np.empty((n, k)), np.empty((n, k), np.int64)
    n_bytes = Q.shape[1] * Q.itemsize + 4 * n_candidates + 12 * room + 16 * k
    for start, stop in split_rows(n, n_bytes):
        with scratch():
            nearest = _nearest_of_part(Q[start:stop], X, candidates[start:stop], k)
            sqdists[start:stop], ids[start:stop] = nearest
    ids[ids == NO_ROW] = -1
    return sqdists, ids


def _nearest_of_part(Q, X, candidates, k):
    m, n_candidates = candidates.shape
    room = _room_for(n_candidates)
    rows = new_scratch(m * room, np.int32)
    row_sqdists = new_scratch(m * room, np.float64)
    some = scratch_copy(candidates.astype(np.int32))
    launch(
        _measure_rows, m, MEASURE_THREADS,
        X, scratch_copy(Q), some, room, rows, row_sqdists,
    )  # fmt: skip
    starts, counts = np.arange(m + 1) * room, np.full(m, n_candidates, np.int32)
    sqdists, ids = new_scratch((m, k), np.float64), new_scratch((m, k), np.int64)
    launch(
        select, m, THREADS,
        k, scratch_copy(starts), scratch_copy(counts), rows, row_sqdists,
        sqdists, ids,
    )  # fmt: skip
    return sqdists.copy_to_host(), ids.copy_to_host()


def _room_for(n_candidates):
    """The sort wants a power of two."""
    return 2 ** math.ceil(math.log2(n_candidates))
