"""The vectors of ``gpu_acceptance.py``, and how good an answer is."""

from pathlib import Path

import numpy as np

from sklearn_ann import FlatL2Neighbors
from sklearn_ann.datasets import fetch_sentence_embeddings

K = 10

# (name, rows, features): the sizes of SIFT and of the sentence embeddings.
SIZES = [("1M x 128", 10**6, 128), ("14504 x 768", 14_504, 768)]
BATCHES = [1, 100, 10_000]
TINY_SIZES = [("100 x 8", 100, 8)]
TINY_BATCHES = [1, 2]


def data_sets(run):
    """Names, rows and queries: the real vectors if they are there, or generated."""
    nq = max(run.batches)
    for name, n, d in TINY_SIZES if run.options.sim else SIZES:
        try:
            X, Q = _LOADERS[name](Path(run.options.data_home), nq)
            name = f"{name}, real"
        except (KeyError, OSError):
            X, Q = clustered(n, nq, d)
            name = f"{name}, clustered"
        yield name, X, Q


def clustered(n, nq, d):
    """Rows around a thousand centers; queries are like rows."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((1000, d), dtype=np.float32)
    rows = centers[rng.integers(0, 1000, n + nq)]
    rows += 0.5 * rng.standard_normal(rows.shape, dtype=np.float32)
    return rows[:n], rows[n:]


def _sift(home, nq):
    X = np.load(home / "sift_bsds_base_1m.npy").astype(np.float32)
    return X, np.load(home / "sift_bsds_query_10k.npy")[:nq].astype(np.float32)


def _sentences(home, nq):
    """The queries are rows of the data."""
    X = fetch_sentence_embeddings(home, download_if_missing=False).data
    return X, X[np.random.default_rng(0).choice(len(X), nq, replace=False)]


_LOADERS = {"1M x 128": _sift, "14504 x 768": _sentences}


def farthest_sqdists(X, Q):
    """The squared distance of each query's k-th neighbour, from the CPU."""
    index = FlatL2Neighbors(K, metric="sqeuclidean", device="cpu").fit(X)
    return index.kneighbors(Q)[0][:, -1]


def recall(X, Q, ids, farthest):
    """Share of the neighbours found that are as near as the k-th true one."""
    rows = X[ids].astype(np.float64)
    sqdists = ((rows - Q[:, None].astype(np.float64)) ** 2).sum(axis=2)
    return float((sqdists <= farthest[:, None] * (1 + 1e-12)).mean())
