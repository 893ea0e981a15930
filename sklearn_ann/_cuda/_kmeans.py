"""The two halves of a k-means step: assign rows to centroids, add them up."""

from __future__ import annotations

import numpy as np

from sklearn_ann._cuda._compat import cuda, float64, kernel, launch, to_device
from sklearn_ann._cuda._image import split_rows
from sklearn_ann._cuda._knn import knn

# Features that a block adds up for its cluster.
_FEATURES = 64


@kernel
def _accumulate(
    X,       # IN   (n, d)              float
    starts,  # IN   (n_clusters + 1,)   int64    where the rows of each cluster begin
    sums,    # INOUT  (n_clusters, d)   float64
):
    cluster = cuda.blockIdx.x
    t = cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    if t < X.shape[1]:
        total = sums[cluster, t]
        for row in range(starts[cluster], starts[cluster + 1]):
            total += float64(X[row, t])
        sums[cluster, t] = total


def assign(X, rows, index, n_threads):
    """The nearest centroid of some rows.

    Parameters and returns are those of ``_cpu.assign``.
    """
    sqdists, labels = np.empty(len(rows)), np.empty(len(rows), np.int64)
    for start, stop in split_rows(len(rows), X.shape[1] * X.itemsize):
        found = knn(X[rows[start:stop]], index, 1, n_threads)
        sqdists[start:stop], labels[start:stop] = (array[:, 0] for array in found)
    return labels, sqdists


def accumulate_clusters(X, order, starts, n_threads):
    """The sums of the rows of each cluster.

    Parameters and returns are those of ``_cpu.accumulate_clusters``. The rows of a
    cluster are added one after the other, so the sums have the same bits.
    """
    n_clusters, d = len(starts) - 1, X.shape[1]
    sums = to_device(np.zeros((n_clusters, d)))
    for first, last in split_rows(len(order), d * X.itemsize):
        part = np.clip(starts, first, last) - first
        launch(
            _accumulate, (n_clusters, -(-d // _FEATURES)), _FEATURES,
            to_device(X[order[first:last]]), to_device(part), sums,
        )  # fmt: skip
    return sums.copy_to_host()
