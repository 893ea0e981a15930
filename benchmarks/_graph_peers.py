"""Ways to find the neighbours of all rows: one class each, in a process of its own."""

from importlib.metadata import version
from pathlib import Path

import numpy as np
from _harness import seconds_of

# Rows to compile and to wake up threads with.
_FEW_ROWS = 3000

# Queries by which the time of a search of all rows is estimated.
_SOME_QUERIES = 500


class GraphPeer:
    """A subclass adds `graph`: the nearest rows of each row, first of all itself."""

    package = module = None

    def prepare(self, folder, k, n_threads):
        """Load the rows; find the graph of a few, which may have to compile."""
        self.X, self.k, self.n_threads = np.load(Path(folder) / "X.npy"), k, n_threads
        self.graph(self.X[:_FEW_ROWS])

    def expected(self):
        """Seconds that the graph will take, about, where that may be too long."""
        return 0.0

    def run(self, rows):
        """Seconds; bytes at the peak beyond those before; neighbours of some rows.

        The bytes are None where the system is not Linux.
        """
        before = _memory("VmRSS")
        if before is not None:
            # From now on the peak is that of this run.
            Path("/proc/self/clear_refs").write_text("5")
        seconds, ids = seconds_of(lambda: self.graph(self.X))
        peak = None if before is None else _memory("VmHWM") - before
        return seconds, peak, np.asarray(ids)[rows]

    def describe(self):
        return {"package": f"{self.package} {version(self.package)}"}


def _memory(name):
    """Bytes of this process, by the name that Linux gives them; None elsewhere."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return 1024 * int(lines[name].split()[0])


class _Searched(GraphPeer):
    """A subclass adds `build`, and `search` of queries among the rows."""

    is_exact = False

    def graph(self, X):
        self.build(X)
        return self.search(X)

    def expected(self):
        if not self.is_exact:
            return 0.0
        self.build(self.X)
        return _estimate(self.search, self.X)


class Ours(GraphPeer):
    package, module = "numba", "numba"

    def __init__(self, estimator, **params):
        import sklearn_ann

        self.index = getattr(sklearn_ann, estimator)(**params)

    def graph(self, X):
        from sklearn.base import clone

        index = clone(self.index).set_params(n_neighbors=self.k, n_jobs=self.n_threads)
        _, ids = index.fit(X).kneighbors()
        return np.column_stack([np.arange(len(X)), ids])

    def expected(self):
        if "nlist" in self.index.get_params():
            return 0.0
        index = self.index.set_params(n_neighbors=self.k, n_jobs=self.n_threads)
        index.fit(self.X)
        return _estimate(index.kneighbors, self.X)


class Pynndescent(GraphPeer):
    package = module = "pynndescent"

    def graph(self, X):
        from pynndescent import NNDescent

        found = NNDescent(
            X, n_neighbors=self.k + 1, random_state=0, n_jobs=self.n_threads
        )
        return found.neighbor_graph[0]


class Hnsw(_Searched):
    package = module = "hnswlib"

    def __init__(self, ef):
        self.ef = ef

    def build(self, X):
        import hnswlib

        self.index = hnswlib.Index(space="l2", dim=X.shape[1])
        self.index.init_index(max_elements=len(X), ef_construction=100, M=16)
        self.index.set_num_threads(self.n_threads)
        self.index.add_items(X)
        self.index.set_ef(self.ef)

    def search(self, Q):
        return self.index.knn_query(Q, self.k + 1)[0].astype(np.int64)


class Faiss(_Searched):
    """An index by its key in Faiss's index_factory."""

    package, module = "faiss-cpu", "faiss"

    def __init__(self, key, nprobe=None):
        self.key, self.nprobe, self.is_exact = key, nprobe, nprobe is None

    def build(self, X):
        import faiss

        faiss.omp_set_num_threads(self.n_threads)
        self.index = faiss.index_factory(X.shape[1], self.key)
        self.index.train(X)
        self.index.add(X)
        if self.nprobe is not None:
            self.index.nprobe = self.nprobe

    def search(self, Q):
        return self.index.search(Q, self.k + 1)[1]


class SklearnBrute(_Searched):
    package, module = "scikit-learn", "sklearn"
    is_exact = True

    def build(self, X):
        from sklearn.neighbors import NearestNeighbors
        from threadpoolctl import threadpool_limits

        threadpool_limits(self.n_threads)
        self.index = NearestNeighbors(n_neighbors=self.k + 1, algorithm="brute").fit(X)

    def search(self, Q):
        return self.index.kneighbors(Q, return_distance=False)


def _estimate(search, X):
    """Seconds of a search for all rows, by that of some."""
    search(X[:_SOME_QUERIES])
    seconds, _ = seconds_of(lambda: search(X[-_SOME_QUERIES:]))
    return seconds * len(X) / _SOME_QUERIES
