"""What is compared: one class each, used in a process of its own.

Libraries are imported where they are used, so that no process has more than it needs.
The folder of a peer has rows `X` and queries `Q`. If it also has an `index` of Faiss as
bytes, or the `centroids` of lists and the `labels` of the rows, they are not trained.
"""

from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import numpy as np
from _harness import seconds_of

# Seconds of work before a measurement. A core that was idle for some tenths of a second
# can take half as long again for the same call, whatever the library, and needs 60 ms
# to recover.
_WARM_UP = 0.08

# Rows to compile and to wake up threads with, before training is timed.
_FEW_ROWS = 5000


class Peer:
    """A subclass adds `build`, `set_threads`, and `search`: distances and ids."""

    package = module = simd = None

    def prepare(self, folder, k):
        """Seconds to build the index and to search once, which may have to compile."""
        self.k, self.folder = k, Path(folder)
        self.Q = self.load("Q")
        X = self.load("X")
        return seconds_of(lambda: (self.build(X), self.search(self.Q[:1])))[0]

    def load(self, name):
        """An array of the folder, or None."""
        path = self.folder / f"{name}.npy"
        return np.load(path) if path.exists() else None

    def answers(self, n_queries):
        """Distances and ids for the first queries."""
        return self.search(self.Q[:n_queries])

    def time(self, calls, warm_up):
        """Seconds of each of some searches, and the ids that they found.

        `calls` are pairs of the number of the first query and that past the last. The
        ids of a search that is repeated are returned once.
        """
        batches = [self.Q[start:stop] for start, stop in calls]
        end = perf_counter() + (_WARM_UP if warm_up else 0)
        while perf_counter() < end:
            self.search(batches[-1])
        seconds, ids = [], {}
        for call, Q in zip(calls, batches, strict=True):
            spent, (_, ids[call]) = seconds_of(lambda Q=Q: self.search(Q))
            seconds.append(spent)
        return seconds, np.vstack([*ids.values()])

    def describe(self):
        """What the peer runs on: version, SIMD level, BLAS."""
        from threadpoolctl import threadpool_info

        pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
        keys = "prefix", "version", "architecture"
        blas = [" ".join(str(pool.get(key, "")) for key in keys) for pool in pools]
        about = {"package": f"{self.package} {version(self.package)}"}
        about["SIMD"] = self.simd() if self.simd else "-"
        return {**about, "BLAS in the process": "; ".join(blas)}


class Ours(Peer):
    """An estimator of this package, by name, with parameters."""

    package, module = "numba", "numba"

    def __init__(self, estimator, **params):
        import sklearn_ann

        self.index = getattr(sklearn_ann, estimator)(metric="sqeuclidean", **params)

    def build(self, X):
        self.index.set_params(n_neighbors=self.k)
        if (index := self.load("index")) is not None:
            import faiss

            from sklearn_ann import from_faiss

            index = faiss.deserialize_index(index)
            self.index = from_faiss(index, n_neighbors=self.k)
        elif (centroids := self.load("centroids")) is not None:
            self.index.set_params(init=centroids, max_iter=0).fit(X)
        else:
            self.index.fit(X)

    def set_threads(self, n_threads):
        self.index.set_params(n_jobs=n_threads)

    def set_search(self, parameters):
        self.index.set_params(**parameters)

    def search(self, Q):
        return self.index.kneighbors(Q)

    def simd(self):
        from sklearn_ann import _cpu

        return _cpu.simd_tier()

    def memory(self):
        """Bytes of the arrays that the fitted estimator holds, caches included."""
        return sum(_buffers_of(self.index).values())


class OursTraining(Ours):
    """Times of the parts of a fit."""

    def build(self, X):
        self.X, self.unfitted = X[:_FEW_ROWS], self.index.set_params(n_neighbors=self.k)
        self.train(seed=0)
        self.X = X

    def set_threads(self, n_threads):
        self.unfitted.set_params(n_jobs=n_threads)

    def train(self, seed):
        """Seconds of training and of adding all rows.

        A fit that is given what another one has trained only adds rows. Training is
        what a fit takes beyond that.
        """
        from sklearn.base import clone

        self.index = clone(self.unfitted).set_params(random_state=seed)
        fitting, _ = seconds_of(lambda: self.index.fit(self.X))
        given = {"init": self.index.cluster_centers_, "max_iter": 0}
        if hasattr(self.index, "codebooks_"):
            given["codebooks"] = self.index.codebooks_
        again = clone(self.unfitted).set_params(**given)
        adding, _ = seconds_of(lambda: again.fit(self.X))
        return fitting - adding, adding

    def trained(self):
        """The centroids; no other peer can read the index."""
        return self.index.cluster_centers_, None


