"""The filter: which rows can be neighbours of a query, from float32 products alone.

A tile is 128 rows, two panels. For one tile and some queries a block of threads
computes all dot products, in registers. Rows whose lower bound does not exceed the
threshold of a query are appended to its candidates (``_candidates.py``).
``_fp32_vectors.py`` explains the bounds and the thresholds.
"""

from __future__ import annotations

import math

from sklearn_ann._cuda._candidates import append, rounded_up
from sklearn_ann._cuda._compat import (
    INFINITY,
    cuda,
    device,
    float32,
    float64,
    int32,
    int64,
    kernel,
    launch,
    load4,
)
from sklearn_ann._cuda._fp32_vectors import FEATURES
from sklearn_ann._layout import PANEL

# Rows of a tile, and queries of ``filter_many``. Each of 256 threads has 8 x 8 products
# in registers: 16 loads from shared memory for 64 multiplications.
TILE = 2 * PANEL
SIDE = 8
MANY_THREADS = (TILE // SIDE) ** 2

# Blocks of them on an SM: a thread has 128 registers. With one more than that there
# would be one block, which has nothing to do while it waits at its barriers.
MANY_BLOCKS = 2

# Floats of one operand of a step in shared memory, which holds two steps: one is
# multiplied while the next one is loaded.
STEP = FEATURES * TILE
TWO_STEPS = 2 * STEP

# Queries of ``filter_few``. A thread has one row and reads it once for all of them.
FEW = 8

# Steps of four features for which ``filter_few`` keeps its queries in shared memory.
FEW_STEPS = 64
FEW_FLOATS = FEW_STEPS * FEW * 4

# Up to so many queries ``filter_few`` is used: it reads the rows once for each 8, which
# wait in the L2 cache, and ``filter_many`` always multiplies with 128 queries.
MOST_FEW = 32

# Of the second dimension of a grid.
MOST_BLOCKS = 65535


@device
def append_row(
    query, position, product, sqnorm, threshold, gap_factor,
    starts, counts, lowers, uppers, positions,
):  # fmt: skip
    """Append a row to the candidates of a query, if the product does not exclude it.

    ``_fp32_vectors`` proves the two bounds. Their terms that depend on the query are
    part of the threshold instead.
    """
    lower = sqnorm - float32(2) * product
    if lower <= threshold and sqnorm < INFINITY:
        upper = lower + gap_factor * sqnorm if sqnorm > -INFINITY else INFINITY
        append(query, position, lower, upper, starts, counts, lowers, uppers, positions)


@device
def _put(steps, at, v0, v1, v2, v3):
    """Four features of a vector, each beside that of the other vectors."""
    steps[at] = v0
    steps[at + TILE] = v1
    steps[at + 2 * TILE] = v2
    steps[at + 3 * TILE] = v3


@device
def _multiply(query_steps, query_at, row_steps, row_at, products):
    """Add one feature's products of the 8 queries and 8 rows of a thread."""
    a = cuda.local.array(SIDE, float32)
    b = cuda.local.array(SIDE, float32)
    a[0], a[1], a[2], a[3] = load4(query_steps, query_at)
    a[4], a[5], a[6], a[7] = load4(query_steps, query_at + PANEL)
    b[0], b[1], b[2], b[3] = load4(row_steps, row_at)
    b[4], b[5], b[6], b[7] = load4(row_steps, row_at + PANEL)
    for i in range(SIDE):
        for j in range(SIDE):
            products[i, j] += a[i] * b[j]


@device
def _multiply_4(query_steps, query_at, row_steps, row_at, products):
    """Four features. A loop over them would be as much bookkeeping as multiplying."""
    _multiply(query_steps, query_at, row_steps, row_at, products)
    _multiply(query_steps, query_at + TILE, row_steps, row_at + TILE, products)
    query_at, row_at = query_at + 2 * TILE, row_at + 2 * TILE
    _multiply(query_steps, query_at, row_steps, row_at, products)
    _multiply(query_steps, query_at + TILE, row_steps, row_at + TILE, products)


@device
def multiply_tiles(queries, query_at, vectors, row_at, n_steps, products):
    """The products of 128 queries and 128 rows; a thread has 8 x 8 of them.

    Queries and rows are those of two panels each. The thread loads 4 features at a time
    of one query, from number `query_at` on, and of one row: of panel t // 128, step
    t // 64 % 2 and lane t % 64, if it has number t. It multiplies lanes t // 16 * 4 to
    t // 16 * 4 + 3 of both panels of queries with t % 16 * 4 to t % 16 * 4 + 3 of rows.
    """
    query_steps = cuda.shared.array(TWO_STEPS, float32, alignment=16)
    row_steps = cuda.shared.array(TWO_STEPS, float32, alignment=16)
    t = cuda.threadIdx.x
    # What lives through the loop has 32 bits: registers are what it is short of.
    put_at = int32(t // PANEL % 2 * 4 * TILE + t // (2 * PANEL) * PANEL + t % PANEL)
    query_lane, row_lane = int32(t // 16 * 4), int32(t % 16 * 4)
    for i in range(SIDE):
        for j in range(SIDE):
            products[i, j] = float32(0)
    buffer = int32(0)
    q0, q1, q2, q3 = load4(queries, query_at)
    x0, x1, x2, x3 = load4(vectors, row_at)
    for step in range(0, n_steps, 2):
        _put(query_steps, buffer + put_at, q0, q1, q2, q3)
        _put(row_steps, buffer + put_at, x0, x1, x2, x3)
        cuda.syncthreads()
        if step + 2 < n_steps:
            query_at += 2 * PANEL * 4
            row_at += 2 * PANEL * 4
            q0, q1, q2, q3 = load4(queries, query_at)
            x0, x1, x2, x3 = load4(vectors, row_at)
        query_from, row_from = buffer + query_lane, buffer + row_lane
        _multiply_4(query_steps, query_from, row_steps, row_from, products)
        query_from, row_from = query_from + 4 * TILE, row_from + 4 * TILE
        _multiply_4(query_steps, query_from, row_steps, row_from, products)
        buffer = int32(STEP - buffer)


@device
def near_products(products, sqnorms, thresholds):
    """Which of the 8 x 8 products of a thread do not exclude their row: a bit for each.

    Mostly there are none, and the thread is done.
    """
    near = int64(0)
    for i in range(SIDE):
        for j in range(SIDE):
            if sqnorms[j] - float32(2) * products[i, j] <= thresholds[i]:
                near |= int64(1) << (i * SIDE + j)
    return near


@device
def take_near(near):
    """Row and column of the first product of ``near_products``, and the other bits."""
    at = int32(cuda.ffs(near)) - 1
    return at // SIDE, at % SIDE, near & (near - 1)


@device
def product_of(products, row, column):
    """One of the 8 x 8 products of a thread, by numbers known at run time only.

    Registers have no such numbers. Were the products indexed by them, all would lie in
    local memory, for the sake of the few that are looked up. ``selp`` takes both values
    from registers; with a branch for each, the compiler loads them from local memory.
    """
    value = float32(0)
    for j in range(SIDE):
        of_column = products[0, j]
        for i in range(1, SIDE):
            of_column = cuda.selp(i == row, products[i, j], of_column)
        value = cuda.selp(j == column, of_column, value)
    return value


@kernel(launch_bounds=(MANY_THREADS, MANY_BLOCKS))
def filter_many(
    queries,     # IN    (n_query_panels * n_steps * 256,)  float32  in panels
    vectors,     # IN    (n_panels * n_steps * 256,)  float32  in panels
    sqnorms,     # IN    (n_panels * 64,)  float32  lowered; +inf: no row
    n_steps,     # IN    int               steps of 4 features, an even number
    gap_factor,  # IN    float32           see Bound
    thresholds,  # IN    (padded,)         float32  NaN: nothing is a candidate
    first_tile,  # IN    int               block (x, y) takes 128 queries from 128 x on
    stride,      # IN    int               and tile (first_tile + y) * stride % n_tiles
    n_tiles,     # IN    int
    starts,      # IN    (padded + 1,)     int64
    counts,      # INOUT (padded,)         int32
    lowers,      # OUT   (n_candidates,)   float32
    uppers,      # OUT   (n_candidates,)   float32
    positions,   # OUT   (n_candidates,)   int32
):
    products = cuda.local.array((SIDE, SIDE), float32)
    row_sqnorms = cuda.local.array(SIDE, float32)
    limits = cuda.local.array(SIDE, float32)
    t = cuda.threadIdx.x
    tile = (first_tile + cuda.blockIdx.y) * stride % n_tiles
    panel, half, lane = t // (2 * PANEL), t // PANEL % 2, t % PANEL
    query_at = ((cuda.blockIdx.x * 2 + panel) * n_steps + half) * PANEL * 4 + lane * 4
    row_at = ((tile * 2 + panel) * n_steps + half) * PANEL * 4 + lane * 4
    multiply_tiles(queries, query_at, vectors, row_at, n_steps, products)
    query_lane, row_lane = t // 16 * 4, t % 16 * 4
    for i in range(SIDE):
        lane = i // 4 * PANEL + i % 4
        row_sqnorms[i] = sqnorms[tile * TILE + lane + row_lane]
        limits[i] = thresholds[cuda.blockIdx.x * TILE + lane + query_lane]
    near = near_products(products, row_sqnorms, limits)
    while near != 0:
        i, j, near = take_near(near)
        query = cuda.blockIdx.x * TILE + i // 4 * PANEL + query_lane + i % 4
        position = tile * TILE + j // 4 * PANEL + row_lane + j % 4
        append_row(
            query, position, product_of(products, i, j), sqnorms[position],
            thresholds[query], gap_factor,
            starts, counts, lowers, uppers, positions,
        )  # fmt: skip


@kernel
def filter_few(
    queries,     # IN    (n_query_panels * n_steps * 256,)  float32  in panels
    vectors,     # IN    (n_panels * n_steps * 256,)  float32  in panels
    sqnorms,     # IN    (n_panels * 64,)  float32  lowered; +inf: no row
    n_steps,     # IN    int               steps of 4 features
    gap_factor,  # IN    float32           see Bound
    thresholds,  # IN    (padded,)         float32  NaN: nothing is a candidate
    first_tile,  # IN    int               block (x, y) takes 8 queries from 8 x on
    stride,      # IN    int               and tile (first_tile + y) * stride % n_tiles
    n_tiles,     # IN    int
    starts,      # IN    (padded + 1,)     int64
    counts,      # INOUT (padded,)         int32
    lowers,      # OUT   (n_candidates,)   float32
    uppers,      # OUT   (n_candidates,)   float32
    positions,   # OUT   (n_candidates,)   int32
):
    query_steps = cuda.shared.array(FEW_FLOATS, float32, alignment=16)
    products = cuda.local.array(FEW, float32)
    t = cuda.threadIdx.x
    tile = (first_tile + cuda.blockIdx.y) * stride % n_tiles
    first_query = cuda.blockIdx.x * FEW
    query_at = first_query // PANEL * n_steps * PANEL * 4 + first_query % PANEL * 4
    position = tile * TILE + t
    row_at = (position // PANEL * n_steps * PANEL + position % PANEL) * 4
    for i in range(FEW):
        products[i] = float32(0)
    for first in range(0, n_steps, FEW_STEPS):
        n = min(FEW_STEPS, n_steps - first)
        cuda.syncthreads()
        for item in range(t, n * FEW * 4, TILE):
            step = first + item // (FEW * 4)
            query_steps[item] = queries[query_at + step * PANEL * 4 + item % (FEW * 4)]
        cuda.syncthreads()
        for step in range(n):
            x0, x1, x2, x3 = load4(vectors, row_at + (first + step) * PANEL * 4)
            for i in range(FEW):
                q0, q1, q2, q3 = load4(query_steps, (step * FEW + i) * 4)
                products[i] += q0 * x0
                products[i] += q1 * x1
                products[i] += q2 * x2
                products[i] += q3 * x3
    sqnorm = sqnorms[position]
    for i in range(FEW):
        query = first_query + i
        append_row(
            query, position, products[i], sqnorm, thresholds[query], gap_factor,
            starts, counts, lowers, uppers, positions,
        )  # fmt: skip


@kernel
def set_thresholds(
    sqnorms,       # IN   (padded,)  float32  of queries; +inf: too long, NaN: none or
                   #                          not finite
    sqradius,      # IN   float      in units; +inf: everything is a neighbour so far
    lower_factor,  # IN   float      see Bound
    thresholds,    # OUT  (padded,)  float32
):
    query = cuda.grid(1)
    if query < thresholds.shape[0]:
        sqnorm = float64(sqnorms[query])
        threshold = sqradius - sqnorm * lower_factor
        if sqnorm == math.inf or sqradius == math.inf:
            threshold = math.inf
        if sqnorm != sqnorm:
            threshold = sqnorm
        thresholds[query] = rounded_up(threshold)


def filter_tiles(queries, image, first, last, thresholds, candidates):
    """Append the candidates among the rows of some tiles.

    Parameters
    ----------
    queries : Queries
    image : FlatImage
    first, last : int
        Tiles, by the order in which they are visited: see ``tile_stride``.
    thresholds : device array of shape (padded,), float32
    candidates : Candidates
        Their counts grow.
    """
    few = queries.n <= MOST_FEW
    function, width, threads = (
        (filter_few, FEW, TILE) if few else (filter_many, TILE, MANY_THREADS)
    )
    for tile in range(first, last, MOST_BLOCKS):
        grid = -(-queries.n // width), min(MOST_BLOCKS, last - tile)
        launch(
            function, grid, threads,
            queries.vectors, image.vectors, image.sqnorms, image.n_steps,
            float32(image.bound.gap_factor), thresholds,
            tile, image.stride, image.n_tiles,
            candidates.starts, candidates.counts,
            candidates.lowers, candidates.uppers, candidates.positions,
        )  # fmt: skip


def tile_stride(n_tiles):
    """A step that visits all tiles, and soon comes near every one of them.

    Rows are often sorted by class. The first tiles give the first thresholds, so they
    should be anywhere: golden sections of the whole, as a multiplicative hash.
    """
    stride = max(1, round(n_tiles * 0.6180339887498949))
    while math.gcd(stride, n_tiles) > 1:
        stride += 1
    return stride
