"""All rows within a radius: the same filter, with a threshold that stays."""

from __future__ import annotations

import numpy as np

from sklearn_ann._cpu._arrays import count_up, empty
from sklearn_ann._cpu._borrow import borrowed, keep
from sklearn_ann._cpu._distance import prefetch, sqdist
from sklearn_ann._cpu._jit import inlined_jit, jit, jit_maker
from sklearn_ann._cpu._rounding import rounded_down
from sklearn_ann._cpu._sq8_block import encode_queries, set_threshold
from sklearn_ann._cpu._sq8_filter import bound_noted, filter_panels
from sklearn_ann._cpu._sq8_simd import TILE
from sklearn_ann._cpu._threads import cut, run_blocks
from sklearn_ann._layout import PANEL, read_only

# Queries that are searched together, fewer than a byte can number, and hits they may
# have before those are handed over.
_BLOCK = 16 * TILE
_MAX_HITS = 2**16


@inlined_jit
def _hand_over(
    i,             # IN   int         query of the block
    query,         # IN   int         the same query, of all
    Q,             # IN   (nq, d)     float
    index,         # IN   FlatIndex
    block,         # INOUT  SQ8Block
    sqradius,      # IN   float
    surely,        # IN   float       rows with smaller upper bounds are not measured
    with_sqdists,  # IN   bool
    n_hits,        # IN   int         how many there are
    queries,       # OUT  (n_hits,)   uint8
    ids,           # OUT  (n_hits,)   int64
    sqdists,       # OUT  (n_hits,)   float64  or (0,)
):
    """Turn the candidates of a query into hits; how many there are then."""
    X, count = index.X, block.counts[i]
    uppers, rows = block.uppers[i], block.rows[i]
    for c in range(count):
        if not uppers[c] <= surely:
            if c + 1 < count:
                prefetch(X, rows[c + 1])
            exact = sqdist(X, rows[c], Q, query)
            if not exact <= sqradius:
                continue
            if with_sqdists:
                sqdists[n_hits] = exact
        queries[n_hits] = i
        ids[n_hits] = rows[c]
        n_hits += 1
    block.counts[i] = block.ends[i] = 0
    return n_hits


@jit_maker
def _search(
    start,         # IN   int          first query
    panels,        # IN   (n_panels,)  int64    numbers of the panels to search
    at,            # IN   int          where to begin among them
    Q,             # IN   (nq, d)      float
    index,         # IN   FlatIndex
    block,         # INOUT  SQ8Block   with thresholds
    sqradius,      # IN   float        in the units of X
    surely,        # IN   float        rows with smaller upper bounds are not measured
    with_sqdists,  # IN   bool
    counts,        # INOUT  (nq,)      int64    hits of each query so far
    queries,       # OUT  (n_hits,)    uint8    from `start`
    ids,           # OUT  (n_hits,)    int64
    sqdists,       # OUT  (n_hits,)    float64  or (0,)
):
    """Rows within the radius, until the outputs are full: as ``_radius``."""
    codes, biases = block.panels.codes, block.panels.biases
    # Those behind the last query, which fill its tile up, have no hits.
    members = count_up(len(block.counts))
    dots = empty((TILE, PANEL), np.int32)
    n_hits, room = 0, len(members) * block.rows.shape[1]
    while at < len(panels) and n_hits + room <= len(ids):
        at = filter_panels(
            panels, at, members, codes, biases, block, index, len(index.X), dots
        )
        for i in members:
            n_before = n_hits
            bound_noted(i, block, index)
            n_hits = _hand_over(
                i, start + i, Q, index, block, sqradius, surely, with_sqdists,
                n_hits, queries, ids, sqdists,
            )
            if n_hits > n_before:
                counts[start + i] += n_hits - n_before
    return at, n_hits


