"""The exact distance of two vectors: the same bits as on the CPU."""

from __future__ import annotations

from sklearn_ann._cuda._compat import (
    FULL_WARP,
    WARP,
    add_exactly_rounded,
    cuda,
    device,
    float64,
    kernel,
    launch,
    multiply_exactly_rounded,
)

# One warp measures one candidate after the other of its query.
MEASURE_THREADS = 128

# ``_cpu/_distance.py`` adds up in 4 vectors of 8 numbers.
_VECTOR = 8


@device
def sqdist(X, i, Q, j, lane):
    """Squared distance of ``X[i]`` and ``Q[j]``, by all lanes of a warp.

    In the order of ``_cpu/_distance.py``: lane n of 32 adds up what is number n % 8 of
    vector n // 8 there; then the four vectors are added, then halves of the sum. No
    addition is fused with a multiplication.
    """
    d = X.shape[1]
    whole = d // WARP * WARP
    chain = float64(0)
    for t in range(lane, whole, WARP):
        difference = add_exactly_rounded(float64(X[i, t]), -float64(Q[j, t]))
        square = multiply_exactly_rounded(difference, difference)
        chain = add_exactly_rounded(chain, square)
    rest = float64(0)
    for t in range(whole, d):
        difference = add_exactly_rounded(float64(X[i, t]), -float64(Q[j, t]))
        square = multiply_exactly_rounded(difference, difference)
        rest = add_exactly_rounded(rest, square)
    if whole == 0:
        return rest
    total = cuda.shfl_sync(FULL_WARP, chain, lane % _VECTOR)
    for vector in range(1, WARP // _VECTOR):
        source = lane % _VECTOR + vector * _VECTOR
        other = cuda.shfl_sync(FULL_WARP, chain, source)
        total = add_exactly_rounded(total, other)
    half = _VECTOR // 2
    while half > 0:
        other = cuda.shfl_xor_sync(FULL_WARP, total, half)
        total = add_exactly_rounded(total, other)
        half >>= 1
    return add_exactly_rounded(rest, total)


@kernel
def measure(
    X,        # IN   (n, d)           float
    ids,      # IN   (n_places,)      int32    row at each place
    Q,        # IN   (nq, d)          float
    starts,   # IN   (padded + 1,)    int64    see ``_filter``
    counts,   # IN   (padded,)        int32    no larger than the room of their lists
    places,   # IN   (n_candidates,)  int32
    rows,     # OUT  (n_candidates,)  int32
    sqdists,  # OUT  (n_candidates,)  float64
):
    """The rows and exact distances of the candidates of each query; one a block."""
    query, n_warps = cuda.blockIdx.x, cuda.blockDim.x // WARP
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    for c in range(warp, counts[query], n_warps):
        slot = starts[query] + c
        row = ids[places[slot]]
        exact = sqdist(X, row, Q, query, lane)
        if lane == 0:
            rows[slot] = row
            sqdists[slot] = exact


def measure_candidates(Q, n, image, lists):
    """Measure what is in the lists of n queries."""
    launch(
        measure, n, MEASURE_THREADS,
        image.X, image.ids, Q, lists.starts, lists.counts, lists.places,
        lists.rows, lists.sqdists,
    )  # fmt: skip
