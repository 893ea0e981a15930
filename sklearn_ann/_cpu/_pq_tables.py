"""The tables of a query: what each codeword adds to a distance, in steps of 16 bits."""

from __future__ import annotations

import numpy as np

from sklearn_ann._cpu._arrays import empty, zeros
from sklearn_ann._cpu._jit import jit_maker, jit_part
from sklearn_ann._cpu._pq_codewords import ROWS, multiply_part, multiply_parts
from sklearn_ann._cpu._pq_simd import SPLITS_PAIRS, round_table
from sklearn_ann._layout import CODEWORDS, FARTHEST, NIBBLES

# The smallest step: its inverse is finite, and it is much more than all that underflows
# in float32.
_LEAST_STEP = np.float32(2.0**-100)

# Relative error of the float32 sums, for each feature of a sub-space and each entry:
# some units in the last place of the largest term.
_ROUNDING = 2.0**-22


@jit_part
def half_bits(m, is_paired):
    """Bits of half a rounded entry: sums of so many of them stay below 2**16."""
    bits = 8
    if SPLITS_PAIRS and is_paired:
        # A sum of two has 8 bits.
        m, bits = 2 * m, 7
    while m << bits > 2**16:
        bits -= 1
    return np.int32(bits)


@jit_maker
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
    is_split = SPLITS_PAIRS and index.is_paired
    bits, n_sums = half_bits(m, index.is_paired), 2 * m if is_split else m
    doubled, inverses = zeros((n, m * dsub), np.float32), zeros(n, np.float32)
    for i in range(n):
        for t in range(Q.shape[1]):
            doubled[i, t] = 2.0 * (np.float64(Q[i, t]) - center[t])
        largest_sum, widest = _extent(doubled[i], index)
        if largest_sum <= FARTHEST:
            steps[i] = max(_LEAST_STEP, np.float32(widest / ((1 << 2 * bits) - 1)))
            inverses[i] = np.float32(1.0) / steps[i]
            # Rounded down: in the middle, what is lost may be as much too high.
            bases[i] = 0.5 * n_sums * np.float64(steps[i])
            errors[i] = bases[i] + largest_sum * (dsub + m + 16) * _ROUNDING
        else:
            doubled[i] = 0.0
            steps[i], bases[i], errors[i] = _LEAST_STEP, 0.0, np.inf
    # Part by part, a codebook and the products stay in the L1 cache.
    products = empty((ROWS, CODEWORDS), np.float32)
    for j in range(m):
        for first in range(0, n, ROWS):
            is_full = first + ROWS <= n
            if is_full:
                multiply_parts(codebooks_t, j, doubled, first, products)
            for i in range(first, min(first + ROWS, n)):
                if not is_full:
                    multiply_part(codebooks_t, j, doubled, i, products)
                row = i - first if is_full else 0
                bases[i] += _round(
                    products, row, upper_halves, lower_halves, i, j,
                    inverses[i], bits, is_split,
                )


@jit_maker
def _round(
    products,      # IN   (n_rows, 256)  float32
    row,           # IN   int
    upper_halves,  # OUT  (n, m, 256)    uint8
    lower_halves,  # OUT  (n, m, 256)    uint8
    i,             # IN   int
    j,             # IN   int
    inverse,       # IN   float32        of the step
    bits,          # IN   int            of half an entry
    is_split,      # IN   bool           two tables for the halves of a code
):
    """Round a table down; returns what 0 stands for."""
    if SPLITS_PAIRS and is_split:
        return _round_pairs(
            products[row], upper_halves, lower_halves, i, j, inverse, bits
        )
    return np.float64(
        round_table(products, row, upper_halves, lower_halves, i, j, inverse, bits)
    )


@jit_part
def _extent(
    doubled,  # IN  (m * dsub,)  float32  twice a query, centered
    index,    # IN  IVFPQIndex
):
    """What a term and the entries of a query add up to at most, all taken positive.

    And how far apart entries of one part can be: by Cauchy and Schwarz, twice the
    largest one.
    """
    m, dsub, _ = index.codebooks_t.shape
    total, widest = index.largest_row_term, 0.0
    for j in range(m):
        square = 0.0
        for s in range(dsub):
            square += np.float64(doubled[j * dsub + s]) ** 2
        largest = np.sqrt(square) * index.radii[j]
        total, widest = total + largest, max(widest, 2.0 * largest)
    # Rounded products may be a little further apart.
    return total, widest * (1.0 + dsub * _ROUNDING)


@jit_maker
def _round_pairs(
    table,         # IN   (256,)       float32  sums of an entry for each half of a code
    upper_halves,  # OUT  (n, m, 256)  uint8    the first 32: a table for each half
    lower_halves,  # OUT  (n, m, 256)  uint8
    i,             # IN   int
    j,             # IN   int
    inverse,       # IN   float32      of the step
    bits,          # IN   int          of half an entry
):
    """Round a table of pairs, as ``sum_entries`` wants it; what 0 stands for."""
    entries = empty(NIBBLES, np.float32)
    largest_entry, base = np.float32((1 << 2 * bits) - 1), 0.0
    for nibble in range(2):
        smallest = np.float32(np.inf)
        for c in range(NIBBLES):
            # Entries of the two codes of 4 bits that share a byte.
            entries[c] = table[c] if nibble == 0 else table[NIBBLES * c] - table[0]
            smallest = min(smallest, entries[c])
        base += np.float64(smallest)
        for c in range(NIBBLES):
            value = (entries[c] - smallest) * inverse
            whole, at = np.int32(min(value, largest_entry)), NIBBLES * nibble + c
            upper_halves[i, j, at] = whole >> bits
            lower_halves[i, j, at] = whole & (1 << bits) - 1
    return base