@jit
def _radius(
    start,         # IN   int          first query
    stop,          # IN   int          one past the last
    panels,        # IN   (n_panels,)  int64    numbers of the panels to search
    first,         # IN   int          where to begin among them
    Q,             # IN   (nq, d)      float
    index,         # IN   FlatIndex
    sqradius,      # IN   float        in the units of X
    with_sqdists,  # IN   bool         if not: what is surely inside is not measured
    counts,        # INOUT  (nq,)      int64    hits of each query so far
    queries,       # OUT  (n_hits,)    uint8    from `start`
    ids,           # OUT  (n_hits,)    int64
    sqdists,       # OUT  (n_hits,)    float64  or (0,)
):
    """Rows within the radius, until the outputs are full.

    Returns where to go on among the panels and the number of hits.
    """
    capacity, index = 2 * PANEL, borrowed(index)
    owned = encode_queries(start, stop, Q, index, capacity)
    block = borrowed(owned)
    threshold = np.sqrt(sqradius) / index.unit
    for i in range(stop - start):
        block.full_at[i] = capacity - PANEL
        if block.thresholds[i] >= 0:
            set_threshold(block, i, threshold, index)
    surely = -1.0 if with_sqdists else rounded_down(threshold)
    found = _search(
        start, panels, first, Q, index, block, sqradius, surely, with_sqdists,
        counts, queries, ids, sqdists,
    )
    keep(owned)
    return found


def radius(Q, index, sqradius, with_sqdists, n_threads):
    """All rows within a radius of each query, exactly.

    Parameters
    ----------
    Q : ndarray of shape (nq, d), float32 or float64
        Finite, C-contiguous.
    index : FlatIndex
    sqradius : float
        Squared; rows at this distance are inside.
    with_sqdists : bool
        Whether distances are wanted too. Without them, rows that are surely inside
        need not be measured.
    n_threads : int

    Returns
    -------
    sqdists : ndarray of shape (total,), float64
        Squared distances, query after query; empty if they are not wanted.
    ids : ndarray of shape (total,), int64
        Row numbers, ascending for each query.
    offsets : ndarray of shape (nq + 1,), int64
        Query i has the places offsets[i] to offsets[i + 1].
    """
    panels = np.arange(len(index.codes))
    blocks = [(start, stop, panels) for start, stop in cut(len(Q), _BLOCK)]
    return radius_in_panels(Q, index, blocks, sqradius, with_sqdists, n_threads)


def radius_in_panels(Q, index, blocks, sqradius, with_sqdists, n_threads):
    """As ``radius``; `blocks` are triples: start and stop of queries, their panels."""
    Q, found = read_only(Q), [None] * len(blocks)
    counts = np.zeros(len(Q), np.int64)

    def search(number):
        start, stop, panels = blocks[number]
        hits = _empty_hits(_MAX_HITS, _MAX_HITS * with_sqdists)
        parts, at = [], 0
        while at < len(panels):
            at, n_hits = _radius(
                start, stop, panels, at, Q, index, sqradius, with_sqdists, counts, *hits
            )
            parts.append([array[:n_hits].copy() for array in hits])
        if len(index.ids) and parts:
            parts = [_by_row(*map(np.concatenate, zip(*parts, strict=True)))]
        found[number] = parts

    def place(number):
        start, stop, _ = blocks[number]
        for part in found[number]:
            _place_hits(*part, places[start:stop], ids, sqdists)
        found[number] = None

    numbers = [(number,) for number in range(len(blocks))]
    run_blocks(search, numbers, n_threads)
    offsets = np.zeros(len(Q) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    places, total = offsets[:-1].copy(), offsets[-1]
    _, ids, sqdists = _empty_hits(total, total * with_sqdists)
    run_blocks(place, numbers, n_threads)
    return sqdists, ids, offsets


def _empty_hits(n, n_sqdists):
    """Queries, row numbers and squared distances of so many hits."""
    return np.empty(n, np.uint8), np.empty(n, np.int64), np.empty(n_sqdists)


def _by_row(queries, ids, sqdists):
    """Hits in the order of their rows: positions in lists are in another one."""
    order = np.argsort(ids)
    in_order = sqdists[order] if len(sqdists) else sqdists
    return queries[order], ids[order], in_order


@jit
def _place_hits(
    queries,      # IN     (n_hits,)  uint8
    ids,          # IN     (n_hits,)  int64
    sqdists,      # IN     (n_hits,)  float64  or (0,)
    places,       # INOUT  (n,)       int64    where the next hit of each query goes
    all_ids,      # OUT    (total,)   int64
    all_sqdists,  # OUT    (total,)   float64  or (0,)
):
    for hit in range(len(queries)):
        place = places[queries[hit]]
        places[queries[hit]] += 1
        all_ids[place] = ids[hit]
        if len(all_sqdists) > 0:
            all_sqdists[place] = sqdists[hit]
