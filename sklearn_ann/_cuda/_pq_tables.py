"""The tables of queries, and a proven bound on what a sum of their entries is worth.

As on the CPU (``_cpu/_ivf_pq.py``), with c the centroid of a list, r the decoded
residual of a row and z the center of the centroids,

    |q - (c + r)|^2  =  |q - c|^2  +  (|r|^2 + 2 (c - z).r)  -  2 (q - z).r,

which is known from probing, plus the term of the row, plus m entries of the table of
the query. Here all is float32 at best, so an origin is taken off first: a shift is what
is known of a list minus the origin of its query. Entries may be float16, which knows
little of small and nothing of large numbers, so they are multiplied by a power of two,
the scale of their query. A *value* is computed in float32 as

    v  =  (shift + term) + (entry_1 + ... + entry_m) / scale.

Let D be the squared distance to the decoded row, as ``sqdist`` measures it. With u =
2^-24, the rounding unit, w that of entries, 2^-24 or 2^-11, parts of s features, rho_j
the largest length of a codeword of part j, and

    T  =  sum_j |2 (q - z)_j| rho_j,        R  =  largest |shift| + largest |term| + T,

v differs from D - origin by at most E = 4 u (s + m + 16) R + w T + 2^-53 (d + 64) K
+ L, where K is the largest |q - c|^2 and L what decoded rows have lost:

- an entry is at most |2 (q - z)_j| rho_j. Its factor q - z is rounded once, and the s
  products and sums once each: (s + 1) u of T;
- it is stored with one more rounding: w of T, the second part of E. The largest bound
  of an entry times the scale is between 2^14 and 2^15. So none overflows, and what is
  below 2^-14, subnormal in float16, is rounded by 2^-25 at most, 2^-39 of that bound:
  for m entries at most 2^-17 of the first part of E;
- m - 1 sums of entries, (m - 1) u of T. Their division by a power of two is exact;
- the shift and the term are rounded to float32, and the last two sums: 3 u of R;
- |q - c|^2 and D are sums of d squares in float64: the third part of E, and that of D
  which grows with |r|^2 is far less than what is left of the first;
- a decoded row is rounded to float64: it is off by a length of at most l = 2^-52 (|q| +
  reach), where no row is further than reach = sqrt(K) + |(rho_1, ..., rho_m)|. That is
  L = l (2 reach + l), which only matters far from the origin.

So little more than a quarter of the first part is needed. What is left of it pays for
errors of errors, and for what is rounded when E, and thresholds made of it, become
float32. What underflows is less than TINY for each value, if each |2 (q - z)_j| counts
for TINY more. That goes for entries too small for such a scale: it is 2^100 at most.

A query with R beyond FARTHEST has no tables: zeros, and an infinite E, so that all its
rows are measured. (One that is not finite probes no lists.)
"""

from __future__ import annotations

import math

from sklearn_ann._cuda._candidates import rounded_up
from sklearn_ann._cuda._compat import (
    WARP,
    cuda,
    device,
    float32,
    float64,
    kernel,
    load4,
)
from sklearn_ann._cuda._fp32_vectors import Bound, sum_and_largest
from sklearn_ann._layout import CODEWORDS, FARTHEST

TINY = 2.0**-100

# Scaled entries are below 2^15, and scales at most 2^100.
_ENTRY_BITS, _MOST_SCALE_BITS = 15, 100

# A value is both bounds of a distance, but for the error of its query, which is its
# spread: D - E <= v <= D + E. Between them lies 2 E.
BOUND = Bound(lower_factor=1.0, underflow=TINY, gap_factor=2.0)

CENTER_THREADS = 128

# Queries of a block of ``fill_tables``: an entry of a codebook is read once for them.
TOGETHER = 8


@device
def _scale_for(largest):
    """The power of two that entries up to a length are multiplied by."""
    _, bits = math.frexp(largest)
    return float32(math.ldexp(1.0, min(_ENTRY_BITS - bits, _MOST_SCALE_BITS)))


@device
def _bounds_of_entries(Q, query, center, radii, dsub, lane):
    """Of |2 (q - z)_j| rho_j, what entries are at most: the sum and the largest.

    Over all parts j, by all lanes of a warp.
    """
    total, largest = float64(0), float64(0)
    for j in range(lane, radii.shape[0], WARP):
        square = float64(0)
        for t in range(j * dsub, min(Q.shape[1], (j + 1) * dsub)):
            value = float64(Q[query, t]) - center[t]
            square += 4.0 * value * value
        entry = (math.sqrt(square) + TINY) * radii[j]
        total, largest = total + entry, max(largest, entry)
    return sum_and_largest(total, largest)


