"""The two halves of a k-means step: assign rows to centroids, add them up.

A row wants one centroid only, so that no candidates have to be kept: the smallest bound
of all centroids gives the threshold, and the few centroids below it are measured. Among
equally near ones the first wins.
"""

from __future__ import annotations

import numpy as np

from sklearn_ann._cpu._arrays import empty
from sklearn_ann._cpu._bits import lowest_bit
from sklearn_ann._cpu._borrow import borrowed, keep
from sklearn_ann._cpu._distance import AHEAD, prefetch, sqdist
from sklearn_ann._cpu._jit import inlined_jit, jit, jit_maker, jit_part
from sklearn_ann._cpu._rounding import UNDERFLOW, float32_rounding, nudged_up
from sklearn_ann._cpu._sq8_block import encode_queries, set_threshold
from sklearn_ann._cpu._sq8_simd import TILE, dot_tile, lowest_bound, survivors
from sklearn_ann._cpu._threads import cut, run_blocks, split
from sklearn_ann._layout import PANEL, read_only

# Rows that are encoded together.
_BLOCK = 64 * TILE


@jit_part
def _largest_of(
    scales,   # IN  (n_panels * 64,)  float32
    sqnorms,  # IN  (n_panels * 64,)  float32  -inf: a centroid without codes
    nlist,    # IN  int
):
    """The largest scale of a centroid, and the largest magnitude of a sqnorm."""
    largest_scale, largest_sqnorm = 0.0, 0.0
    for c in range(nlist):
        largest_scale = max(largest_scale, np.float64(scales[c]))
        if sqnorms[c] > -np.inf:
            largest_sqnorm = max(largest_sqnorm, abs(np.float64(sqnorms[c])))
    return largest_scale, largest_sqnorm


@jit_part
def _upper_bound(lowest, query_sqnorm, query_error, largest_error, rounding):
    """An upper bound of the distance of the centroid with the lowest bound, in units.

    `lowest` is what ``survivors`` compares, |q' - x'|^2 - |q'|^2 - error(x)^2 but for
    its roundings, which `rounding` exceeds.
    """
    if not -np.inf < lowest < np.inf:
        return np.inf
    square = np.float64(lowest) + query_sqnorm + largest_error**2 + rounding
    root = nudged_up(np.sqrt(max(square, 0.0) + UNDERFLOW))
    return root + query_error + largest_error


@jit_maker
def _gather(start, stop, X, rows):
    """A copy of some rows, one after the other."""
    gathered = empty((stop - start, X.shape[1]), X.dtype)
    for i in range(start, stop):
        if i + AHEAD < stop:
            prefetch(X, rows[i + AHEAD])
        row = rows[i]
        for t in range(X.shape[1]):
            gathered[i - start, t] = X[row, t]
    return gathered


@inlined_jit
def _nearest_centroid(
    ceiling,    # IN  float32             higher bounds have no survivor
    lowest,     # IN  (n_panels,)         float32  lowest bound of each panel
    dots,       # IN  (n_panels * 4, 64)  int32
    j,          # IN  int                 place of the row in its tile
    factor,     # IN  float32             arguments of ``survivors``
    base,       # IN  float32
    limit,      # IN  float32
    scales,     # IN  (n_panels * 64,)    float32
    sqnorms,    # IN  (n_panels * 64,)    float32
    centroids,  # IN  (nlist, d)          float
    X,          # IN  (n, d)              float
    i,          # IN  int                 row of X
):
    """Measure the centroids that survive; the nearest one and its squared distance."""
    label, nearest = 0, np.inf
    for panel in range(len(lowest)):
        if lowest[panel] > ceiling:
            continue
        mask = survivors(
            dots, scales, sqnorms, TILE * panel + j, panel, factor, base, limit
        )
        while mask != 0:
            c = panel * PANEL + lowest_bit(mask)
            mask &= mask - np.uint64(1)
            if sqnorms[c] < np.inf:
                exact = sqdist(centroids, c, X, i)
                if exact < nearest:
                    label, nearest = c, exact
    return label, nearest


@jit
def _assign(
    start,    # IN   int      first of the rows to assign
    stop,     # IN   int      one past the last
    X,        # IN   (n, d)   float
    rows,     # IN   (m,)     int64    rows of X
    index,    # IN   FlatIndex         the centroids
    labels,   # OUT  (m,)     int64
    sqdists,  # OUT  (m,)     float64
):
    index = borrowed(index)
    block_rows = read_only(_gather(start, stop, X, rows))
    owned = encode_queries(0, stop - start, block_rows, index, 0)
    block = borrowed(owned)
    # Taken out of their tuples once, before the loop.
    centroids, error_ratio = index.X, index.error_ratio
    codes, scales, sqnorms = index.codes, index.scales, index.sqnorms
    queries, biases, factors = block.full.codes, block.full.biases, block.full.factors
    bases, limits = block.full.bases, block.full.limits
    query_sqnorms, query_errors = block.full.sqnorms, block.full.errors
    n_panels = codes.shape[0]
    dots = empty((n_panels * TILE, PANEL), np.int32)
    lowest_of_panels = empty(n_panels, np.float32)
    largest_scale, largest_sqnorm = _largest_of(scales, sqnorms, len(centroids))
    largest_error = error_ratio * largest_scale
    for tile in range(0, stop - start, TILE):
        for panel in range(n_panels):
            dot_tile(codes, panel, queries, tile, biases, dots, TILE * panel)
        for j in range(min(TILE, stop - start - tile)):
            i, lowest = tile + j, np.float32(np.inf)
            for panel in range(n_panels):
                lowest_of_panels[panel] = lowest_bound(
                    dots, scales, sqnorms, TILE * panel + j, panel, factors[i]
                )
                lowest = min(lowest, lowest_of_panels[panel])
            terms = largest_sqnorm + query_sqnorms[i] + 2 * largest_error**2
            rounding = float32_rounding(8, terms)
            threshold = _upper_bound(
                lowest, query_sqnorms[i], query_errors[i], largest_error, rounding
            )
            set_threshold(block, i, threshold, index)
            # No panel whose bounds all exceed it has a survivor.
            ceiling = np.float32(limits[i] + largest_scale * bases[i] + rounding)
            labels[start + i], sqdists[start + i] = _nearest_centroid(
                ceiling, lowest_of_panels, dots, j, factors[i], bases[i], limits[i],
                scales, sqnorms, centroids, block_rows, i,
            )
    keep(owned)


def assign(X, rows, index, n_threads):
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

    Returns
    -------
    labels : ndarray of shape (m,), int64
        Numbers of the centroids; the smaller one among equally near ones.
    sqdists : ndarray of shape (m,), float64
    """
    X, rows = read_only(X), read_only(rows)
    labels, sqdists = np.empty(len(rows), np.int64), np.empty(len(rows))
    run_blocks(
        lambda start, stop: _assign(start, stop, X, rows, index, labels, sqdists),
        cut(len(rows), _BLOCK),
        n_threads,
    )
    return labels, sqdists


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
