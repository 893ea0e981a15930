"""Peers that search inverted lists, or compete with those that do.

All fill the same lists: their folder has the `centroids` and the `labels` of the rows.
Only the peers that train have neither.
"""

from time import perf_counter

import numpy as np
from _peers import FaissFlat, Ours, Peer

# Parts of a vector after which Panorama may give it up.
_LEVELS = 8

# Seconds that a graph may take, and rows that are added at a time. Later rows take no
# less than the first ones, which tell when it will be too long.
_LONGEST_BUILD = 180.0
_CHUNK = 20_000

# Rows to compile and to wake up threads with.
_WARM_UP = 2000


class OursIVFFlat(Ours):
    def __init__(self):
        from sklearn_ann import IVFFlatNeighbors

        self.index = IVFFlatNeighbors(metric="sqeuclidean")

    def build(self, X):
        self.X = X
        self.index.set_params(n_neighbors=self.k)
        self.index._fit_lists(X, self.load("centroids"))

    def set_search(self, parameters):
        names = {"k": "n_neighbors"}
        self.index.set_params(**{names.get(k, k): v for k, v in parameters.items()})

    def probes(self, nprobe):
        """The nearest lists of each query: the estimator finds them as this does."""
        return self._nearest_lists(self.Q, nprobe)

    def labels(self):
        """The list of each row."""
        return self._nearest_lists(self.X, 1).ravel()

    def _nearest_lists(self, rows, n_lists):
        from sklearn_ann import FlatL2Neighbors

        quantizer = FlatL2Neighbors(n_neighbors=n_lists)
        return quantizer.fit(self.index.cluster_centers_).kneighbors(rows)[1]

    def add_singles(self, n_rows):
        """Seconds of each of so many calls that add one row."""
        rows = self.Q[:n_rows]
        seconds = []
        for i in range(len(rows)):
            start = perf_counter()
            self.index.partial_fit(rows[i : i + 1])
            seconds.append(perf_counter() - start)
        return seconds


class FaissIVFFlat(FaissFlat):
    def build(self, X):
        self.Q = self.Q.astype(np.float32, copy=False)
        centroids = self.load("centroids")
        quantizer = self.faiss.IndexFlatL2(X.shape[1])
        quantizer.add(centroids)
        self.index = self.make(quantizer, *centroids.shape)
        # As `add` does, but in the given lists.
        labels, pointer = self.load("labels"), self.faiss.swig_ptr
        self.index.add_core(len(X), pointer(X), None, pointer(labels))

    def make(self, quantizer, nlist, d):
        return self.faiss.IndexIVFFlat(quantizer, d, nlist)

    def set_search(self, parameters):
        self.k = parameters.get("k", self.k)
        self.index.nprobe = parameters["nprobe"]

    def probes(self, nprobe):
        """The nearest lists of each query."""
        return self.index.quantizer.search(self.Q, nprobe)[1]


class FaissIVFPanorama(FaissIVFFlat):
    def make(self, quantizer, nlist, d):
        return self.faiss.IndexIVFFlatPanorama(quantizer, d, nlist, _LEVELS)


class FaissPCAPanorama(FaissIVFPanorama):
    """In the order of principal components, which Panorama is made for."""

    def build(self, X):
        d = X.shape[1]
        self.pca = self.faiss.PCAMatrix(d, d)
        self.pca.train(X)
        load = self.load
        rotated = {"centroids": self.pca.apply(load("centroids"))}
        self.load = lambda name: rotated[name] if name in rotated else load(name)
        super().build(self.pca.apply(X))

    def search(self, Q):
        return super().search(self.pca.apply(Q))


