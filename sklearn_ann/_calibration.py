"""Calibration: the least work that finds the share of neighbours that is wanted.

Queries with known neighbours say how many lists a search must probe. The rule is that
of conformal risk control: Angelopoulos, Bates, Fisch, Lei and Schuster, "Conformal risk
control" (2024). It holds on average for further queries of the same distribution.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

import numpy as np

# Queries that are drawn from the indexed rows, at most: the bound is worse than the
# mean by one in so many.
MOST_QUERIES = 1000

# Of the normal distribution, for intervals that hold 95 % of the time.
_QUANTILE = 1.96


class Truth(NamedTuple):
    """Queries to calibrate with, and their true neighbours."""

    Q: np.ndarray  # (n, d)  float  as they are searched
    own_ids: np.ndarray | None  # (n,)  int64  the indexed row that each query is
    distances: np.ndarray  # (n, k)  float64  ascending, in the units of the metric
    ids: np.ndarray  # (n, at least k)  int64  rows as near as the k-th too; -1: no more


class Candidates(NamedTuple):
    """Rows that a search may find for each query, in the order of its distances."""

    nprobes: np.ndarray  # (n, c)  int64  lists to probe until the row is seen
    is_hit: np.ndarray  # (n, c)  bool  whether it is a true neighbour


def draw_rows(n, rng):
    """Numbers of different rows to calibrate with, ascending.

    Parameters
    ----------
    n : int
        Indexed rows.
    rng : RandomState
    """
    return np.sort(rng.permutation(n)[:MOST_QUERIES])


def without_own(distances, ids, own_ids):
    """Neighbours of queries other than the rows that they are, one fewer each.

    A query that is not among its own neighbours, as k others are equally near, loses
    the last one.

    Parameters
    ----------
    distances : ndarray of shape (n, k + 1), float64
        Ascending.
    ids : ndarray of shape (n, k + 1), int64
    own_ids : ndarray of shape (n,), int64

    Returns
    -------
    distances : ndarray of shape (n, k), float64
    ids : ndarray of shape (n, k), int64
    """
    is_other = ids != own_ids[:, None]
    is_other[:, -1] &= ~is_other.all(axis=1)
    n = len(ids)
    return distances[is_other].reshape(n, -1), ids[is_other].reshape(n, -1)


def ranks_of(labels, probes, nlist):
    """Where lists stand among those that queries probe, from 1.

    Parameters
    ----------
    labels : ndarray of shape (n, c), int64
        Numbers of lists.
    probes : ndarray of shape (n, nprobe), int64
        Lists in the order in which they are probed; -1: none.
    nlist : int

    Returns
    -------
    ranks : ndarray of shape (n, c), int64
        ``nlist + 1`` for lists that are not probed.
    """
    n, nprobe = probes.shape
    # A place more for those that are none.
    ranks = np.full((n, nlist + 1), nlist + 1)
    np.put_along_axis(ranks, probes, np.arange(1, nprobe + 1)[None], axis=1)
    return np.take_along_axis(ranks, labels, axis=1)


def recall_of(candidates, nprobe, n_measured, k):
    """The recall of a search that ranks the first `n_measured` candidates it sees.

    With more candidates than are given it may be higher.
    """
    is_seen = candidates.nprobes <= nprobe
    is_measured = is_seen & (np.cumsum(is_seen, axis=1) <= n_measured)
    n_hits = (is_measured & candidates.is_hit).sum(axis=1)
    return float(np.minimum(n_hits, k).sum() / (len(n_hits) * k))


def is_enough(recall, n, target):
    """Whether a recall of n queries promises the target for further ones."""
    missed = (n * (1 - recall) + 1) / (n + 1)
    # A sum of decimals may be off in its last digit.
    return missed <= 1 - target + 1e-12


def least_queries(target):
    """How many queries without a miss promise a target; None if no number does."""
    n = 1
    while target < 1 and not is_enough(1.0, n, target):
        n *= 2
    return None if target == 1 else least(lambda m: is_enough(1.0, m, target), 1, n)


def least(is_enough, lowest, most):
    """The least number from `lowest` to `most` that is enough; `most` if none is.

    A number is enough if a smaller one is.
    """
    return lowest + bisect_left(range(lowest, most), True, key=is_enough)


def options_that_reach(is_good, candidates, factors, k, lowest, most):
    """For each factor that can reach a recall, the least number of lists that does.

    Parameters
    ----------
    is_good : callable
        Whether a recall is high enough.
    candidates : Candidates
    factors : sequence of int
        Candidates that are measured for each of k neighbours, ascending.
    k : int
    lowest, most : int
        Lists to probe.

    Returns
    -------
    options : list of (nprobe, factor)
    """
    options = []
    for factor in reversed(factors):

        def reaches(nprobe, n_measured=factor * k):
            return is_good(recall_of(candidates, nprobe, n_measured, k))

        if not reaches(most):
            break
        # With fewer candidates no fewer lists do.
        lowest = least(reaches, lowest, most)
        options.append((lowest, factor))
    return options


def recall_interval(recall, n):
    """An interval that holds the recall of all queries, by that of n, 95 % of the time.

    Wilson's score interval (1927) for n queries that find all or nothing: no other
    queries of this recall vary more.
    """
    z2 = _QUANTILE**2
    middle = (recall + z2 / (2 * n)) / (1 + z2 / n)
    spread = np.sqrt(recall * (1 - recall) / n + z2 / (4 * n * n))
    half = _QUANTILE * spread / (1 + z2 / n)
    # Rounding puts no end on the wrong side.
    low, high = min(recall, middle - half), max(recall, middle + half)
    return float(max(0.0, low)), float(min(1.0, high))
