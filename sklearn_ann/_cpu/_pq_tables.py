"""The tables of a query: what each codeword adds to a distance, in floats and bytes."""

from __future__ import annotations

import numpy as np

from sklearn_ann._cpu._codewords import ROWS, multiply_part, multiply_parts
from sklearn_ann._cpu._jit import jit
from sklearn_ann._cpu._pq_simd import SPLITS_PAIRS, round_table, table_range
from sklearn_ann._layout import NIBBLES

# Relative error of the float32 sums, for each feature of a sub-space and each entry:
# some units in the last place of the largest term.
_ROUNDING = 2.0**-22


@jit
def fill_tables(
    start,    # IN   int             first of the queries
    Q,        # IN   (nq, d)         float
    index,    # IN   IVFPQIndex
    tables,   # OUT  (n, m, 256)     float32   -2 (q - z).codeword
    rounded,  # OUT  (n, m, 256)     uint8     the same, rounded down, in steps
    steps,    # OUT  (n,)            float32   size of a step
    bases,    # OUT  (n,)            float64   sum of the smallest entries: not in bytes
    errors,   # OUT  (n,)            float64   what a sum of floats may be wrong by
):
    """Fill the tables of a block of queries."""
    codebooks, radii, center = index.codebooks, index.radii, index.centroids.center
    n, (m, dsub, _) = len(tables), codebooks.shape
    centred = np.zeros((n, m * dsub), np.float32)
    for i in range(n):
        for t in range(Q.shape[1]):
            centred[i, t] = np.float64(Q[start + i, t]) - center[t]
    for j in range(m):
        for i in range(0, n - ROWS + 1, ROWS):
            multiply_parts(codebooks, j, centred, tables, i)
        for i in range(n - n % ROWS, n):
            multiply_part(codebooks, j, centred, tables, i)
    for i in range(n):
        error = index.largest_term
        for j in range(m):
            square = 0.0
            for s in range(dsub):
                double = 2.0 * np.float64(centred[i, j * dsub + s])
                square += double * double
            error += np.sqrt(square) * radii[j]
        errors[i] = error * (dsub + m + 16) * _ROUNDING
        if SPLITS_PAIRS and index.is_paired:
            steps[i], bases[i] = _round_pairs(i, tables, rounded)
        else:
            steps[i], bases[i] = _round_tables(i, tables, rounded)


@jit
def _round_tables(
    i,        # IN   int          query of the block
    tables,   # IN   (n, m, 256)  float32
    rounded,  # OUT  (n, m, 256)  uint8
):
    """Round the tables of a query down to bytes; their step, and what 0 stands for."""
    m = tables.shape[1]
    # A sum of m bytes has 16 bits.
    largest, lows = np.float32(min(255, 65535 // m)), np.empty(m, np.float32)
    base, step = 0.0, np.float32(0.0)
    for j in range(m):
        lows[j], highest = table_range(tables, i, j)
        base += np.float64(lows[j])
        step = max(step, (highest - lows[j]) / largest)
    inverse = np.float32(1.0) / step if step > 0 else np.float32(0.0)
    for j in range(m):
        round_table(tables, rounded, i, j, lows[j], inverse, largest)
    return step, base


@jit
def _round_pairs(
    i,        # IN   int          query of the block
    tables,   # IN   (n, m, 256)  float32  sums of an entry for each half of a code
    rounded,  # OUT  (n, m, 256)  uint8    the first 32: a table for each half
):
    """The same of tables of pairs, as ``sum_entries`` wants them."""
    m = tables.shape[1]
    halves, lows = np.empty((m, 2, NIBBLES), np.float32), np.empty((m, 2), np.float32)
    # A sum of two entries has 8 bits, one of 2 m of them 16.
    largest = np.float32(min(127, 65535 // (2 * m)))
    base, step = 0.0, np.float32(0.0)
    for j in range(m):
        halves[j, 0] = tables[i, j, :NIBBLES]
        halves[j, 1] = tables[i, j, ::NIBBLES] - tables[i, j, 0]
        for half in range(2):
            lows[j, half] = halves[j, half].min()
            base += np.float64(lows[j, half])
            step = max(step, (halves[j, half].max() - lows[j, half]) / largest)
    inverse = np.float32(1.0) / step if step > 0 else np.float32(0.0)
    for j in range(m):
        for half in range(2):
            for c in range(NIBBLES):
                value = (halves[j, half, c] - lows[j, half]) * inverse
                rounded[i, j, NIBBLES * half + c] = np.uint8(min(value, largest))
    return step, base
