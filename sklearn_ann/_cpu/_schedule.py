"""How a search is shared out: how many threads, and how many queries to a block."""

from __future__ import annotations

from sklearn_ann._cpu._candidates import capacity
from sklearn_ann._cpu._sq8_simd import TILE
from sklearn_ann._cpu._threads import split

# Candidates of all queries of a block; only the ends of their arrays are touched.
_CANDIDATE_BYTES = 2**23

# Below this many products per thread, about 0.3 ms, waking another thread up costs more
# than it saves. A single query waits for memory: it takes as long as 8 out of a batch.
# To encode a query and to choose its neighbours takes as long as some products too.
_MIN_WORK = 2**27
_QUERIES_PER_READ = 8
_PRODUCTS_PER_QUERY = 2**19


def n_products(rows):
    """Products of a query with all rows, as ``limit_threads`` counts them."""
    # Codes of all features are read for some rows, and wait for memory.
    return rows.codes.size + rows.full.codes.size // 2


def limit_threads(n_threads, nq, products_per_query):
    """No more threads than have enough to do."""
    products = products_per_query + _PRODUCTS_PER_QUERY
    work = max(nq, _QUERIES_PER_READ) * products
    return max(1, min(n_threads, work // _MIN_WORK))


def split_queries(nq, query_bytes, k, n_threads, block_bytes):
    """Blocks of queries, equally many for each thread, of so many bytes in the cache.

    A query takes `query_bytes` of them. The memory for candidates is limited, too.
    """
    # A single query is in a hurry: a tenth of its time in a list is in these lines.
    if n_threads == 1 and nq <= TILE:
        return [(0, nq)]
    most = min(block_bytes // query_bytes, _CANDIDATE_BYTES // (24 * capacity(k)))
    most = max(TILE, most // TILE * TILE)
    return split(nq, -(-nq // (most * n_threads)) * n_threads)
