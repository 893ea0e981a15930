"""Product quantization: encode residuals, place codes in panels, decode them."""

from __future__ import annotations

import numpy as np

from sklearn_ann._cpu._arrays import empty, zeros
from sklearn_ann._cpu._borrow import borrowed
from sklearn_ann._cpu._distance import AHEAD, prefetch
from sklearn_ann._cpu._jit import jit, jit_part
from sklearn_ann._cpu._pq_codewords import (
    ROWS,
    add_part,
    decode_codes,
    nearest_codewords,
)
from sklearn_ann._cpu._threads import cut, run_blocks, split
from sklearn_ann._layout import CODEWORDS, PANEL, read_only

# Rows that a thread encodes at a time.
_BLOCK = 256


@jit
def _encode_pq(
    start,         # IN   int              first of the rows to encode
    stop,          # IN   int              one past the last
    X,             # IN   (n, d)           float
    labels,        # IN   (n,)             int64     list of each row
    centroids,     # IN   (nlist, d)       float
    codebooks_t,   # IN   (m, dsub, 256)   float32
    half_sqnorms,  # IN   (m, 256)         float32   half the squared lengths
    codes,         # OUT  (n, m)           uint8
):
    (n, d), (m, dsub, _) = (stop - start, X.shape[1]), codebooks_t.shape
    # Whole groups of rows; zeros behind the features and the rows.
    padded = -(-n // ROWS) * ROWS
    residuals = zeros((padded, m * dsub), np.float32)
    found = empty((padded, m), np.uint8)
    for i in range(n):
        label = labels[start + i]
        for t in range(d):
            known = np.float64(centroids[label, t])
            residuals[i, t] = np.float64(X[start + i, t]) - known
    # A codebook stays in the L1 cache for all rows of the block.
    for j in range(m):
        for i in range(0, n, ROWS):
            nearest_codewords(codebooks_t, half_sqnorms, j, residuals, i, found)
    for i in range(n):
        for j in range(m):
            codes[start + i, j] = found[i, j]


def encode_pq(X, labels, centroids, codebooks_t, half_sqnorms, n_threads):
    """The codes of the residuals of rows.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
    labels : ndarray of shape (n,), int64
        The list of each row.
    centroids : ndarray of shape (nlist, d), dtype of X
    codebooks_t : ndarray of shape (m, dsub, 256), float32
        Codewords side by side; features past d are 0.
    half_sqnorms : ndarray of shape (m, 256), float32
        Half the squared length of each codeword.
    n_threads : int

    Returns
    -------
    codes : ndarray of shape (n, m), uint8
    """
    X, labels, centroids = map(read_only, (X, labels, centroids))
    codebooks_t, half_sqnorms = read_only(codebooks_t), read_only(half_sqnorms)
    codes = np.empty((len(X), len(codebooks_t)), np.uint8)
    run_blocks(
        lambda start, stop: _encode_pq(
            start, stop, X, labels, centroids, codebooks_t, half_sqnorms, codes
        ),
        cut(len(X), _BLOCK),
        n_threads,
    )
    return codes


@jit
def _accumulate_codewords(
    start,      # IN     int              first sub-quantizer
    stop,       # IN     int              one past the last
    residuals,  # IN     (n, m * dsub)    float32
    codes,      # IN     (n, m)           uint8
    sums,       # INOUT  (m, 256, dsub)   float64
    sizes,      # INOUT  (m, 256)         int64
):
    for i in range(residuals.shape[0]):
        for j in range(start, stop):
            sizes[j, codes[i, j]] += 1
            add_part(sums, j, codes[i, j], residuals, i)


def accumulate_codewords(residuals, codes, dsub, n_threads):
    """The sums and the numbers of the residuals that have each codeword.

    Parameters
    ----------
    residuals : ndarray of shape (n, m * dsub), float32
    codes : ndarray of shape (n, m), uint8
    dsub : int
    n_threads : int

    Returns
    -------
    sums : ndarray of shape (m, 256, dsub), float64
    sizes : ndarray of shape (m, 256), int64
    """
    m = codes.shape[1]
    sums, sizes = np.zeros((m, CODEWORDS, dsub)), np.zeros((m, CODEWORDS), np.int64)
    residuals, codes = read_only(residuals), read_only(codes)
    run_blocks(
        lambda start, stop: _accumulate_codewords(
            start, stop, residuals, codes, sums, sizes
        ),
        split(m, min(m, 4 * n_threads)),
        n_threads,
    )
    return sums, sizes


@jit
def _place_pq(
    start,      # IN   int                first place to fill
    stop,       # IN   int                one past the last
    codes,      # IN   (n, m)             uint8
    order,      # IN   (n,)               int64   rows, list by list
    positions,  # IN   (n,)               int64   where they go
    owners,     # IN   (n_panels,)        int64   list of each panel
    index,      # IN   IVFPQIndex                 centroids and codebooks
    panels,     # OUT  (n_panels, m, 64)  uint8
    row_terms,  # OUT  (n_panels * 64,)   float32
):
    centroids, center = index.centroids.X, index.centroids.center
    codebooks = index.codebooks
    m, _, dsub = codebooks.shape
    # Sums side by side do not wait for each other.
    twice_offset, parts = zeros(m * dsub, np.float64), empty(dsub, np.float64)
    label = -1
    for place in range(start, stop):
        row, position = order[place], positions[place]
        if place + AHEAD < stop:
            prefetch(codes, order[place + AHEAD])
        panel, lane = position // PANEL, position % PANEL
        if owners[panel] != label:
            label = owners[panel]
            for t in range(centroids.shape[1]):
                twice_offset[t] = 2.0 * (np.float64(centroids[label, t]) - center[t])
        for s in range(dsub):
            parts[s] = 0.0
        for j in range(m):
            code = codes[row, j]
            panels[panel, j, lane] = code
            for s in range(dsub):
                word = np.float64(codebooks[j, code, s])
                parts[s] += word * (word + twice_offset[j * dsub + s])
        total = 0.0
        for s in range(dsub):
            total += parts[s]
        row_terms[position] = total


def place_pq(codes, order, positions, owners, index, panels, row_terms, n_threads):
    """Write codes of rows, and their terms, to positions.

    Parameters
    ----------
    codes : ndarray of shape (n, m), uint8
    order : ndarray of shape (n,), int64
        Row of `codes` for each position.
    positions : ndarray of shape (n,), int64
    owners : ndarray of shape (n_panels,), int64
        List of each panel.
    index : IVFPQIndex
        Its centroids and codebooks are used.
    panels, row_terms : ndarray
        Written as ``IVFPQIndex`` lays them out.
    n_threads : int
    """
    codes, order, positions, owners = map(read_only, (codes, order, positions, owners))
    run_blocks(
        lambda start, stop: _place_pq(
            start, stop, codes, order, positions, owners, index, panels, row_terms
        ),
        cut(len(order), _BLOCK),
        n_threads,
    )


@jit_part
def decode_pq(
    position,   # IN   int
    index,      # IN   IVFPQIndex
    decoded,    # OUT  (1, d)  float64
):
    """The vector that the codes at a position stand for."""
    panel, lane = position // PANEL, position % PANEL
    label, centroids = index.owners[panel], index.centroids.X
    decode_codes(index.codebooks, index.codes, panel, lane, centroids, label, decoded)


@jit
def _decode_rows(
    positions,  # IN   (n,)    int64
    index,      # IN   IVFPQIndex
    decoded,    # OUT  (n, d)  float64
):
    index = borrowed(index)
    for i in range(len(positions)):
        decode_pq(positions[i], index, decoded[i : i + 1])


def decode_rows(positions, index):
    """The vectors that the codes at some positions stand for, (n, d) float64."""
    decoded = np.empty((len(positions), index.centroids.X.shape[1]))
    _decode_rows(read_only(positions), index, decoded)
    return decoded