class FaissFactory(FaissIVFFlat):
    """Any index with inverted lists, by its key: those of the folder, or trained."""

    def __init__(self, key):
        super().__init__()
        self.key = key

    def build(self, X):
        self.Q = self.Q.astype(np.float32, copy=False)
        self.index = self.faiss.index_factory(X.shape[1], self.key)
        self.ivf = self.faiss.extract_index_ivf(self.index)
        if (self.folder / "centroids.npy").exists():
            quantizer = self.faiss.downcast_index(self.ivf.quantizer)
            quantizer.add(self.load("centroids"))
        self.index.train(X)
        self.index.add(X)

    def set_search(self, parameters):
        self.ivf.nprobe = parameters["nprobe"]
        if "k_factor" in parameters:
            self.index.k_factor = parameters["k_factor"]


class Hnsw(Peer):
    package = "hnswlib"
    build_seconds = None

    def __init__(self):
        import hnswlib

        self.hnswlib = hnswlib

    def build(self, X):
        """Unless it takes too long: then there is nothing to search."""
        self.index = self.hnswlib.Index(space="l2", dim=X.shape[1])
        self.index.init_index(max_elements=len(X), ef_construction=200, M=16)
        self.index.set_num_threads(2)
        start = perf_counter()
        for first in range(0, len(X), _CHUNK):
            self.index.add_items(X[first : first + _CHUNK])
            done = min(first + _CHUNK, len(X)) / len(X)
            if perf_counter() - start > done * _LONGEST_BUILD:
                return
        self.build_seconds = perf_counter() - start

    def get_build_seconds(self):
        """None if it was given up."""
        return self.build_seconds

    def set_threads(self, n_threads):
        self.index.set_num_threads(n_threads)

    def set_search(self, parameters):
        self.index.set_ef(parameters["ef"])

    def search(self, Q):
        return self.index.knn_query(Q, self.k)[0].view(np.int64)


# -- training -----------------------------------------------------------------------


class OursTraining(Ours):
    """Times of the parts of a fit."""

    def build(self, X):
        from sklearn_ann import IVFFlatNeighbors

        self.X = X
        self.estimator = IVFFlatNeighbors
        self.set_threads(2)
        few = X[:_WARM_UP]
        self.fit(few, self._train(few, 16, 0))

    def set_threads(self, n_threads):
        self.n_threads = n_threads

    def search(self, Q):
        return None

    def train(self, nlist, seed):
        """Seconds, and the centroids."""
        start = perf_counter()
        centroids = self._train(self.X, nlist, seed)
        return perf_counter() - start, centroids

    def add(self, centroids):
        """Seconds to put all rows into lists."""
        start = perf_counter()
        self.fit(self.X, centroids)
        return perf_counter() - start

    def _train(self, X, nlist, seed):
        from sklearn_ann import _cpu

        parameters = {"nlist": nlist, "random_state": seed, "n_jobs": self.n_threads}
        return self.estimator(**parameters)._train(X, _cpu)[0]

    def fit(self, X, centroids):
        index = self.estimator(metric="sqeuclidean", n_jobs=self.n_threads)
        index._fit_lists(X, centroids)


class FaissTraining(FaissFlat):
    """Times of `train` and `add`."""

    def build(self, X):
        self.X = X
        few = X[:_WARM_UP]
        self.faiss.IndexIVFFlat(self._quantizer(), few.shape[1], 16).train(few)

    def search(self, Q):
        return None

    def train(self, nlist, seed):
        """Seconds, and the centroids."""
        index = self._index(nlist)
        index.cp.seed = seed
        start = perf_counter()
        index.train(self.X)
        seconds = perf_counter() - start
        return seconds, index.quantizer.reconstruct_n(0, nlist)

    def add(self, centroids):
        """Seconds to put all rows into lists."""
        index = self._index(len(centroids))
        index.quantizer.add(centroids)
        index.is_trained = True
        start = perf_counter()
        index.add(self.X)
        return perf_counter() - start

    def labels(self, centroids):
        """The list of each row."""
        quantizer = self._quantizer()
        quantizer.add(centroids)
        return quantizer.search(self.X, 1)[1].ravel()

    def _index(self, nlist):
        return self.faiss.IndexIVFFlat(self._quantizer(), self.X.shape[1], nlist)

    def _quantizer(self):
        return self.faiss.IndexFlatL2(self.X.shape[1])
