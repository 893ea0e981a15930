"""Re-ranking: the best of some candidates, by their exact distances."""

from __future__ import annotations

import numpy as np

from sklearn_ann._cpu._arrays import empty
from sklearn_ann._cpu._distance import AHEAD, prefetch, sqdist
from sklearn_ann._cpu._jit import jit
from sklearn_ann._cpu._schedule import limit_threads
from sklearn_ann._cpu._threads import run_blocks, split
from sklearn_ann._cpu._topk import sort_smallest
from sklearn_ann._layout import read_only

# Products, as ``limit_threads`` counts them, in the time it takes to measure a feature
# of a scattered row.
_PER_FEATURE = 256


@jit
def _refine(
    start,       # IN   int                first query
    stop,        # IN   int                one past the last
    Q,           # IN   (nq, d)            float
    X,           # IN   (n, d)             float
    candidates,  # IN   (nq, n_candidates) int64   -1 where there is none
    sqdists,     # OUT  (nq, k)            float64
    ids,         # OUT  (nq, k)            int64
):
    n_candidates, k = candidates.shape[1], sqdists.shape[1]
    exact, order = empty(n_candidates, np.float64), empty(n_candidates, np.int64)
    for i in range(start, stop):
        count = 0
        for c in range(n_candidates):
            row = candidates[i, c]
            if c + AHEAD < n_candidates:
                prefetch(X, max(candidates[i, c + AHEAD], 0))
            if row >= 0:
                exact[count], order[count] = sqdist(X, row, Q, i), row
                count += 1
        found = sort_smallest(exact, order, count, k)
        for c in range(k):
            sqdists[i, c] = exact[c] if c < found else np.inf
            ids[i, c] = order[c] if c < found else -1


def refine(Q, X, candidates, k, n_threads):
    """The k nearest of some candidates of each query, measured exactly.

    Parameters
    ----------
    Q : ndarray of shape (nq, d), float32 or float64
    X : ndarray of shape (n, d), float32 or float64
    candidates : ndarray of shape (nq, n_candidates), int64
        Different rows of X; -1 for none.
    k : int
    n_threads : int

    Returns
    -------
    sqdists : ndarray of shape (nq, k), float64
    ids : ndarray of shape (nq, k), int64
    """
    sqdists, ids = np.empty((len(Q), k)), np.empty((len(Q), k), np.int64)
    Q, X, candidates = read_only(Q), read_only(X), read_only(candidates)
    n_products = candidates.shape[1] * Q.shape[1] * _PER_FEATURE
    n_threads = limit_threads(n_threads, len(Q), n_products)
    run_blocks(
        lambda start, stop: _refine(start, stop, Q, X, candidates, sqdists, ids),
        split(len(Q), n_threads),
        n_threads,
    )
    return sqdists, ids
