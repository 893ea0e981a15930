"""All rows within a radius: the same filter, with a threshold that stays."""

from __future__ import annotations

import numpy as np

from sklearn_ann._cpu._filter import encode_queries, filter_panels, set_threshold
from sklearn_ann._cpu._jit import jit
from sklearn_ann._cpu._simd import TILE, sqdist
from sklearn_ann._cpu._threads import run_blocks
from sklearn_ann._layout import PANEL, read_only

# Queries that are searched together, and hits they may have before those are handed
# over.
_BLOCK = 16 * TILE
_MAX_HITS = 2**16


@jit
def _radius(
    start,        # IN   int          first query
    stop,         # IN   int          one past the last
    first_panel,  # IN   int
    Q,            # IN   (nq, d)      float
    index,        # IN   FlatIndex
    sqradius,     # IN   float        in the units of X
    queries,      # OUT  (n_hits,)    int64
    ids,          # OUT  (n_hits,)    int64
    sqdists,      # OUT  (n_hits,)    float64
):
    """Rows within the radius, until the outputs are full.

    Returns the panel to go on with and the number of hits.
    """
    capacity = 2 * PANEL
    block = encode_queries(start, stop, Q, index, capacity)
    block.marks[:] = capacity - PANEL
    for i in range(stop - start):
        set_threshold(block, i, np.sqrt(sqradius) / index.unit, index.error_ratio)
    dots = np.empty((TILE, PANEL), np.int32)
    n_panels, n_hits, panel = index.codes.shape[0], 0, first_panel
    while panel < n_panels and n_hits + (stop - start) * capacity <= len(ids):
        panel = filter_panels(panel, n_panels, block, index, dots)
        for i in range(stop - start):
            for c in range(block.counts[i]):
                row = block.rows[i, c]
                exact = sqdist(index.X, row, Q, start + i)
                if exact <= sqradius:
                    queries[n_hits] = start + i
                    ids[n_hits] = row
                    sqdists[n_hits] = exact
                    n_hits += 1
            block.counts[i] = 0
    return panel, n_hits


def radius(Q, index, sqradius, n_threads):
    """All rows within a radius of each query, exactly.

    Parameters
    ----------
    Q : ndarray of shape (nq, d), float32 or float64
        Finite, C-contiguous.
    index : FlatIndex
    sqradius : float
        Squared; rows at this distance are inside.
    n_threads : int

    Returns
    -------
    sqdists : ndarray of shape (total,), float64
        Squared distances, query after query.
    ids : ndarray of shape (total,), int64
        Row numbers, ascending for each query.
    offsets : ndarray of shape (nq + 1,), int64
        Query i has the places offsets[i] to offsets[i + 1].
    """
    Q = read_only(Q)
    starts = range(0, len(Q), _BLOCK)
    found = [None] * len(starts)

    def search(number, start):
        parts, panel = [], 0
        while panel < len(index.codes):
            hits = [np.empty(_MAX_HITS, t) for t in (np.int64, np.int64, np.float64)]
            stop = min(start + _BLOCK, len(Q))
            panel, n_hits = _radius(start, stop, panel, Q, index, sqradius, *hits)
            parts.append([array[:n_hits].copy() for array in hits])
        queries, ids, sqdists = map(np.concatenate, zip(*parts, strict=True))
        order = np.argsort(queries, kind="stable")
        found[number] = queries[order], ids[order], sqdists[order]

    run_blocks(search, enumerate(starts), n_threads)
    queries, ids, sqdists = map(np.concatenate, zip(*found, strict=True))
    offsets = np.searchsorted(queries, np.arange(len(Q) + 1))
    return sqdists, ids, offsets
