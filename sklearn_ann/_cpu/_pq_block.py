"""Queries that are searched among codes: their tables and lists of candidates.

A candidate has a *value*, its squared distance but for an error that is known to be
small. Lists are shortened by it, and what values cannot tell apart is measured.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sklearn_ann._cpu._distance import AHEAD, prefetch, sqdist
from sklearn_ann._cpu._jit import inlined_jit, jit
from sklearn_ann._cpu._knn import capacity, growth
from sklearn_ann._cpu._pq_codes import decode_pq
from sklearn_ann._cpu._topk import (
    above_kth_smallest,
    bracket_kth_smallest,
    sort_pairs,
)
from sklearn_ann._layout import CODEWORDS, PANEL

# Ids and the numbers of candidates are below it: both fit into one of 64 bits.
_KEY = 2**31


class Block(NamedTuple):
    """Queries with their tables and their candidates."""

    highs: np.ndarray  # (n, m, 256)        uint8    -2 (q - z).codeword, in steps: its
    lows: np.ndarray  # (n, m, 256)         uint8    upper and lower half; _pq_tables.py
    steps: np.ndarray  # (n,)               float32
    bases: np.ndarray  # (n,)               float64  what a sum of steps is added to
    errors: np.ndarray  # (n,)              float64  of a value, at most
    thresholds: np.ndarray  # (n,)          float64  values above it are no neighbours
    counts: np.ndarray  # (n,)              int64    candidates
    marks: np.ndarray  # (n,)               int64    how many are too many
    values: np.ndarray  # (n, capacity)     float64  squared distances, but for errors
    positions: np.ndarray  # (n, capacity)  int64


class Scratch(NamedTuple):
    sums: np.ndarray  # (2, 64)       uint16
    low_sums: np.ndarray  # (1, 64)   uint16
    decoded: np.ndarray  # (1, d)     float64
    keys: np.ndarray  # (capacity,)   int64


@jit
def empty_block(n, m, k):
    return Block(
        np.empty((n, m, CODEWORDS), np.uint8),
        np.empty((n, m, CODEWORDS), np.uint8),
        np.zeros(n, np.float32),
        np.zeros(n),
        np.zeros(n),
        np.full(n, np.inf),
        np.zeros(n, np.int64),
        np.full(n, growth(k)),
        np.empty((n, capacity(k))),
        np.empty((n, capacity(k)), np.int64),
    )


@inlined_jit
def shrink(block, i, k):
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
    block.marks[i] = block.counts[i] + growth(k)


@jit
def certain_first(block, i, k):
    """Bring candidates that are surely among the k nearest forward; their number."""
    values, positions, count = block.values[i], block.positions[i], block.counts[i]
    below, certain = bracket_kth_smallest(values, count, k)[0], 0
    for c in range(count):
        if values[c] < below - 2 * block.errors[i]:
            values[c], values[certain] = values[certain], values[c]
            positions[c], positions[certain] = positions[certain], positions[c]
            certain += 1
    return certain


@jit
def measure(block, i, k, first, query, Q, index, scratch):
    """Measure the candidates from the first on, and keep the k nearest.

    Those are in the order of distance and id, those before them stay.
    """
    count = block.counts[i] - first
    values, positions = block.values[i, first:], block.positions[i, first:]
    codes, all_ids, decoded, keys = index.codes, index.ids, *scratch[2:]
    for c in range(count):
        if c + AHEAD < count:
            # The whole panel: each of its lines has a code of the row.
            prefetch(codes, positions[c + AHEAD] // PANEL)
            prefetch(all_ids, positions[c + AHEAD])
        decode_pq(positions[c], index, decoded)
        values[c] = sqdist(decoded, 0, Q, query)
        # Sorted by id among equal distances; the number of the candidate goes along.
        keys[c] = np.int64(all_ids[positions[c]]) * _KEY + c
    sort_pairs(values, keys, count)
    before, kept = positions[:count].copy(), min(count, k - first)
    for c in range(kept):
        positions[c] = before[keys[c] % _KEY]
    block.counts[i] = first + kept
    block.marks[i] = block.counts[i] + growth(k)


@inlined_jit
def make_room(block, i, k, query, Q, index, scratch):
    """Drop candidates of a query until another panel of them fits its list."""
    shrink(block, i, k)
    if block.marks[i] > block.values.shape[1] - PANEL:
        # So many have nearly the same value that only measuring them tells.
        measure(block, i, k, 0, query, Q, index, scratch)
        shrink(block, i, k)
