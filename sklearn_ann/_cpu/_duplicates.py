"""Identical rows: how many there are before each.

They are found by a hash table, and compared bit by bit: a collision costs time only.
"""

from __future__ import annotations

import numpy as np

from sklearn_ann._cpu._arrays import filled
from sklearn_ann._cpu._distance import AHEAD, prefetch
from sklearn_ann._cpu._jit import jit, jit_part
from sklearn_ann._layout import read_only


@jit_part
def _are_equal(words, i, j):
    t, width = 0, words.shape[1]
    while t < width and words[i, t] == words[j, t]:
        t += 1
    return t == width


@jit
def _rank_duplicates(
    words,  # IN   (n, w)  uint32  the bits of the rows
    rows,   # IN   (m,)    int64   rows to look at, each once
    keys,   # IN   (w,)    uint64  random numbers
    ranks,  # OUT  (m,)    int64
):
    n_bits = 1
    while 2**n_bits < 2 * len(rows):
        n_bits += 1
    # The last row so far of each group, as its place among `rows`.
    table, last = filled(2**n_bits, -1), 2**n_bits - 1
    for j in range(len(rows)):
        if j + AHEAD < len(rows):
            prefetch(words, rows[j + AHEAD])
        mixed = np.uint64(0)
        for t in range(len(keys)):
            mixed += keys[t] * np.uint64(words[rows[j], t])
        at = np.int64(mixed >> np.uint64(64 - n_bits))
        while table[at] >= 0 and not _are_equal(words, rows[table[at]], rows[j]):
            at = (at + 1) & last
        ranks[j] = ranks[table[at]] + 1 if table[at] >= 0 else 0
        table[at] = j


def rank_duplicates(X, rows):
    """How many of the rows before are identical to each one, bit by bit.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
        C-contiguous.
    rows : ndarray of shape (m,), int64
        Rows of X to look at, each once.

    Returns
    -------
    ranks : ndarray of shape (m,), int64
    """
    words, ranks = X.view(np.uint32), np.empty(len(rows), np.int64)
    keys = np.random.default_rng(0).integers(2**64, size=words.shape[1], dtype="u8")
    _rank_duplicates(read_only(words), read_only(rows), read_only(keys), ranks)
    return ranks
