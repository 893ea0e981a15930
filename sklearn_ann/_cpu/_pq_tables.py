"""The tables of a query: what each codeword adds to a distance, in steps of 16 bits."""

from __future__ import annotations

import numpy as np

from sklearn_ann._cpu._jit import jit
from sklearn_ann._cpu._pq_codewords import ROWS, multiply_part, multiply_parts
from sklearn_ann._cpu._pq_simd import SPLITS_PAIRS, round_table, table_range
from sklearn_ann._layout import CODEWORDS, FARTHEST, NIBBLES

# The smallest step: its inverse is finite, and it is much more than all that underflows
# in float32.
_LEAST_STEP = np.float32(2.0**-100)

# Relative error of the float32 sums, for each feature of a sub-space and each entry:
# some units in the last place of the largest term.
_ROUNDING = 2.0**-22


@jit
def half_bits(m, is_paired):
    """Bits of half a rounded entry: sums of so many of them stay below 2**16."""
    bits = 8
    if SPLITS_PAIRS and is_paired:
        # A sum of two has 8 bits.
        m, bits = 2 * m, 7
    while m << bits > 2**16:
        bits -= 1
    return np.int32(bits)


@jit
def fill_tables(
    Q,             # IN   (n, d)       float    queries of the block
    index,         # IN   IVFPQIndex
    upper_halves,  # OUT  (n, m, 256)  uint8    of -2 (q - z).codeword, in steps
    lower_halves,  # OUT  (n, m, 256)  uint8    of the same
    steps,         # OUT  (n,)         float32  size of a step
    bases,         # OUT  (n,)         float64  what a sum of steps is to be added to
    errors,        # OUT  (n,)         float64  what the result may be wrong by
):
    """Fill the tables of a block of queries.

    A query so far away that its sums might overflow has zeros and an infinite error:
    all its rows are measured.
    """
    codebooks_t, center = index.codebooks_t, index.centroids.center
    n, (m, dsub, _) = len(steps), codebooks_t.shape
    centered = np.zeros((ROWS, m * dsub), np.float32)
    tables = np.empty((ROWS, m, CODEWORDS), np.float32)
    for first in range(0, n, ROWS):
        n_rows = min(ROWS, n - first)
        for row in range(n_rows):
            for t in range(Q.shape[1]):
                value = np.float64(Q[first + row, t])
                centered[row, t] = value - center[t]
        for j in range(m):
            if n_rows == ROWS:
                multiply_parts(codebooks_t, j, centered, tables, 0)
            else:
                for row in range(n_rows):
                    multiply_part(codebooks_t, j, centered, tables, row)
        for row in range(n_rows):
            i, largest_sum = first + row, _largest_sum(centered[row], index)
            if not largest_sum <= FARTHEST:
                upper_halves[i], lower_halves[i] = 0, 0
                steps[i], bases[i], errors[i] = _LEAST_STEP, 0.0, np.inf
                continue
            if SPLITS_PAIRS and index.is_paired:
                step, base, lost = _round_pairs(
                    tables[row], upper_halves, lower_halves, i
                )
            else:
                step, base, lost = _round_tables(
                    tables, row, upper_halves, lower_halves, i
                )
            # Rounded down: in the middle, what is lost may be as much too high.
            steps[i], bases[i] = step, base + 0.5 * lost
            errors[i] = 0.5 * lost + largest_sum * (dsub + m + 16) * _ROUNDING


@jit
def _largest_sum(
    centered,  # IN  (m * dsub,)  float32
    index,     # IN  IVFPQIndex
):
    """What a term and the entries of a query add up to at most, all taken positive."""
    m, dsub, _ = index.codebooks_t.shape
    total = index.largest_row_term
    for j in range(m):
        square = 0.0
        for s in range(dsub):
            doubled = 2.0 * np.float64(centered[j * dsub + s])
            square += doubled * doubled
        total += np.sqrt(square) * index.radii[j]
    return total


@jit
def _round_tables(
    tables,        # IN   (n_rows, m, 256)  float32
    row,           # IN   int
    upper_halves,  # OUT  (n, m, 256)       uint8
    lower_halves,  # OUT  (n, m, 256)       uint8
    i,             # IN   int
):
    """Round the tables of a query down.

    Returns the step, what 0 stands for, and what sums lack, at most.
    """
    m = tables.shape[1]
    bits, smallest = half_bits(m, False), np.empty(m, np.float32)
    largest_entry = np.float32((1 << 2 * bits) - 1)
    base, step = 0.0, _LEAST_STEP
    for j in range(m):
        smallest[j], largest = table_range(tables, row, j)
        base += np.float64(smallest[j])
        step = max(step, (largest - smallest[j]) / largest_entry)
    inverse = np.float32(1.0) / step
    for j in range(m):
        round_table(
            tables, row, upper_halves, lower_halves, i, j, smallest[j], inverse, bits
        )
    return step, base, m * np.float64(step)


@jit
def _round_pairs(
    table,         # IN   (m, 256)     float32  sums of an entry for each half of a code
    upper_halves,  # OUT  (n, m, 256)  uint8    the first 32: a table for each half
    lower_halves,  # OUT  (n, m, 256)  uint8
    i,             # IN   int
):
    """The same of tables of pairs, as ``sum_entries`` wants them."""
    m, bits = len(table), half_bits(len(table), True)
    # Entries of the two codes of 4 bits that share a byte.
    entries = np.empty((m, 2, NIBBLES), np.float32)
    smallest = np.empty((m, 2), np.float32)
    largest_entry = np.float32((1 << 2 * bits) - 1)
    base, step = 0.0, _LEAST_STEP
    for j in range(m):
        entries[j, 0] = table[j, :NIBBLES]
        entries[j, 1] = table[j, ::NIBBLES] - table[j, 0]
        for nibble in range(2):
            smallest[j, nibble] = entries[j, nibble].min()
            base += np.float64(smallest[j, nibble])
            width = entries[j, nibble].max() - smallest[j, nibble]
            step = max(step, width / largest_entry)
    inverse = np.float32(1.0) / step
    for j in range(m):
        for nibble in range(2):
            for c in range(NIBBLES):
                value = (entries[j, nibble, c] - smallest[j, nibble]) * inverse
                whole, at = np.int32(min(value, largest_entry)), NIBBLES * nibble + c
                upper_halves[i, j, at] = whole >> bits
                lower_halves[i, j, at] = whole & (1 << bits) - 1
    return step, base, 2 * m * np.float64(step)
