"""The two halves of a k-means step: assign rows to centroids, add them up.

A row wants one centroid only, so that no candidates have to be kept. First comes a
guess: its centroid of the step before, or else the one with the lowest bound. Codes
bound its distance from above. Most rows have no other centroid whose lower bound is as
small; of the others the few such centroids are measured, and among equally near ones
the first wins.

The rows of a training are encoded once, for all of its steps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sklearn_ann._cpu._arrays import empty
from sklearn_ann._cpu._bits import lowest_bit
from sklearn_ann._cpu._borrow import borrowed, keep
from sklearn_ann._cpu._distance import AHEAD, prefetch, sqdist
from sklearn_ann._cpu._jit import inlined_jit, jit, jit_part
from sklearn_ann._cpu._sq8_block import SQ8Queries, encode_nth, threshold_terms
from sklearn_ann._cpu._sq8_codes import center_tile
from sklearn_ann._cpu._sq8_filter import bounds
from sklearn_ann._cpu._sq8_project import empty_vectors
from sklearn_ann._cpu._sq8_simd import TILE, dot_row, dot_tile, lowest_bound, survivors
from sklearn_ann._cpu._threads import cut, run_blocks, split
from sklearn_ann._layout import PANEL, read_only

# Rows that a thread encodes, or assigns, at a time.
_BLOCK = 256 * TILE


class EncodedRows(NamedTuple):
    """Rows as queries of the centroids: see ``SQ8Block``."""

    panels: SQ8Queries
    full: SQ8Queries


@jit
def _encode_rows_as_queries(
    start,    # IN   int        first of the rows to encode
    stop,     # IN   int        one past the last
    X,        # IN   (n, d)     float
    rows,     # IN   (m,)       int64    rows of X
    index,    # IN   FlatIndex  the centroids
    first,    # IN   int        the row that goes to the first place
    encoded,  # OUT  EncodedRows
):
    index, encoded = borrowed(index), borrowed(encoded)
    center, unit, projection = index.center, index.unit, index.projection
    panels, full = encoded.panels, encoded.full
    owned = empty_vectors(X.shape[1], projection.axes.shape[1])
    vectors = borrowed(owned)
    for tile in range(start, stop, TILE):
        center_tile(tile, stop, X, rows, center, unit, projection, vectors)
        for nth in range(min(TILE, stop - tile)):
            encode_nth(nth, vectors, unit, panels, full, tile + nth - first)
    keep(owned)


@jit_part
def _with_lowest_bound(
    dots,     # IN  (n_panels * 4, 64)  int32
    j,        # IN  int                 place of the row in its tile
    factor,   # IN  float32             argument of ``lowest_bound``
    scales,   # IN  (n_panels * 64,)    float32
    sqnorms,  # IN  (n_panels * 64,)    float32
):
    """The first centroid with the lowest bound; 0 if there are no bounds."""
    lowest, nearest, none = np.float32(np.inf), -1, np.float32(0.0)
    for panel in range(len(dots) // TILE):
        row = TILE * panel + j
        bound = lowest_bound(dots, scales, sqnorms, row, panel, factor)
        if bound < lowest:
            lowest, nearest = bound, panel
    if nearest < 0:
        return 0
    row = TILE * nearest + j
    mask = survivors(dots, scales, sqnorms, row, nearest, factor, none, lowest)
    return nearest * PANEL + lowest_bit(mask)


@jit_part
def _set_thresholds(
    i,        # IN     int          a row, among those that are encoded
    label,    # IN     int          its centroid, as far as is known
    dot,      # IN     int          dot product of their codes in panels
    index,    # IN     FlatIndex    the centroids
    encoded,  # INOUT  EncodedRows
):
    """Drop centroids that are certainly further from a row than one of them."""
    panels, full, codes = encoded.panels, encoded.full, index.full
    scales, sqnorms, error_ratio = index.scales, index.sqnorms, index.error_ratio
    is_projected = len(codes.codes) > 0
    if is_projected:
        # A projection bounds no distance from above.
        scales, sqnorms, error_ratio = codes.scales, codes.sqnorms, codes.error_ratio
        dot = np.int64(dot_row(codes.codes, label, full.codes, i, full.biases[i]))
    _, threshold = bounds(
        np.float64(scales[label]),
        np.float64(sqnorms[label]),
        error_ratio,
        full.scales[i],
        full.sqnorms[i],
        full.errors[i],
        dot,
    )
    if is_projected:
        full.bases[i], full.limits[i] = threshold_terms(
            threshold, full.sqnorms[i], full.errors[i], error_ratio
        )
    panels.bases[i], panels.limits[i] = threshold_terms(
        threshold, panels.sqnorms[i], panels.errors[i], index.error_ratio
    )


@inlined_jit
def _is_excluded(
    codes,  # IN  FullCodes   of the centroids
    c,      # IN  int         one of them
    full,   # IN  SQ8Queries
    i,      # IN  int         one of the rows that are encoded
):
    """Whether codes of all features exclude a centroid. As in ``survivors``."""
    dot = dot_row(codes.codes, c, full.codes, i, full.biases[i])
    slope = full.bases[i] + full.factors[i] * np.float32(dot)
    return codes.sqnorms[c] - codes.scales[c] * slope > full.limits[i]


@jit
def _assign(
    start,    # IN     int      first of the rows to assign
    stop,     # IN     int      one past the last
    X,        # IN     (n, d)   float
    rows,     # IN     (m,)     int64    rows of X
    index,    # IN     FlatIndex         the centroids
    first,    # IN     int      the row whose codes come first
    encoded,  # INOUT  EncodedRows       gets thresholds
    labels,   # INOUT  (m,)     int64    a guess before, or -1
):
    index, encoded = borrowed(index), borrowed(encoded)
    # Taken out of their tuples once, before the loop.
    centroids, codes, full_codes = index.X, index.codes, index.full
    scales, sqnorms = index.scales, index.sqnorms
    panels, full = encoded.panels, encoded.full
    n_panels, is_projected = codes.shape[0], len(full_codes.codes) > 0
    dots = empty((n_panels * TILE, PANEL), np.int32)
    for tile in range(start, stop, TILE):
        for panel in range(n_panels):
            dot_tile(
                codes, panel, panels.codes, tile - first, panels.biases, dots,
                TILE * panel,
            )
        for j in range(min(TILE, stop - tile)):
            i, row, label = tile + j - first, rows[tile + j], labels[tile + j]
            factor, nearest = panels.factors[i], -1.0
            if label < 0:
                label = _with_lowest_bound(dots, j, factor, scales, sqnorms)
            dot = np.int64(dots[label // PANEL * TILE + j, label % PANEL])
            _set_thresholds(i, label, dot, index, encoded)
            base, limit, guess = panels.bases[i], panels.limits[i], label
            for panel in range(n_panels):
                at = TILE * panel + j
                mask = survivors(
                    dots, scales, sqnorms, at, panel, factor, base, limit
                )
                while mask != 0:
                    c = panel * PANEL + lowest_bit(mask)
                    mask &= mask - np.uint64(1)
                    if c == guess or sqnorms[c] == np.inf:
                        continue
                    if is_projected and _is_excluded(full_codes, c, full, i):
                        continue
                    # Most rows never come here, and need not be read.
                    if nearest < 0:
                        nearest = sqdist(centroids, guess, X, row)
                    exact = sqdist(centroids, c, X, row)
                    if exact < nearest or (exact == nearest and c < label):
                        label, nearest = c, exact
            labels[tile + j] = label


def _room_for(n, steps):
    """Arrays for so many encoded queries."""
    padded = -(-n // TILE) * TILE
    return SQ8Queries(
        np.zeros((padded, steps, 4), np.int8),
        np.zeros(padded, np.int32),
        *(np.zeros(padded) for _ in range(3)),
        *(np.zeros(padded, np.float32) for _ in range(3)),
    )


def encode_training_rows(X, rows, index, n_threads):
    """Encode rows for `assign`, to centroids in the frame of an index.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
        Finite, C-contiguous.
    rows : ndarray of shape (m,), int64
        Rows of X.
    index : FlatIndex
        Of centroids. Others may have other centroids, with the same center, unit and
        projection.
    n_threads : int

    Returns
    -------
    encoded : object
        A byte for each feature of a row, or of its projection and of the row.
    """
    X, rows = read_only(X), read_only(rows)
    encoded = _empty_rows(len(rows), index)
    run_blocks(
        lambda start, stop: _encode_rows_as_queries(
            start, stop, X, rows, index, 0, encoded
        ),
        cut(len(rows), _BLOCK),
        n_threads,
    )
    return encoded


def _empty_rows(n, index):
    panels = full = _room_for(n, index.codes.shape[1])
    if index.projection.axes.shape[1] > 0:
        full = _room_for(n, index.full.codes.shape[1] // 4)
    return EncodedRows(panels, full)


def assign(X, rows, index, n_threads, encoded=None, guesses=None):
    """The nearest centroid of some rows.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
        Finite, C-contiguous.
    rows : ndarray of shape (m,), int64
        Rows of X.
    index : FlatIndex
        The centroids.
    n_threads : int
    encoded : object, default=None
        These rows as `encode_training_rows` has encoded them.
    guesses : ndarray of shape (m,), int64, default=None
        Centroids that are likely, which save time.

    Returns
    -------
    labels : ndarray of shape (m,), int64
        Numbers of the centroids; the smaller one among equally near ones.
    """
    X, rows = read_only(X), read_only(rows)
    labels = np.full(len(rows), -1) if guesses is None else guesses.copy()

    def assign_block(start, stop):
        first, codes = 0, encoded
        if codes is None:
            first, codes = start, _empty_rows(stop - start, index)
            _encode_rows_as_queries(start, stop, X, rows, index, first, codes)
        _assign(start, stop, X, rows, index, first, codes, labels)

    run_blocks(assign_block, cut(len(rows), _BLOCK), n_threads)
    return labels


@jit
def _accumulate_clusters(
    start,   # IN   int             first cluster
    stop,    # IN   int             one past the last
    X,       # IN   (n, d)          float
    rows,    # IN   (m,)            int64    rows of X
    order,   # IN   (m,)            int64    their places in `rows`, by cluster
    starts,  # IN   (n_clusters + 1,)  int64
    sums,    # OUT  (n_clusters, d)  float64
):
    for c in range(start, stop):
        sums[c] = 0.0
        for place in range(starts[c], starts[c + 1]):
            row = rows[order[place]]
            if place + AHEAD < len(order):
                prefetch(X, rows[order[place + AHEAD]])
            for t in range(X.shape[1]):
                sums[c, t] += X[row, t]


def accumulate_clusters(X, rows, order, starts, n_threads):
    """The sums of the rows of each cluster.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
    rows : ndarray of shape (m,), int64
        Rows of X.
    order : ndarray of shape (m,), int64
        Their places in `rows`, cluster by cluster, ascending in each. They are added in
        this order.
    starts : ndarray of shape (n_clusters + 1,), int64
        Cluster c has the places starts[c] to starts[c + 1].
    n_threads : int

    Returns
    -------
    sums : ndarray of shape (n_clusters, d), float64
    """
    X, rows, order, starts = map(read_only, (X, rows, order, starts))
    n_clusters = len(starts) - 1
    sums = np.empty((n_clusters, X.shape[1]))
    run_blocks(
        lambda start, stop: _accumulate_clusters(
            start, stop, X, rows, order, starts, sums
        ),
        split(n_clusters, min(n_clusters, 8 * n_threads)),
        n_threads,
    )
    return sums
