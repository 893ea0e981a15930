"""Queries that are searched among codes: their tables and their candidates.

A candidate has a *value*, its squared distance but for an error that is known to be
small. Candidates are dropped by it, and what values cannot tell apart is measured.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sklearn_ann._cpu._arrays import empty, filled, zeros
from sklearn_ann._cpu._candidates import capacity, growth
from sklearn_ann._cpu._distance import AHEAD, prefetch, sqdist
from sklearn_ann._cpu._jit import inlined_jit, jit_maker, jit_part
from sklearn_ann._cpu._pq_codes import decode_pq
from sklearn_ann._cpu._topk import (
    above_kth_smallest,
    bracket_kth_smallest,
    sort_pairs,
)
from sklearn_ann._layout import CODEWORDS, PANEL

# Ids and the numbers of candidates are below it: both fit into one of 64 bits.
_KEY = 2**31


class PQBlock(NamedTuple):
    """Queries with their tables and their candidates."""

    upper_halves: np.ndarray  # (n, m, 256)  uint8    of -2 (q - z).codeword, in steps
    lower_halves: np.ndarray  # (n, m, 256)  uint8    of the same: see ``_pq_tables.py``
    steps: np.ndarray  # (n,)                float32
    bases: np.ndarray  # (n,)                float64  what a sum of steps is added to
    errors: np.ndarray  # (n,)               float64  of a value, at most
    thresholds: np.ndarray  # (n,)           float64  values above are no neighbours
    counts: np.ndarray  # (n,)               int64    candidates
    full_at: np.ndarray  # (n,)              int64    of more candidates some must go
    values: np.ndarray  # (n, capacity)      float64  squared distances, but for errors
    positions: np.ndarray  # (n, capacity)   int64


class PQScratch(NamedTuple):
    """Memory for one query at a time."""

    upper_sums: np.ndarray  # (2, 64)  uint16  of upper halves, for two panels
    lower_sums: np.ndarray  # (1, 64)  uint16  of lower halves, for one
    decoded: np.ndarray  # (1, d)      float64
    keys: np.ndarray  # (capacity,)    int64


@jit_maker
def empty_block(n, m, k):
    """A block of n queries without candidates; tables and steps are to be filled."""
    return PQBlock(
        upper_halves=empty((n, m, CODEWORDS), np.uint8),
        lower_halves=empty((n, m, CODEWORDS), np.uint8),
        steps=zeros(n, np.float32),
        bases=zeros(n, np.float64),
        errors=zeros(n, np.float64),
        thresholds=filled(n, np.inf),
        counts=zeros(n, np.int64),
        full_at=filled(n, growth(k)),
        values=empty((n, capacity(k)), np.float64),
        positions=empty((n, capacity(k)), np.int64),
    )


@jit_maker
def empty_scratch(d, k):
    """Memory for queries of d features that want k candidates."""
    return PQScratch(
        upper_sums=empty((2, PANEL), np.uint16),
        lower_sums=empty((1, PANEL), np.uint16),
        decoded=empty((1, d), np.float64),
        keys=empty(capacity(k), np.int64),
    )


@inlined_jit
def shrink_pq(
    block,  # INOUT  PQBlock
    i,      # IN     int      query of the block
    k,      # IN     int
):
    """Lower the threshold to what k candidates do not exceed; drop those above."""
    values, positions, count = block.values[i], block.positions[i], block.counts[i]
    if count >= k:
        # Both the value of a candidate and that of the k-th may be wrong by an error.
        kth = above_kth_smallest(values, count, k) + 2 * block.errors[i]
        threshold = min(block.thresholds[i], kth)
        kept = 0
        for c in range(count):
            value = values[c]
            values[kept], positions[kept] = value, positions[c]
            kept += value <= threshold
        block.thresholds[i], block.counts[i] = threshold, kept
    block.full_at[i] = block.counts[i] + growth(k)


@jit_part
def certain_first(
    block,  # INOUT  PQBlock
    i,      # IN     int      query of the block
    k,      # IN     int
):
    """Bring candidates that are surely among the k nearest forward; their number."""
    values, positions, count = block.values[i], block.positions[i], block.counts[i]
    below, certain = bracket_kth_smallest(values, count, k)[0], 0
    for c in range(count):
        if values[c] < below - 2 * block.errors[i]:
            values[c], values[certain] = values[certain], values[c]
            positions[c], positions[certain] = positions[certain], positions[c]
            certain += 1
    return certain


@jit_part
def measure_pq(
    block,    # INOUT    PQBlock
    i,        # IN       int        query of the block
    k,        # IN       int
    first,    # IN       int        first of the candidates to measure
    Q,        # IN       (n, d)     float    queries of the block
    index,    # IN       IVFPQIndex
    scratch,  # SCRATCH  PQScratch
):
    """Measure the candidates from the first on, and keep the k nearest.

    Those are in the order of distance and id, those before them stay.
    """
    count = block.counts[i] - first
    values, positions = block.values[i, first:], block.positions[i, first:]
    # Taken out of their tuples once, before the loop.
    codes, all_ids = index.codes, index.ids
    decoded, keys = scratch.decoded, scratch.keys
    for c in range(count):
        if c + AHEAD < count:
            # The whole panel: each of its lines has a code of the row.
            prefetch(codes, positions[c + AHEAD] // PANEL)
            prefetch(all_ids, positions[c + AHEAD])
        decode_pq(positions[c], index, decoded)
        values[c] = sqdist(decoded, 0, Q, i)
        # Sorted by id among equal distances; the number of the candidate goes along.
        keys[c] = np.int64(all_ids[positions[c]]) * _KEY + c
    sort_pairs(values, keys, count)
    kept = min(count, k - first)
    for c in range(kept):
        keys[c] = positions[keys[c] % _KEY]
    for c in range(kept):
        positions[c] = keys[c]
    block.counts[i] = first + kept
    block.full_at[i] = block.counts[i] + growth(k)


@inlined_jit
def make_room(
    block,    # INOUT    PQBlock
    i,        # IN       int      query of the block
    k,        # IN       int
    Q,        # IN       (n, d)   float    queries of the block
    index,    # IN       IVFPQIndex
    scratch,  # SCRATCH  PQScratch
):
    """Drop candidates of a query until there is room for another panel of them."""
    shrink_pq(block, i, k)
    if block.full_at[i] > block.values.shape[1] - PANEL:
        # So many have nearly the same value that only measuring them tells.
        measure_pq(block, i, k, 0, Q, index, scratch)
        shrink_pq(block, i, k)