def _buffers_of(value):
    """Sizes of all arrays in nested containers, by the buffer that they look at."""
    if isinstance(value, np.ndarray):
        while isinstance(value.base, np.ndarray):
            value = value.base
        return {id(value): value.nbytes}
    if isinstance(value, dict):
        value = list(value.values())
    elif type(value).__module__.startswith("sklearn_ann."):
        value = list(value) if isinstance(value, tuple) else [vars(value)]
    buffers = {}
    for item in value if isinstance(value, (tuple, list)) else ():
        buffers |= _buffers_of(item)
    return buffers


class Faiss(Peer):
    """An index by its key in Faiss's index_factory, or that of the folder.

    One with inverted lists has the centroids of the folder, and its labels if vectors
    are stored as they are. Rotated vectors have lists of their own.
    """

    package, module = "faiss-cpu", "faiss"

    def __init__(self, key=None):
        import faiss

        self.faiss, self.key = faiss, key

    def build(self, X):
        self.Q, X = (array.astype(np.float32, copy=False) for array in (self.Q, X))
        if (index := self.load("index")) is not None:
            self.index = self.faiss.deserialize_index(index)
            if self.index.use_precomputed_table != 1:
                raise RuntimeError("Faiss has not computed its tables.")
            return
        self.index = self.faiss.index_factory(X.shape[1], self.key)
        centroids = self.load("centroids")
        is_given = centroids is not None and self.key.startswith("IVF")
        if is_given:
            ivf = self.faiss.extract_index_ivf(self.index)
            self.faiss.downcast_index(ivf.quantizer).add(centroids)
        self.index.train(X)
        if is_given and ",Flat" in self.key:
            labels, pointer = self.load("labels"), self.faiss.swig_ptr
            self.index.add_core(len(X), pointer(X), None, pointer(labels))
        else:
            self.index.add(X)

    def set_threads(self, n_threads):
        self.faiss.omp_set_num_threads(n_threads)

    def set_search(self, parameters):
        for name, value in parameters.items():
            # What refines has k_factor, what it refines nprobe.
            has_it = hasattr(self.index, name)
            owner = self.index if has_it else self.faiss.extract_index_ivf(self.index)
            setattr(owner, name, value)

    def search(self, Q):
        return self.index.search(Q, self.k)

    def probes(self, n_queries, nprobe):
        """The nearest lists of the first queries."""
        return self.index.quantizer.search(self.Q[:n_queries], nprobe)[1]

    def decode(self, ids):
        """What the index stores of these rows."""
        self.index.make_direct_map()
        return self.index.reconstruct_batch(ids)

    def simd(self):
        return self.faiss.SIMDConfig.get_level_name()


class FaissTraining(Faiss):
    """Times of `train` and `add`."""

    def build(self, X):
        self.X = X[:_FEW_ROWS]
        self.train(seed=0)
        self.X = X

    def train(self, seed):
        """Seconds of training and of adding all rows."""
        self.index = self.faiss.index_factory(self.X.shape[1], self.key)
        self.index.cp.seed = seed
        if hasattr(self.index, "pq"):
            self.index.pq.cp.seed = seed
        training, _ = seconds_of(lambda: self.index.train(self.X))
        adding, _ = seconds_of(lambda: self.index.add(self.X))
        return training, adding

    def trained(self):
        """The centroids, and the index as bytes."""
        centroids = self.index.quantizer.reconstruct_n(0, self.index.nlist)
        return centroids, self.faiss.serialize_index(self.index)


class SklearnBrute(Peer):
    package, module = "scikit-learn", "sklearn"

    def build(self, X):
        from sklearn.neighbors import NearestNeighbors

        self.index = NearestNeighbors(n_neighbors=self.k, algorithm="brute").fit(X)

    def set_threads(self, n_threads):
        from threadpoolctl import threadpool_limits

        threadpool_limits(n_threads)

    def search(self, Q):
        return self.index.kneighbors(Q)


class Hnsw(Peer):
    package, module = "hnswlib", "hnswlib"

    def build(self, X):
        import hnswlib

        self.index = hnswlib.Index(space="l2", dim=X.shape[1])
        self.index.init_index(max_elements=len(X), ef_construction=200, M=16)
        self.index.add_items(X, num_threads=2)

    def set_threads(self, n_threads):
        self.index.set_num_threads(n_threads)

    def set_search(self, parameters):
        self.index.set_ef(parameters["ef"])

    def search(self, Q):
        labels, sqdists = self.index.knn_query(Q, self.k)
        return sqdists, labels.view(np.int64)
