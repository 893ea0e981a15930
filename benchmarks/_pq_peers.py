"""Peers that search product-quantized rows in inverted lists, or train them.

Those with the same codes read them from an index of Faiss: their folder has it as an
array of bytes, `index`.
"""

from time import perf_counter

import numpy as np
from _ivf_peers import FaissIVFFlat, OursIVFFlat
from _peers import buffers_of

# Rows that codebooks are trained on, by both: 256 for each of 256 codewords.
_TRAINING_ROWS = 2**16

# Rows and parameters to compile and to wake up threads with: rows, nlist, m.
_WARM_UP = 2000, 16, 8


class OursIVFPQ(OursIVFFlat):
    def __init__(self):
        """What is searched is made by `build`."""

    def build(self, X):
        import faiss

        from sklearn_ann import from_faiss

        index = faiss.deserialize_index(self.load("index"))
        self.index = from_faiss(index, n_neighbors=self.k)

    def answers(self):
        """Squared distances and ids of all queries."""
        return self.index.kneighbors(self.Q)

    def decode(self, ids):
        """What the codes of these rows stand for."""
        return self.index.reconstruct(ids)


class OursRefined(OursIVFPQ):
    """With stored vectors, and training of its own."""

    def __init__(self, nlist, m, nbits):
        from sklearn_ann import IVFPQNeighbors

        sizes = {"nlist": int(nlist), "m": int(m), "nbits": int(nbits)}
        self.index = IVFPQNeighbors(
            **sizes, store_vectors=True, metric="sqeuclidean", random_state=0
        )

    def build(self, X):
        self.index.set_params(n_neighbors=self.k).fit(X)


class FaissIVFPQ(FaissIVFFlat):
    """With a table for each list, computed before."""

    def build(self, X):
        self.Q = self.Q.astype(np.float32, copy=False)
        self.index = self.faiss.deserialize_index(self.load("index"))
        if self.index.use_precomputed_table != 1:
            raise RuntimeError("Faiss has not computed its tables.")

    def answers(self):
        """Squared distances and ids of all queries."""
        return self.index.search(self.Q, self.k)

    def decode(self, ids):
        """What the codes of these rows stand for."""
        self.index.make_direct_map()
        return self.index.reconstruct_batch(ids)


# -- training -----------------------------------------------------------------------


class OursPQTraining(OursIVFPQ):
    """Times of the parts of a fit."""

    def build(self, X):
        n_rows, nlist, m = _WARM_UP
        self.n_threads, self.X = 2, X[:n_rows]
        self.train(nlist, m, 0)
        self.add()
        self.X = X

    def set_threads(self, n_threads):
        self.n_threads = n_threads

    def train(self, nlist, m, seed):
        """Seconds for centroids and codebooks."""
        from sklearn_ann import IVFPQNeighbors, _cpu

        parameters = {"nlist": nlist, "m": m, "random_state": seed}
        parameters |= {"n_neighbors": self.k, "n_jobs": self.n_threads}
        self.index = IVFPQNeighbors(metric="sqeuclidean", **parameters)
        start = perf_counter()
        centroids, _ = self.index._train(self.X, _cpu)
        # A fit has the lists of all rows already, which it needs for adding them. Here
        # those of the rows that codebooks are trained on count, as they do for Faiss.
        rows = self._draw_rows(seed)
        coarse = self.index._index_centroids(rows, centroids, _cpu)
        labels = self.index._assign(rows, coarse, _cpu)
        codebooks = self.index._train_codebooks(rows, labels, centroids, _cpu)
        seconds = perf_counter() - start
        self.trained = centroids, codebooks
        return seconds

    def _draw_rows(self, seed):
        if len(self.X) <= _TRAINING_ROWS:
            return self.X
        rng = np.random.default_rng(seed)
        rows = rng.choice(len(self.X), _TRAINING_ROWS, replace=False)
        return self.X[np.sort(rows)]

    def add(self):
        """Seconds to check, assign, encode and place all rows."""
        start = perf_counter()
        self.index._fit_lists(self.X, *self.trained)
        return perf_counter() - start

    def sizes(self):
        """Bytes of the fitted estimator, of centroids, and of codebooks."""
        estimator, index = self.index, self.index._index
        parts = {
            "all": vars(estimator),
            "centroids": (estimator.cluster_centers_, index.centroids),
            "codebooks": (
                *(
                    estimator.codebooks_,
                    index.codebooks_t,
                    index.half_sqnorms,
                    index.radii,
                ),
            ),
        }
        return {name: sum(buffers_of(part).values()) for name, part in parts.items()}


class FaissPQTraining(FaissIVFPQ):
    """Times of `train` and `add`."""

    def build(self, X):
        self.Q = self.Q.astype(np.float32, copy=False)
        n_rows, nlist, m = _WARM_UP
        self.X = X[:n_rows]
        self.train(nlist, m, 0)
        self.add()
        self.X = X

    def train(self, nlist, m, seed):
        """Seconds for centroids, codebooks and tables."""
        d = self.X.shape[1]
        n_bits = 8
        self.index = self.faiss.IndexIVFPQ(
            self.faiss.IndexFlatL2(d), d, nlist, m, n_bits
        )
        self.index.cp.seed = self.index.pq.cp.seed = seed
        start = perf_counter()
        self.index.train(self.X)
        return perf_counter() - start

    def add(self):
        """Seconds to assign and encode all rows."""
        start = perf_counter()
        self.index.add(self.X)
        return perf_counter() - start

    def contents(self):
        """The index as bytes, and its centroids."""
        centroids = self.index.quantizer.reconstruct_n(0, self.index.nlist)
        return self.faiss.serialize_index(self.index), centroids
