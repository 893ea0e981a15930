"""Codes on the GPU: their image, what they decode to, and how rows get them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sklearn_ann._cuda._compat import (
    INFINITY,
    WARP,
    add_exactly_rounded,
    cuda,
    device,
    empty,
    float32,
    float64,
    fused_multiply_add,
    int32,
    kernel,
    launch,
    load4,
    to_device,
)
from sklearn_ann._cuda._distance import MEASURE_THREADS, add_lanes, add_square
from sklearn_ann._cuda._image import image_of, remember
from sklearn_ann._cuda._memory import check_room, split_rows
from sklearn_ann._layout import CODEWORDS, PANEL

# Codes are read four at a time, as the bytes of an integer.
WORDS = PANEL // 4

# Rows of a block that encodes, and codewords whose scores a thread has in registers:
# a feature is read once for them, and each codeword once for all rows of a warp.
_ROWS = 128
_AT_ONCE = 32


class CodesImage(NamedTuple):
    """The codes of an IVFPQIndex and what they stand for; arrays on the GPU."""

    centroids: Any  # (nlist, d)  float
    center: Any  # (d,)  float64
    owners: Any  # (n_panels,)  int32  list of each panel
    codebooks: Any  # (m, 256, dsub)  float32
    codebooks_t: Any  # (m, dsub, 256)  float32
    radii: Any  # (m,)  float64
    codes: Any  # (n_panels * m * 16,)  int32  the bytes of the index as they are
    row_terms: Any  # (n_panels * 64,)  float32  +inf: no row
    ids: Any  # (n_panels * 64,)  int32  -1: no row
    largest_row_term: float


def codes_of(index):
    """The image of an IVFPQIndex on the GPU in use.

    It lives as long as the index: as the array that no other index has.
    """
    return remember(index.row_terms, lambda: _make_image(index))


def _make_image(index):
    centroids = image_of(index.centroids)
    copied = index.codes, index.row_terms, index.ids, index.owners
    n_bytes = sum(array.nbytes for array in copied)
    check_room(n_bytes, f"The index of codes of {index.lists.sizes.sum()} rows")
    codes = np.ascontiguousarray(index.codes).reshape(-1).view(np.int32)
    return CodesImage(
        centroids=centroids.X,
        center=centroids.center,
        owners=to_device(index.owners.astype(np.int32)),
        codebooks=to_device(index.codebooks),
        codebooks_t=to_device(index.codebooks_t),
        radii=to_device(index.radii),
        codes=to_device(codes),
        row_terms=to_device(index.row_terms),
        ids=to_device(index.ids),
        largest_row_term=index.largest_row_term,
    )


# -- what codes stand for ------------------------------------------------------------


@device
def _feature(codes, owners, centroids, codebooks, position, t):
    """Feature t of the vector that the codes at a position stand for."""
    m, dsub = codebooks.shape[0], codebooks.shape[2]
    panel, lane, j = position // PANEL, position % PANEL, t // dsub
    word = codes[(panel * m + j) * WORDS + lane // 4]
    code = word >> 8 * (lane % 4) & 255
    of_centroid = float64(centroids[owners[panel], t])
    return add_exactly_rounded(of_centroid, float64(codebooks[j, code, t - j * dsub]))


@kernel
def measure_codes(
    codes,      # IN   (n_panels * m * 16,)  int32
    owners,     # IN   (n_panels,)       int32
    centroids,  # IN   (nlist, d)        float
    codebooks,  # IN   (m, 256, dsub)    float32
    ids,        # IN   (n_positions,)    int32
    Q,          # IN   (nq, d)           float
    starts,     # IN   (nq + 1,)         int64    see Candidates
    counts,     # IN   (nq,)             int32    no more than there is room for
    positions,  # IN   (n_candidates,)   int32
    rows,       # OUT  (n_candidates,)   int32
    sqdists,    # OUT  (n_candidates,)   float64
):
    """As ``measure``, of what the codes stand for."""
    query, n_warps, d = cuda.blockIdx.x, cuda.blockDim.x // WARP, Q.shape[1]
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    whole = d // WARP * WARP
    for c in range(warp, counts[query], n_warps):
        slot = starts[query] + c
        position = positions[slot]
        chain, rest = float64(0), float64(0)
        for t in range(lane, whole, WARP):
            x = _feature(codes, owners, centroids, codebooks, position, t)
            chain = add_square(x, float64(Q[query, t]), chain)
        for t in range(whole, d):
            x = _feature(codes, owners, centroids, codebooks, position, t)
            rest = add_square(x, float64(Q[query, t]), rest)
        exact = rest if whole == 0 else add_lanes(chain, rest, lane)
        if lane == 0:
            rows[slot] = ids[position]
            sqdists[slot] = exact


@kernel
def _decode(
    codes,      # IN   (n_panels * m * 16,)  int32
    owners,     # IN   (n_panels,)       int32
    centroids,  # IN   (nlist, d)        float
    codebooks,  # IN   (m, 256, dsub)    float32
    ids,        # IN   (n_positions,)    int32
    panels,     # IN   (n,)              int32    one a block
    X,          # OUT  (n * 64, d)       float64
    rows,       # OUT  (n * 64,)         int32    ids of the panels
):
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    n_warps = cuda.blockDim.x // WARP
    for i in range(warp, PANEL, n_warps):
        position = panels[cuda.blockIdx.x] * PANEL + i
        at = cuda.blockIdx.x * PANEL + i
        if lane == 0:
            rows[at] = ids[position]
        for t in range(lane, X.shape[1], WARP):
            X[at, t] = _feature(codes, owners, centroids, codebooks, position, t)


def decode_panels(panels, image):
    """What the codes of some panels stand for, (n * 64, d) float64, and the ids.

    Empty positions have the id -1 and some vector.
    """
    n, d = len(panels) * PANEL, image.center.shape[0]
    X, ids = empty((n, d), np.float64), empty(n, np.int32)
    launch(
        _decode, len(panels), MEASURE_THREADS,
        image.codes, image.owners, image.centroids, image.codebooks, image.ids,
        to_device(panels.astype(np.int32)), X, ids,
    )  # fmt: skip
    return X, ids


# -- encoding ------------------------------------------------------------------------


@kernel
def _subtract(
    X,          # IN   (n, d)            float
    labels,     # IN   (n,)              int32    list of each row
    centroids,  # IN   (nlist, d)        float
    residuals,  # OUT  (width, padded)   float32  feature by feature; zeros past d and n
):
    row = cuda.grid(1)
    n, d = X.shape
    for t in range(residuals.shape[0]):
        value = float64(0)
        if row < n and t < d:
            value = float64(X[row, t]) - float64(centroids[labels[row], t])
        residuals[t, row] = float32(value)


@device
def _add_products(scores, at, feature, words):
    for i in range(4):
        scores[at + i] = fused_multiply_add(feature, words[i], scores[at + i])


@kernel
def _nearest(
    residuals,     # IN   (m * dsub, padded)  float32
    codebooks_t,   # IN   (m * dsub * 256,)   float32  see IVFPQIndex
    half_sqnorms,  # IN   (m * 256,)          float32  half the squared lengths
    dsub,          # IN   int
    codes,         # OUT  (n, m)              uint8
):
    """A thread has a part of a row.

    The arithmetic is that of a CPU with fused multiply-adds, in the same order, so the
    codes have the same bits: the first of the smallest |c|^2 / 2 - c.v.
    """
    scores = cuda.local.array(_AT_ONCE, float32)
    n, m = codes.shape
    j = cuda.blockIdx.x % m
    row = cuda.blockIdx.x // m * cuda.blockDim.x + cuda.threadIdx.x
    best, code = INFINITY, int32(0)
    if row < n:
        for first in range(0, CODEWORDS, _AT_ONCE):
            for i in range(0, _AT_ONCE, 4):
                of_codes = load4(half_sqnorms, j * CODEWORDS + first + i)
                for c in range(4):
                    scores[i + c] = of_codes[c]
            for s in range(j * dsub, (j + 1) * dsub):
                feature = -residuals[s, row]
                for i in range(0, _AT_ONCE, 4):
                    words = load4(codebooks_t, s * CODEWORDS + first + i)
                    _add_products(scores, i, feature, words)
            for i in range(_AT_ONCE):
                if scores[i] < best:
                    best, code = scores[i], int32(first + i)
        codes[row, j] = code


def encode_pq(X, labels, centroids, codebooks_t, half_sqnorms, n_threads):
    """The codes of the residuals of rows.

    Parameters and returns are those of ``_cpu.encode_pq``.
    """
    (n, d), (m, dsub, _) = X.shape, codebooks_t.shape
    centroids = to_device(centroids)
    codebooks_t = to_device(codebooks_t.reshape(-1))
    half_sqnorms = to_device(half_sqnorms.reshape(-1))
    codes = np.empty((n, m), np.uint8)
    for start, stop in split_rows(n, d * X.itemsize + 4 * m * dsub + m + 4):
        n_blocks = -(-(stop - start) // _ROWS)
        residuals = empty((m * dsub, n_blocks * _ROWS), np.float32)
        launch(
            _subtract, n_blocks, _ROWS,
            to_device(X[start:stop]), to_device(labels[start:stop].astype(np.int32)),
            centroids, residuals,
        )  # fmt: skip
        found = empty((stop - start, m), np.uint8)
        launch(
            _nearest, n_blocks * m, _ROWS,
            residuals, codebooks_t, half_sqnorms, dsub, found,
        )  # fmt: skip
        codes[start:stop] = found.copy_to_host()
    return codes
