"""Data sets of the benchmarks, and the exact answers to their queries."""

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _harness import log
from sklearn.datasets import get_data_home

from sklearn_ann.datasets import fetch_sentence_embeddings

N_QUERIES = 1000

_BESIDE_CHECKOUT = Path(__file__).resolve().parents[2] / "shared" / "data"
_DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")
_QUICK_ROWS = {"sentences": 3000, "sift": 20_000, "fashion-mnist": 10_000}

# The oracle works on this many distances at a time.
_CHUNK = 2**24

# Distances by matrix product are trusted to this relative error to name candidates.
_TOLERANCE = 1e-9


class DataSet(NamedTuple):
    name: str
    X: np.ndarray
    Q: np.ndarray


def default_data_home():
    """scikit-learn's folder, unless only the one beside the checkout has the data."""
    home = Path(get_data_home())
    is_there = (home / "sentence_embeddings_15K").is_dir()
    return home if is_there or not _BESIDE_CHECKOUT.is_dir() else _BESIDE_CHECKOUT


def load(name, options, n_queries=N_QUERIES):
    """The data set, or None if it is not wanted or not in ``options.data_home``."""
    if options.data and name not in options.data:
        return None
    try:
        X, Q = _LOADERS[name](Path(options.data_home))
    except FileNotFoundError as error:
        log(f"{name} is left out: there is no {error.filename}")
        return None
    if options.quick:
        X = X[: _QUICK_ROWS.get(name)]
    return DataSet(name, X, Q[:n_queries])


def _sentences(home):
    """768 features, float32; the queries are rows of the data."""
    X = fetch_sentence_embeddings(home).data
    rows = np.random.default_rng(0).choice(len(X), N_QUERIES, replace=False)
    return X, X[rows]


def _sift(home):
    """One million descriptors of 128 features, integers in float32; 10,000 queries."""
    X = np.load(home / "sift_bsds_base_1m.npy").astype(np.float32)
    return X, np.load(home / "sift_bsds_query_10k.npy").astype(np.float32)


def _fashion_mnist(home):
    """60,000 images of 784 pixels, integers in float32; 10,000 queries.

    From the folder ``fashion-mnist``, or where Debian's package
    ``dataset-fashion-mnist`` puts the same files.
    """
    folder = home / "fashion-mnist"
    if not folder.is_dir() and _DEBIAN_FASHION.is_dir():
        folder = _DEBIAN_FASHION
    return (_read_images(folder / f"{part}-images-idx3-ubyte.gz") for part in _PARTS)


_PARTS = "train", "t10k"


def _read_images(path):
    """An IDX file of images as rows: a magic number and the shape, then the bytes."""
    content = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(content, ">i4", count=3, offset=4)
    pixels = np.frombuffer(content, np.uint8, offset=16)
    return pixels.reshape(shape[0], -1).astype(np.float32)


def _offset(home):
    """float64, far from the origin: ``|x|^2 - 2 x.y + |y|^2`` has no digits left."""
    rng = np.random.default_rng(0)
    return (1e6 + rng.standard_normal((rows, 64)) for rows in (20_000, N_QUERIES))


def _integers(home):
    """Integers from 0 to 15: many equal distances."""
    rng = np.random.default_rng(0)
    shapes = (20_000, 32), (N_QUERIES, 32)
    return (rng.integers(0, 16, shape).astype(np.float32) for shape in shapes)


def _duplicates(home):
    """Every row four times."""
    rng = np.random.default_rng(0)
    X, Q = (
        rng.standard_normal((rows, 32)).astype(np.float32) for rows in (5000, N_QUERIES)
    )
    return np.tile(X, (4, 1)), Q


def _small(home):
    """So little to search that the rest of the call is what takes time."""
    rng = np.random.default_rng(0)
    return (rng.standard_normal((rows, 16)) for rows in (1000, N_QUERIES))


_LOADERS = {
    "sentences": _sentences,
    "sift": _sift,
    "fashion-mnist": _fashion_mnist,
    "offset": _offset,
    "integers": _integers,
    "duplicates": _duplicates,
    "small": _small,
}


# -- exact answers ------------------------------------------------------------------


def exact_neighbors(X, Q, k):
    """The k nearest rows by squared distance in float64, ties by row number.

    A matrix product names the candidates, generously; sums of squared differences
    decide.

    Returns
    -------
    sqdists : ndarray of shape (nq, k), float64
    ids : ndarray of shape (nq, k), int64
    """
    queries, rows = _candidates(X, Q, k)
    starts = np.searchsorted(queries, np.arange(len(Q) + 1))
    sqdists, ids = np.empty((len(Q), k)), np.empty((len(Q), k), np.int64)
    for i, q in enumerate(Q):
        own = rows[starts[i] : starts[i + 1]]
        own_sqdists = sqdists_to(X[own], q)
        order = np.lexsort((own, own_sqdists))[:k]
        sqdists[i], ids[i] = own_sqdists[order], own[order]
    return sqdists, ids


def mean_recall(data, answers, truth):
    """Recall over the queries that were timed: pairs (number of the first, ids)."""
    known, recalls = {}, []  # rounds with the same queries have the same answers
    for first, ids in answers:
        key = first, ids.tobytes()
        if key not in known:
            known[key] = recall(data, first, ids, truth)
        recalls.append(known[key])
    return sum(recalls) / len(recalls)


def recall(data, first, ids, truth):
    """Share of the neighbours found that are as near as the k-th true one.

    `ids` answers the queries from number `first` on; `truth` is all of
    `exact_neighbors`. Rows at equal distances are equally right.
    """
    hits = 0
    for i, found in enumerate(ids, start=first):
        found = np.unique(found[found >= 0])
        hits += (sqdists_to(data.X[found], data.Q[i]) <= truth[0][i, -1]).sum()
    return hits / ids.size


def sqdists_to(rows, q):
    """Squared distances of rows to a query, in float64."""
    return ((rows.astype(np.float64) - q) ** 2).sum(axis=1)


def _candidates(X, Q, k):
    """Pairs (query, row), ordered by query: all of the k nearest rows, and few more."""
    center = X.mean(axis=0, dtype=np.float64)
    Q = Q - center
    q_sqnorms = (Q**2).sum(axis=1)
    nearest = np.full((len(Q), k), np.inf)
    found, slack = [], 0.0
    step = max(1, _CHUNK // len(Q))
    for start in range(0, len(X), step):
        rows = X[start : start + step] - center
        sqnorms = (rows**2).sum(axis=1)
        sqdists = q_sqnorms[:, None] + sqnorms - 2 * (Q @ rows.T)
        slack = max(slack, _TOLERANCE * (q_sqnorms.max() + sqnorms.max()))
        nearest = np.partition(np.hstack([nearest, sqdists]), k - 1, axis=1)[:, :k]
        pairs = np.nonzero(sqdists <= nearest.max(axis=1)[:, None] + slack)
        found.append((pairs[0], pairs[1] + start, sqdists[pairs]))
    queries, rows, sqdists = map(np.concatenate, zip(*found, strict=True))
    keep = sqdists <= nearest.max(axis=1)[queries] + slack
    queries, rows = queries[keep], rows[keep]
    order = np.argsort(queries, kind="stable")
    return queries[order], rows[order]
