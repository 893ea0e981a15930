"""What is compared: one class each, used in a process of its own (``_worker.py``)."""

from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import numpy as np

# Seconds of work before a measurement. A core that was idle for some tenths of a second
# can take half as long again for the same call, whatever the library, and needs 60 ms
# to recover.
_WARM_UP = 0.08


class Peer:
    """A way to search. A subclass adds `build`, `search` and `set_threads`.

    Libraries are imported where they are used, so that no process has more than it
    needs.
    """

    package = None

    def prepare(self, folder, k):
        """Read the data set, build the index, search once: it may have to compile."""
        self.k, self.folder = k, Path(folder)
        self.Q = self.load("Q")
        self.build(self.load("X"))
        self.search(self.Q[:1])

    def load(self, name):
        return np.load(self.folder / f"{name}.npy")

    def search_all(self):
        return self.search(self.Q)

    def time(self, first, nq, loops, warm_up):
        """Seconds of each of `loops` searches for the same queries, and the ids."""
        Q = self.Q[first : first + nq]
        if warm_up:
            self._warm_up(Q)
        seconds = []
        for _ in range(loops):
            start = perf_counter()
            ids = self.search(Q)
            seconds.append(perf_counter() - start)
        return seconds, ids

    def time_singles(self, first, n_queries):
        """Seconds of a call for each of so many queries, and the ids of all."""
        queries = [self.Q[i : i + 1] for i in range(first, first + n_queries)]
        self._warm_up(queries[-1])
        seconds, ids = [], []
        for q in queries:
            start = perf_counter()
            found = self.search(q)
            seconds.append(perf_counter() - start)
            ids.append(found)
        return seconds, np.vstack(ids)

    def _warm_up(self, Q):
        end = perf_counter() + _WARM_UP
        while perf_counter() < end:
            self.search(Q)

    def describe(self):
        from threadpoolctl import threadpool_info

        blas = [
            f"{pool['prefix']} {pool['version']} {pool.get('architecture', '')}".strip()
            for pool in threadpool_info()
            if pool["user_api"] == "blas"
        ]
        name = f"{self.package} {version(self.package)}"
        return {"package": name, "simd": self.simd(), "blas": blas}

    def simd(self):
        return None


class Ours(Peer):
    """An estimator of this package; a subclass names another one."""

    package = "numba"

    def __init__(self):
        from sklearn_ann import FlatL2Neighbors

        self.index = FlatL2Neighbors()

    def build(self, X):
        self.index.set_params(n_neighbors=self.k).fit(X)

    def set_threads(self, n_threads):
        self.index.set_params(n_jobs=n_threads)

    def search(self, Q):
        return self.index.kneighbors(Q)[1]

    def simd(self):
        from sklearn_ann import _cpu

        return _cpu.simd_tier()

    def memory(self):
        """Bytes of the arrays that the fitted estimator holds, caches included."""
        return sum(buffers_of(vars(self.index)).values())


class FaissFlat(Peer):
    package = "faiss-cpu"

    def __init__(self):
        import faiss

        self.faiss = faiss

    def make(self, d):
        return self.faiss.IndexFlatL2(d)

    def build(self, X):
        X = X.astype(np.float32, copy=False)
        self.Q = self.Q.astype(np.float32, copy=False)
        self.index = self.make(X.shape[1])
        self.index.add(X)

    def set_threads(self, n_threads):
        self.faiss.omp_set_num_threads(n_threads)

    def search(self, Q):
        return self.index.search(Q, self.k)[1]

    def simd(self):
        return self.faiss.SIMDConfig.get_level_name()


class FaissPanorama(FaissFlat):
    def make(self, d):
        n_levels, batch_size = 8, 1024
        return self.faiss.IndexFlatL2Panorama(d, n_levels, batch_size)


class SklearnBrute(Peer):
    package = "scikit-learn"

    def __init__(self):
        import sklearn.neighbors

        self.index = sklearn.neighbors.NearestNeighbors(algorithm="brute")
        self.limits = None

    def build(self, X):
        self.index.set_params(n_neighbors=self.k).fit(X)

    def set_threads(self, n_threads):
        from threadpoolctl import threadpool_limits

        if self.limits is not None:
            self.limits.restore_original_limits()
        self.limits = threadpool_limits(n_threads)

    def search(self, Q):
        return self.index.kneighbors(Q)[1]


def buffers_of(value):
    """Sizes of all arrays in nested containers, by the buffer that they look at."""
    buffers = {}
    _collect_buffers(value, buffers)
    return buffers


def _collect_buffers(value, buffers):
    if isinstance(value, np.ndarray):
        while isinstance(value.base, np.ndarray):
            value = value.base
        buffers[id(value)] = value.nbytes
    elif isinstance(value, (tuple, list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            _collect_buffers(item, buffers)
    elif type(value).__module__.startswith("sklearn_ann."):
        _collect_buffers(vars(value), buffers)
