"""Search in inverted lists: the filter of flat search, over the lists that are probed.

A list is read once for all the queries of a block that probe it, or, where hardly any
two do, for one query after the other. The answers are the same.
"""

from __future__ import annotations

import numpy as np

from sklearn_ann._cpu._knn import search_lists
from sklearn_ann._cpu._lists import chain
from sklearn_ann._cpu._radius import radius_in_panels
from sklearn_ann._cpu._schedule import limit_threads, n_products, split_queries
from sklearn_ann._cpu._threads import run_blocks
from sklearn_ann._layout import read_only

# Bytes of codes in a block of queries that is searched list by list: the larger, the
# more queries share a list.
_BLOCK_BYTES = 2**22

# Queries of a block for each list, on average, from which going list by list is faster.
_SHARED = 1.0


def scan_ivf_flat(Q, index, probes, k, n_threads):
    """The k nearest rows of each query in the lists that it probes, exactly.

    Parameters
    ----------
    Q : ndarray of shape (nq, d), float32 or float64
        C-contiguous.
    index : IVFFlatIndex
    probes : ndarray of shape (nq, nprobe), int64
        Lists to search, different ones for a query; -1 for none.
    k : int
    n_threads : int

    Returns
    -------
    sqdists : ndarray of shape (nq, k), float64
        Squared distances, ascending; infinite where the lists hold fewer rows.
    ids : ndarray of shape (nq, k), int64
        Row numbers, ascending among equal distances; -1 where there is none.
    """
    Q, probes = read_only(Q), read_only(probes)
    (nq, d), nlist = Q.shape, len(index.lists.sizes)
    sqdists, ids = np.empty((nq, k)), np.empty((nq, k), np.int64)
    products_of_lists = n_products(index.rows) * probes.shape[1] // nlist
    n_threads = limit_threads(n_threads, nq, products_of_lists)
    blocks = split_queries(nq, d, k, n_threads, _BLOCK_BYTES)
    n_shared = probes.size / len(blocks) / nlist
    lists = index.lists.panels, index.lists.offsets
    n_together = nq if n_shared > _SHARED else 1
    run_blocks(
        lambda start, stop: search_lists(
            start, stop, n_together, Q, probes, *lists, index.rows, sqdists, ids
        ),
        blocks,
        n_threads,
    )
    return sqdists, ids


def radius_ivf_flat(Q, index, probes, sqradius, with_sqdists, n_threads):
    """All rows within a radius of each query in the lists that it probes, exactly.

    Parameters and returns as those of ``radius``, `probes` as in ``scan_ivf_flat``.
    """
    chains = (chain(read_only(probes[i]), index.lists) for i in range(len(Q)))
    blocks = [(i, i + 1, panels) for i, panels in enumerate(chains)]
    return radius_in_panels(Q, index.rows, blocks, sqradius, with_sqdists, n_threads)
