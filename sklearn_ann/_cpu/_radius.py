"""All rows within a radius: the same filter, with a threshold that stays."""

from __future__ import annotations

import numpy as np

from sklearn_ann._cpu._distance import sqdist
from sklearn_ann._cpu._filter import encode_queries, filter_panels, set_threshold
from sklearn_ann._cpu._jit import jit
from sklearn_ann._cpu._simd import TILE
from sklearn_ann._cpu._threads import cut, run_blocks
from sklearn_ann._layout import PANEL, read_only

# Queries that are searched together, and hits they may have before those are handed
# over.
_BLOCK = 16 * TILE
_MAX_HITS = 2**16
_HIT = np.int64, np.int64, np.float64  # query, row, squared distance


@jit
def _radius(
    start,     # IN   int          first query
    stop,      # IN   int          one past the last
    panels,    # IN   (n_panels,)  int64    numbers of the panels to search
    first,     # IN   int          where to begin among them
    Q,         # IN   (nq, d)      float
    index,     # IN   FlatIndex
    sqradius,  # IN   float        in the units of X
    queries,   # OUT  (n_hits,)    int64
    ids,       # OUT  (n_hits,)    int64
    sqdists,   # OUT  (n_hits,)    float64
):
    """Rows within the radius, until the outputs are full.

    Returns where to go on among the panels and the number of hits.
    """
    capacity = 2 * PANEL
    block = encode_queries(start, stop, Q, index, capacity)
    block.marks[:] = capacity - PANEL
    members = np.arange(stop - start)
    for i in members:
        set_threshold(block, i, np.sqrt(sqradius) / index.unit, index.error_ratio)
    dots = np.empty((TILE, PANEL), np.int32)
    n_hits, at, codes, biases = 0, first, block.codes, block.biases
    while at < len(panels) and n_hits + (stop - start) * capacity <= len(ids):
        args = block, index, len(index.X), dots
        at = filter_panels(panels, at, members, codes, biases, *args)
        for i in members:
            for c in range(block.counts[i]):
                row = block.rows[i, c]
                exact = sqdist(index.X, row, Q, start + i)
                if exact <= sqradius:
                    queries[n_hits] = start + i
                    ids[n_hits] = row
                    sqdists[n_hits] = exact
                    n_hits += 1
            block.counts[i] = 0
    return at, n_hits


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
    panels = np.arange(len(index.codes))
    blocks = [(start, stop, panels) for start, stop in cut(len(Q), _BLOCK)]
    return radius_in_panels(Q, index, blocks, sqradius, n_threads)


def radius_in_panels(Q, index, blocks, sqradius, n_threads):
    """As ``radius``; `blocks` are triples: start and stop of queries, their panels."""
    Q = read_only(Q)
    found = [None] * len(blocks)

    def search(number, block):
        start, stop, panels = block
        parts, at = [[np.empty(0, t) for t in _HIT]], 0
        while at < len(panels):
            hits = [np.empty(_MAX_HITS, t) for t in _HIT]
            at, n_hits = _radius(start, stop, panels, at, Q, index, sqradius, *hits)
            parts.append([array[:n_hits].copy() for array in hits])
        found[number] = _by_query_and_row(parts)

    run_blocks(search, enumerate(blocks), n_threads)
    queries, ids, sqdists = map(np.concatenate, zip(*found, strict=True))
    offsets = np.searchsorted(queries, np.arange(len(Q) + 1))
    return sqdists, ids, offsets


def _by_query_and_row(parts):
    """Hits of a block in order; panels of inverted lists bring them in another."""
    queries, ids, sqdists = map(np.concatenate, zip(*parts, strict=True))
    order = np.lexsort((ids, queries))
    return queries[order], ids[order], sqdists[order]
