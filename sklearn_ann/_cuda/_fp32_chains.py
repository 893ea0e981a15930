"""The float32 filter along chains: of a query by itself, or of many for each list."""

from __future__ import annotations

from sklearn_ann._cuda._chains import panel_of_chain
from sklearn_ann._cuda._compat import cuda, float32, kernel, load4
from sklearn_ann._cuda._fp32_filter import (
    MANY_BLOCKS,
    MANY_THREADS,
    SIDE,
    TILE,
    append_row,
    multiply_tiles,
    near_products,
    product_of,
    take_near,
)
from sklearn_ann._layout import PANEL

# Tiles of a query's chain that a block of ``filter_chains`` visits.
TILES_OF_BLOCK = 4


@kernel(launch_bounds=TILE)
def filter_chains(
    queries,     # IN    (n_query_panels * n_steps * 256,)  float32  in panels
    vectors,     # IN    (n_panels * n_steps * 256,)  float32  in panels
    sqnorms,     # IN    (n_panels * 64,)  float32  lowered; +inf: no row
    n_steps,     # IN    int               steps of 4 features
    gap_factor,  # IN    float32           see Bound
    thresholds,  # IN    (padded,)         float32  NaN: nothing is a candidate
    panels,      # IN    (n_panels,)       int32    see Chains
    offsets,     # IN    (nlist + 1,)      int64
    probes,      # IN    (n, nprobe)       int32
    ends,        # IN    (n, nprobe)       int32
    first,       # IN    int               tiles of the chains, of two panels:
    last,        # IN    int               block (x, y) takes 4 for query x
    starts,      # IN    (padded + 1,)     int64
    counts,      # INOUT (padded,)         int32
    lowers,      # OUT   (n_candidates,)   float32
    uppers,      # OUT   (n_candidates,)   float32
    positions,   # OUT   (n_candidates,)   int32
):
    """The filter for one query and its own panels; each thread has a row."""
    query, t = cuda.blockIdx.x, cuda.threadIdx.x
    query_at = (query // PANEL * n_steps * PANEL + query % PANEL) * 4
    threshold = thresholds[query]
    first_tile = first + cuda.blockIdx.y * TILES_OF_BLOCK
    for tile in range(first_tile, min(last, first_tile + TILES_OF_BLOCK)):
        place = 2 * tile + t // PANEL
        panel = panel_of_chain(panels, offsets, probes, ends, query, place)
        if panel >= 0:
            row_at = panel * n_steps * PANEL * 4 + t % PANEL * 4
            product = float32(0)
            for step in range(n_steps):
                at = step * PANEL * 4
                # One address for all threads: a broadcast.
                q0, q1, q2, q3 = load4(queries, query_at + at)
                x0, x1, x2, x3 = load4(vectors, row_at + at)
                product += q0 * x0
                product += q1 * x1
                product += q2 * x2
                product += q3 * x3
            position = panel * PANEL + t % PANEL
            append_row(
                query, position, product, sqnorms[position], threshold, gap_factor,
                starts, counts, lowers, uppers, positions,
            )  # fmt: skip


@kernel(launch_bounds=(MANY_THREADS, MANY_BLOCKS))
def filter_lists(
    queries,     # IN    (n_query_panels * n_steps * 256,)  float32  in panels
    vectors,     # IN    (n_panels * n_steps * 256,)  float32  in panels
    sqnorms,     # IN    (n_panels * 64,)  float32  lowered; +inf: no row
    n_steps,     # IN    int               steps of 4 features, an even number
    gap_factor,  # IN    float32           see Bound
    thresholds,  # IN    (padded,)         float32
    panels,      # IN    (n_panels,)       int32    of all lists, one after the other
    members,     # IN    (n_members,)      int32    queries, list by list
    unseen,      # IN    (n_members,)      int32    where to begin in `panels`
    items,       # IN    (n_items, 4)      int32    some members, some panels
    starts,      # IN    (padded + 1,)     int64
    counts,      # INOUT (padded,)         int32
    lowers,      # OUT   (n_candidates,)   float32
    uppers,      # OUT   (n_candidates,)   float32
    positions,   # OUT   (n_candidates,)   int32
):
    """The filter for two panels of a list and 128 queries that probe it.

    An item has the first and the end of some members of a list, and of its panels.
    """
    products = cuda.local.array((SIDE, SIDE), float32)
    row_sqnorms = cuda.local.array(SIDE, float32)
    limits = cuda.local.array(SIDE, float32)
    t, item = cuda.threadIdx.x, cuda.blockIdx.x
    half, lane = t // PANEL % 2, t % PANEL
    # Those behind the end are multiplied like the last one, and not looked at.
    query = members[min(items[item, 1] - 1, items[item, 0] + t // TILE * PANEL + lane)]
    panel = panels[min(items[item, 3] - 1, items[item, 2] + t // TILE)]
    query_at = ((query // PANEL * n_steps + half) * PANEL + query % PANEL) * 4
    row_at = ((panel * n_steps + half) * PANEL + lane) * 4
    multiply_tiles(queries, query_at, vectors, row_at, n_steps, products)
    # Read again: kept meanwhile, they would cost registers.
    first, end = items[item, 0], items[item, 1]
    first_panel, end_panel = items[item, 2], items[item, 3]
    query_lane, row_lane = t // 16 * 4, t % 16 * 4
    for i in range(SIDE):
        # Behind the ends: the last ones again. Which of them are new is asked later.
        member = min(end - 1, first + i // 4 * PANEL + query_lane + i % 4)
        limits[i] = thresholds[members[member]]
        panel = panels[min(end_panel - 1, first_panel + i // 4)]
        row_sqnorms[i] = sqnorms[panel * PANEL + row_lane + i % 4]
    near = near_products(products, row_sqnorms, limits)
    while near != 0:
        i, j, near = take_near(near)
        member = first + i // 4 * PANEL + query_lane + i % 4
        row_panel = first_panel + j // 4
        if member < end and unseen[member] <= row_panel < end_panel:
            query = members[member]
            at = panels[row_panel] * PANEL + row_lane + j % 4
            append_row(
                query, at, product_of(products, i, j), sqnorms[at], thresholds[query],
                gap_factor, starts, counts, lowers, uppers, positions,
            )  # fmt: skip