@device
def _lost_in_decoding(Q, query, radii, farthest, lane):
    """How much the rounding of decoded rows changes squared distances, at most.

    By all lanes of a warp.
    """
    square, radius_square = float64(0), float64(0)
    for t in range(lane, Q.shape[1], WARP):
        square += float64(Q[query, t]) * float64(Q[query, t])
    for j in range(lane, radii.shape[0], WARP):
        radius_square += radii[j] * radii[j]
    square, _ = sum_and_largest(square, float64(0))
    radius_square, _ = sum_and_largest(radius_square, float64(0))
    reach = math.sqrt(farthest) + math.sqrt(radius_square)
    lost = 2.0**-52 * (math.sqrt(square) + reach)
    return lost * (2.0 * reach + lost)


@kernel
def center_queries(
    Q,           # IN   (n, d)         float
    center,      # IN   (d,)           float64
    radii,       # IN   (m,)           float64  the largest length of a codeword
    dsub,        # IN   int
    largest_row_term,  # IN  float     absolute
    spans,       # IN   (n,)           float64  the largest absolute shift
    farthest,    # IN   (n,)           float64  the largest squared distance to a
                 #                              centroid
    origins,     # IN   (n,)           float64
    sqradius,    # IN   float
    rounding,    # IN   float          the rounding unit of entries
    padded,      # IN   int            queries with padding, a multiple of TOGETHER
    centered,    # OUT  (m * dsub * padded,)  float32  side by side for each feature;
                 #                              zeros past d and without a table;
                 #                              not written past query n
    scales,      # OUT  (n,)           float32  powers of two
    errors,      # OUT  (n,)           float32
    thresholds,  # OUT  (n,)           float32  of values within the radius
):
    """Queries minus the center, scales, errors and thresholds; a warp has a query."""
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    query = cuda.blockIdx.x * (cuda.blockDim.x // WARP) + warp
    n, d = Q.shape
    if query < n:
        m = radii.shape[0]
        entries, largest = _bounds_of_entries(Q, query, center, radii, dsub, lane)
        lost = _lost_in_decoding(Q, query, radii, farthest[query], lane)
        summands = entries + largest_row_term + spans[query]
        has_table = summands <= FARTHEST
        for t in range(lane, m * dsub, WARP):
            value = float64(0)
            if has_table and t < d:
                value = float64(Q[query, t]) - center[t]
            centered[t * padded + query] = float32(value)
        if lane == 0:
            error = summands * (dsub + m + 16) * 2.0**-22 + entries * rounding
            error += 2.0**-53 * (d + 64) * farthest[query] + lost
            threshold = sqradius - origins[query] + error + TINY
            if not has_table:
                error = math.inf
            if not has_table or sqradius == math.inf:
                threshold = math.inf
            scales[query] = _scale_for(largest if has_table else float64(1))
            errors[query] = rounded_up(error)
            thresholds[query] = rounded_up(threshold)


@kernel
def fill_tables(
    centered,     # IN   (m * dsub * padded,)  float32
    scales,       # IN   (n,)            float32
    padded,       # IN   int
    codebooks_t,  # IN   (m, dsub, 256)  float32
    m,            # IN   int
    tables,       # OUT  (n * m * 256,)  float32 or float16  -2 (q - z).codeword * scale
):
    """A thread has an entry of one part, for 8 queries."""
    products = cuda.local.array(TOGETHER, float32)
    j, code = cuda.blockIdx.x % m, cuda.threadIdx.x
    first = cuda.blockIdx.x // m * TOGETHER
    dsub, n = codebooks_t.shape[1], tables.shape[0] // (m * CODEWORDS)
    for i in range(TOGETHER):
        products[i] = float32(0)
    for s in range(dsub):
        word, at = codebooks_t[j, s, code], (j * dsub + s) * padded + first
        for i in range(0, TOGETHER, 4):
            of_queries = load4(centered, at + i)
            for query in range(4):
                products[i + query] += of_queries[query] * word
    for i in range(TOGETHER):
        if first + i < n:
            at = ((first + i) * m + j) * CODEWORDS + code
            tables[at] = float32(-2) * scales[first + i] * products[i]
