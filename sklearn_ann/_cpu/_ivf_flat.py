"""Search in inverted lists: the filter of flat search, over the lists that are probed.

Query by query, a list is read for one query at a time. List by list, it is read once
for all the queries of a block that probe it, four of them to a tile; their thresholds
and candidates are carried on to the next list. The answers are the same.
"""

from __future__ import annotations

import numpy as np

from sklearn_ann._cpu._candidates import capacity
from sklearn_ann._cpu._jit import jit
from sklearn_ann._cpu._knn import collect, finish, knn_block
from sklearn_ann._cpu._lists import chain, group_by_list
from sklearn_ann._cpu._radius import radius_in_panels
from sklearn_ann._cpu._schedule import limit_threads, split_queries
from sklearn_ann._cpu._sq8_block import encode_queries
from sklearn_ann._cpu._sq8_simd import TILE
from sklearn_ann._cpu._threads import run_blocks
from sklearn_ann._layout import read_only

# Bytes of codes in a block of queries that is searched list by list: the larger, the
# more queries share a list.
_BLOCK_BYTES = 2**22

# Queries of a block for each list, on average, from which going list by list is faster.
_SHARED = 1.0


@jit
def _scan_flat_by_query(
    start,    # IN   int            first query
    stop,     # IN   int            one past the last
    Q,        # IN   (nq, d)        float
    probes,   # IN   (nq, nprobe)   int64    lists to search; -1: none
    lists,    # IN   InvertedLists
    rows,     # IN   FlatIndex
    sqdists,  # OUT  (nq, k)        float64
    ids,      # OUT  (nq, k)        int64
):
    """The lists of one query after the other."""
    for i in range(start, stop):
        panels = chain(probes[i], lists)
        knn_block(i, i + 1, panels, Q, rows, sqdists, ids)


@jit
def _scan_flat_by_list(
    start,    # IN   int            first query
    stop,     # IN   int            one past the last
    Q,        # IN   (nq, d)        float
    probes,   # IN   (nq, nprobe)   int64    lists to search; -1: none
    lists,    # IN   InvertedLists
    rows,     # IN   FlatIndex
    sqdists,  # OUT  (nq, k)        float64
    ids,      # OUT  (nq, k)        int64
):
    """Each list once, for all the queries of the block that probe it."""
    k, n = sqdists.shape[1], stop - start
    exact = np.empty(capacity(k))
    block = encode_queries(start, stop, Q, rows, len(exact))
    # Taken out of their tuples once, see ``_borrow.py``.
    block_codes, block_biases = block.panels.codes, block.panels.biases
    panels, offsets = lists.panels, lists.offsets
    list_numbers, starts, members_of_all, _ = group_by_list(
        probes[start:stop], len(offsets) - 1
    )
    # The members' codes side by side, as the tile wants them.
    codes = np.zeros((n + TILE, *block_codes.shape[1:]), np.int8)
    biases = np.zeros(n + TILE, np.int32)
    for nth in range(len(list_numbers)):
        list_number = list_numbers[nth]
        members = members_of_all[starts[nth] : starts[nth + 1]]
        for j in range(len(members)):
            codes[j] = block_codes[members[j]]
            biases[j] = block_biases[members[j]]
        in_list = panels[offsets[list_number] : offsets[list_number + 1]]
        collect(in_list, members, codes, biases, start, k, Q, rows, block, exact)
    finish(start, np.arange(n), Q, rows, block, exact, sqdists, ids)


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
    n_products = index.rows.codes.size * probes.shape[1] // nlist
    n_threads = limit_threads(n_threads, nq, n_products)
    blocks = split_queries(nq, d, k, n_threads, _BLOCK_BYTES)
    n_shared = probes.size / len(blocks) / nlist
    scan = _scan_flat_by_list if n_shared > _SHARED else _scan_flat_by_query
    run_blocks(
        lambda start, stop: scan(
            start, stop, Q, probes, index.lists, index.rows, sqdists, ids
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
