"""The two halves of a k-means step: assign rows to centroids, add them up."""

from __future__ import annotations

import numpy as np

from sklearn_ann._cuda._compat import cuda, float64, kernel, launch, to_device
from sklearn_ann._cuda._image import remember
from sklearn_ann._cuda._knn import knn
from sklearn_ann._cuda._memory import split_rows

# Features that a block adds up for its cluster.
_FEATURES = 64


@kernel
def _accumulate(
    vectors,  # IN     (n, d)              float
    order,    # IN     (n,)                int32    rows, cluster by cluster
    starts,   # IN     (n_clusters + 1,)   int64    where those of each cluster begin
    sums,     # INOUT  (n_clusters, d)     float64
):
    cluster = cuda.blockIdx.x
    t = cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    if t < vectors.shape[1]:
        total = sums[cluster, t]
        for place in range(starts[cluster], starts[cluster + 1]):
            total += float64(vectors[order[place], t])
        sums[cluster, t] = total


def encode_training_rows(X, rows, index, n_threads):
    """Nothing: vectors themselves are compared with centroids."""


def assign(X, rows, index, n_threads, encoded=None, guesses=None):
    """The nearest centroid of some rows.

    Parameters and returns are those of ``_cpu.assign``.
    """
    labels = np.empty(len(rows), np.int64)
    for start, stop, vectors in _vectors_of(X, rows):
        labels[start:stop] = knn(vectors, index, 1, n_threads)[1][:, 0]
    return labels


def accumulate_clusters(X, rows, order, starts, n_threads):
    """The sums of the rows of each cluster.

    Parameters and returns are those of ``_cpu.accumulate_clusters``. The rows of a
    cluster are added one after the other, so the sums have the same bits.
    """
    n_clusters, d = len(starts) - 1, X.shape[1]
    sums = to_device(np.zeros((n_clusters, d)))
    for start, stop, vectors in _vectors_of(X, rows):
        is_there = (order >= start) & (order < stop)
        starts_there = np.append(0, np.cumsum(is_there))[starts]
        launch(
            _accumulate, (n_clusters, -(-d // _FEATURES)), _FEATURES,
            vectors, to_device((order[is_there] - start).astype(np.int32)),
            to_device(starts_there), sums,
        )  # fmt: skip
    return sums.copy_to_host()


def _vectors_of(X, rows):
    """Parts of the rows: first, one past the last, and their vectors on the GPU.

    If all fit at once, they stay there as long as the array `rows`: k-means reads the
    same ones again and again.
    """
    parts = split_rows(len(rows), X.shape[1] * X.itemsize)
    fit_at_once = len(parts) == 1
    held, vectors = remember(
        rows, lambda: (X, to_device(X[rows]) if fit_at_once else None)
    )
    if held is X and vectors is not None:
        yield 0, len(rows), vectors
    else:
        for start, stop in parts:
            yield start, stop, to_device(X[rows[start:stop]])
