"""Queries of the float32 filter on the GPU."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sklearn_ann._cuda._compat import cuda, kernel, launch
from sklearn_ann._cuda._fp32_filter import TILE
from sklearn_ann._cuda._fp32_vectors import ENCODED_BY_BLOCK, THREADS, encode
from sklearn_ann._cuda._scratch import new_scratch, scratch_copy


class Queries(NamedTuple):
    """Queries on the GPU, padded to whole tiles."""

    n: int
    Q: Any  # (n, d)  float, as given
    vectors: Any  # (padded * n_steps * 4,)  float32  see ``encode``
    sqnorms: Any  # (padded,)  float32  in units; +inf: too long, NaN: not finite, none

    @property
    def spreads(self):
        """What the gap between the bounds of a distance grows with: see ``Bound``."""
        return self.sqnorms


@kernel
def take(
    X,      # IN   (n, d)  float
    rows,   # IN   (m,)    int32  rows of X
    taken,  # OUT  (m, d)  float
):
    row = rows[cuda.blockIdx.x]
    for t in range(cuda.threadIdx.x, X.shape[1], cuda.blockDim.x):
        taken[cuda.blockIdx.x, t] = X[row, t]


def bytes_of_query(Q, image):
    """Bytes on the GPU of a query to be filtered, but for its candidates."""
    return Q.shape[1] * Q.dtype.itemsize + 16 * image.n_steps


def upload_queries(Q, image):
    """Queries on the GPU: centered, in units of the index."""
    n = len(Q)
    padded = -(-n // TILE) * TILE
    rows = np.arange(padded, dtype=np.int32)
    rows[n:] = -1
    queries = Queries(
        n=n,
        Q=scratch_copy(Q),
        vectors=new_scratch(padded * image.n_steps * 4, np.float32),
        sqnorms=new_scratch(padded, np.float32),
    )
    lower_factor, underflow, no_row, too_long = 1.0, 0.0, np.nan, np.inf
    launch(
        encode, padded // ENCODED_BY_BLOCK, THREADS,
        queries.Q, scratch_copy(rows), image.center, image.per_unit,
        lower_factor, underflow, no_row, too_long, image.n_steps,
        queries.vectors, queries.sqnorms,
    )  # fmt: skip
    return queries


def take_queries(queries, some):
    """Some of the queries, as they were given."""
    Q = new_scratch((len(some), queries.Q.shape[1]), queries.Q.dtype)
    rows = scratch_copy(some.astype(np.int32))
    launch(take, len(some), THREADS, queries.Q, rows, Q)
    return Q
