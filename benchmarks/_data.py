"""Data sets of the benchmarks, the exact answers to their queries, and distances."""

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.datasets import get_data_home

from sklearn_ann.datasets import fetch_sentence_embeddings

# The oracle works on this many distances at a time.
_CHUNK = 2**24


class DataSet(NamedTuple):
    name: str
    X: np.ndarray
    Q: np.ndarray


def load(name, data_home, n_queries):
    """The data set; an OSError says that files are missing."""
    X, Q = _LOADERS[name](Path(get_data_home(data_home)), n_queries)
    return DataSet(name, X, Q[:n_queries])


def clustered(n, n_queries, d):
    """Rows around a thousand centers; queries are like rows."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((1000, d), dtype=np.float32)
    rows = centers[rng.integers(0, 1000, n + n_queries)]
    rows += 0.5 * rng.standard_normal(rows.shape, dtype=np.float32)
    return rows[:n], rows[n:]


def _sentences(home, n_queries):
    """768 features, float32; the queries are rows of the data."""
    X = fetch_sentence_embeddings(home, download_if_missing=False).data
    return X, X[np.random.default_rng(0).choice(len(X), n_queries, replace=False)]


def _sift(home, n_queries):
    """One million descriptors of 128 features, integers in float32; 10,000 queries."""
    X = np.load(home / "sift_bsds_base_1m.npy").astype(np.float32)
    return X, np.load(home / "sift_bsds_query_10k.npy").astype(np.float32)


def _fashion_mnist(home, n_queries):
    """60,000 images of 784 pixels, integers in float32; 10,000 queries."""
    for part in ("train", "t10k"):
        path = home / "fashion-mnist" / f"{part}-images-idx3-ubyte.gz"
        pixels = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=16)
        yield pixels.reshape(-1, 784).astype(np.float32)


_LOADERS = {
    "sentences": _sentences,
    "sift": _sift,
    "fashion-mnist": _fashion_mnist,
    # Far from the origin: |x|^2 - 2 x.y + |y|^2 has no digits left.
    "offset": lambda home, n: (x.astype(float) + 1e6 for x in clustered(20_000, n, 64)),
    # Many equal distances.
    "integers": lambda home, n: (np.rint(4 * x) for x in clustered(20_000, n, 32)),
    # To try the benchmarks.
    "tiny": lambda home, n: clustered(2000, n, 16),
}


def exact_neighbors(X, Q, k):
    """The k nearest rows by squared distance in float64, ties by row number.

    A matrix product names four times as many candidates; sums of squared differences
    decide among them.
    """
    center = X.mean(axis=0, dtype=np.float64)
    nearest, candidates = np.empty((len(Q), 0)), np.empty((len(Q), 0), np.int64)
    step = max(4 * k, _CHUNK // len(Q))
    for start in range(0, len(X), step):
        rows = X[start : start + step] - center
        part = (rows**2).sum(axis=1) - 2 * ((Q - center) @ rows.T)
        numbers = np.broadcast_to(np.arange(start, start + len(rows)), part.shape)
        nearest = np.hstack([nearest, part])
        candidates = np.hstack([candidates, numbers])
        kept = np.argpartition(nearest, 4 * k - 1, axis=1)[:, : 4 * k]
        nearest = np.take_along_axis(nearest, kept, axis=1)
        candidates = np.take_along_axis(candidates, kept, axis=1)
    sqdists, ids = np.empty((len(Q), k)), np.empty((len(Q), k), np.int64)
    for i, q in enumerate(Q):
        own_sqdists = sqdists_to(X[candidates[i]], q)
        order = np.lexsort((candidates[i], own_sqdists))[:k]
        sqdists[i], ids[i] = own_sqdists[order], candidates[i, order]
    return sqdists, ids


def found_sqdists(X, Q, ids):
    """Squared distances of the rows found, each once; NaN for missing ones."""
    sqdists = np.full(ids.shape, np.nan)
    for i, q in enumerate(Q):
        found = np.unique(ids[i][ids[i] >= 0])
        sqdists[i, : len(found)] = sqdists_to(X[found], q)
    return sqdists


def sqdists_to(rows, q):
    """Squared distances of rows to a query, in float64."""
    return ((rows.astype(np.float64) - q) ** 2).sum(axis=1)
