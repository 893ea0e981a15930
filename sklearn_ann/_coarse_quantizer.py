"""The coarse quantizer: k-means, whose cells become the inverted lists.

Lloyd's algorithm as Faiss trains its IVF indexes: at most 256 rows a cell, a few
iterations from rows drawn at random, and empty cells take half of another one.
"""

from __future__ import annotations

import math

import numpy as np
from sklearn.utils.random import sample_without_replacement

from sklearn_ann._blocks import row_blocks
from sklearn_ann._inverted_lists import group_by_label
from sklearn_ann._scalar_quantizer import add_to_flat_index, empty_training_index
from sklearn_ann._storage import GrowingArrays
from sklearn_ann._warnings import warn_caller
from sklearn_ann.exceptions import FewTrainingRowsWarning

# More rows a cell change the centroids little, fewer leave them to chance. Both numbers
# are those of Faiss.
_MOST_ROWS_PER_CELL = 256
_LEAST_ROWS_PER_CELL = 39

# Below this many rows a flat search took no longer than that of 8 lists out of sqrt(n):
# for batches of 128 features that was so up to 5,000 rows, one by one up to 15,000.
_FEWEST_ROWS_FOR_LISTS = 10_000

# The halves of a cell start this part of the way to its farthest row away from each
# other: too little to matter, enough to part its rows.
_NUDGE = 2.0**-10


def choose_nlist(n):
    """The number of lists for n rows: about sqrt(n), or 1 where more do not pay."""
    return 1 if n < _FEWEST_ROWS_FOR_LISTS else round(math.sqrt(n))


def draw_training_rows(X, nlist, rng, left_out=()):
    """Numbers of the rows to train on: all, or 256 a cell, drawn at random.

    Rows to calibrate with are `left_out` if they are at most a tenth of all, and others
    enough: rows are nearer to centroids that they were trained on than queries are.
    """
    n = len(X)
    if nlist > n:
        raise ValueError(
            f"n_samples={n} should be >= nlist={nlist} for training. Use a smaller "
            "nlist or nlist='auto', and with init fewer centroids, or max_iter=0."
        )
    rows = np.arange(n)
    if len(left_out) <= min(n / 10, n - nlist):
        rows = np.delete(rows, left_out)
    n_most = _MOST_ROWS_PER_CELL * nlist
    if len(rows) <= n_most:
        return rows
    return rows[
        np.sort(sample_without_replacement(len(rows), n_most, random_state=rng))
    ]


def warn_of_few_rows(n, nlist):
    """Warn when n rows are too few to train `nlist` centroids."""
    if nlist > 1 and n < _LEAST_ROWS_PER_CELL * nlist:
        warn_caller(
            f"nlist={nlist} leaves fewer than {_LEAST_ROWS_PER_CELL} of the {n} rows "
            "for each list, too few for good centroids. Use "
            f"nlist={max(1, n // _LEAST_ROWS_PER_CELL)} or less.",
            FewTrainingRowsWarning,
        )


def draw_start(X, rows, nlist, seed):
    """The rows that k-means starts from, `nlist` of those to train on."""
    drawn = sample_without_replacement(len(rows), nlist, random_state=seed)
    return X[rows[drawn]]


def train_centroids(X, rows, start, max_iter, backend, n_threads, verbose):
    """The centroids of k-means.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
    rows : ndarray of shape (m,), int64
        Rows to train on, at least `nlist`.
    start : ndarray of shape (nlist, d), dtype of X
        Centroids to start from: the result if `max_iter` is 0.
    max_iter : int
    backend : module
    n_threads : int
        The centroids do not depend on it.
    verbose : int
        Whether to print each iteration.

    Returns
    -------
    centroids : ndarray of shape (nlist, d), dtype of X
    n_iter : int
        Iterations that were made.
    """
    centroids, labels, nlist = start, None, len(start)
    frame = empty_training_index(X, len(rows) * start.size * int(max_iter))
    encoded, n_iter = None, 0
    # The mean of all rows is found in one iteration.
    while n_iter < (max_iter if nlist > 1 else min(max_iter, 1)):
        index = add_to_flat_index(frame, centroids, GrowingArrays(), backend, n_threads)
        if encoded is None:
            encoded = backend.encode_training_rows(X, rows, index, n_threads)
        previous = labels
        labels = backend.assign(X, rows, index, n_threads, encoded, labels)
        if previous is not None and np.array_equal(previous, labels):
            break
        n_iter += 1
        order, starts = group_by_label(labels, nlist)
        sums = backend.accumulate_clusters(X, rows, order, starts, n_threads)
        means = sums / np.maximum(np.diff(starts), 1)[:, None]
        # A sum of numbers near the largest one may overflow.
        means = np.where(np.isfinite(means), means, centroids)
        n_empty = np.count_nonzero(np.diff(starts) == 0)
        if n_empty or verbose:
            sqdists = _own_sqdists(X, rows, centroids, labels, backend, n_threads)
        if n_empty:
            _split_into_empty(means, X, rows, labels, sqdists, order, starts)
        centroids = means.astype(X.dtype)
        if verbose:
            print(
                f"k-means iteration {n_iter}/{max_iter}: inertia {sqdists.sum():.6g}, "
                f"{n_empty} of {nlist} cells empty"
            )
    return centroids, n_iter


def _own_sqdists(X, rows, centroids, labels, backend, n_threads):
    """The squared distance of each row to its centroid."""
    sqdists = np.empty(len(rows))
    for start, stop in row_blocks(len(rows), X.shape[1]):
        own = labels[start:stop, None]
        found, _ = backend.refine(X[rows[start:stop]], centroids, own, 1, n_threads)
        sqdists[start:stop] = found[:, 0]
    return sqdists


def _split_into_empty(means, X, rows, labels, sqdists, order, starts):
    """Give each empty cell half of the one with the largest inertia.

    It is cut towards its farthest row. Cells of equal rows cannot be parted: when there
    are no others, the rest stays empty.
    """
    inertia = np.bincount(labels, weights=sqdists, minlength=len(means))
    source, part = np.arange(len(means)), np.full(len(means), _NUDGE)
    for empty in np.flatnonzero(np.diff(starts) == 0):
        large = inertia.argmax()
        if inertia[large] == 0:
            break
        source[empty] = whole = source[large]
        members = order[starts[whole] : starts[whole + 1]]
        farthest = X[rows[members[sqdists[members].argmax()]]].astype(np.float64)
        nudge = part[large] * (farthest - means[large])
        means[empty], means[large] = means[large] + nudge, means[large] - nudge
        inertia[empty] = inertia[large] = inertia[large] / 2
        # Less far the next time, or halves of two halves would meet in the middle.
        part[empty] = part[large] = part[large] / 2
