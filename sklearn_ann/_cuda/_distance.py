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
def add_square(x, y, total):
    """``total + (x - y) ** 2``, each operation rounded on its own."""
    difference = add_exactly_rounded(x, -y)
    square = multiply_exactly_rounded(difference, difference)
    return add_exactly_rounded(total, square)


@device
def add_lanes(chain, rest, lane):
    """The sum of all lanes of a warp and of the rest, in the order of the CPU.

    Lane n of 32 has added up what is number n % 8 of vector n // 8 there. The four
    vectors are added, then halves of the sum.
    """
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


@device
def sqdist(X, i, Q, j, lane):
    """Squared distance of ``X[i]`` and ``Q[j]``, by all lanes of a warp.

    In the order of ``_cpu/_distance.py``.
    """
    d = X.shape[1]
    whole = d // WARP * WARP
    chain, rest = float64(0), float64(0)
    for t in range(lane, whole, WARP):
        chain = add_square(float64(X[i, t]), float64(Q[j, t]), chain)
    for t in range(whole, d):
        rest = add_square(float64(X[i, t]), float64(Q[j, t]), rest)
    return rest if whole == 0 else add_lanes(chain, rest, lane)


@kernel
def measure(
    X,          # IN   (n, d)           float
    ids,        # IN   (n_positions,)   int32    row at each position
    Q,          # IN   (nq, d)          float
    starts,     # IN   (padded + 1,)    int64    see Candidates
    counts,     # IN   (padded,)        int32    no more than there is room for
    positions,  # IN   (n_candidates,)  int32
    rows,       # OUT  (n_candidates,)  int32
    sqdists,    # OUT  (n_candidates,)  float64
):
    """The rows and exact distances of the candidates of each query; one a block."""
    query, n_warps = cuda.blockIdx.x, cuda.blockDim.x // WARP
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    for c in range(warp, counts[query], n_warps):
        slot = starts[query] + c
        row = ids[positions[slot]]
        exact = sqdist(X, row, Q, query, lane)
        if lane == 0:
            rows[slot] = row
            sqdists[slot] = exact


def measure_candidates(Q, n, image, candidates):
    """Measure the candidates of n queries."""
    launch(
        measure, n, MEASURE_THREADS,
        image.X, image.ids, Q,
        candidates.starts, candidates.counts, candidates.positions,
        candidates.rows, candidates.sqdists,
    )  # fmt: skip
