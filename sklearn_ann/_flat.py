"""Exact search of all vectors."""

from __future__ import annotations

from sklearn_ann._base import NeighborsBase
from sklearn_ann._principal_axes import Searches
from sklearn_ann._scalar_quantizer import add_to_flat_index, build_flat_index
from sklearn_ann._stored_index import unpack_flat
from sklearn_ann._typing import Metric, Mode


class FlatL2Neighbors(NeighborsBase):
    """Exact nearest neighbours by Euclidean distance.

    Every query is compared with every indexed vector, as `IndexFlatL2` of Faiss and
    ``NearestNeighbors(algorithm="brute")`` of scikit-learn do. A copy of the vectors in
    8 bits a feature excludes most of them with integer arithmetic and a proven bound;
    the few others are measured. The answer is the exact one: the same neighbours as by
    sorting all distances in float64, ties in the order of the row numbers, whatever the
    batch size and the number of threads.

    Parameters
    ----------
    n_neighbors : int, default=5
        Neighbours for each query. Read at search time: `set_params` needs no new fit.
        A fit for about as many makes searches fastest.
    radius : float, default=1.0
        Radius of `radius_neighbors`, in the units of `metric`. Read at search time.
    metric : {'euclidean', 'sqeuclidean', 'cosine'}, default='euclidean'
        Euclidean distances, squared ones as Faiss returns them, or one minus the cosine
        of the angle. For 'cosine' a normalised copy of the vectors is indexed. When it
        is set on a fitted estimator, it takes effect with the next `fit`.
    mode : {'distance', 'connectivity'}, default='distance'
        What `transform` returns: distances to ``n_neighbors + 1`` neighbours, or ones
        at `n_neighbors`, as scikit-learn's ``KNeighborsTransformer``.
    device : {'cpu', 'cuda', 'cuda:N', None}, default=None
        Where to fit and search: on the CPU, or on NVIDIA GPU number N (0 for 'cuda'),
        which is experimental. None is where X is: an array on a GPU is searched there,
        any other, and no X, on the CPU. Answers do not depend on it. Read at search
        time.
    n_jobs : int, default=None
        Threads of a search. None or -1 for all usable cores (fewer in joblib's
        workers), 1 for the calling thread only. Small searches use one thread. Answers
        do not depend on it.
    verbose : int, default=0
        Whether a fit prints what it compiles, and long graphs of all rows and radius
        searches show how far they are.

    Attributes
    ----------
    n_samples_fit_ : int
        Indexed vectors.
    n_features_in_ : int
        Features of a vector.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if the estimator was fitted on a data frame that has
        names for all.
    effective_metric_ : str
        The metric the index was built for.
    effective_metric_params_ : dict
        Empty; here for the scikit-learn API.
    is_trained : bool
        Whether the estimator is fitted, under the name Faiss gives it.
    ntotal : int
        Indexed vectors, under the name Faiss gives it.

    See Also
    --------
    sklearn.neighbors.NearestNeighbors : Exact search by trees or brute force.
    sklearn.neighbors.KNeighborsTransformer : The same graphs from scikit-learn.

    Notes
    -----
    Time grows with ``n_queries * n_samples * n_features``. Memory is that of the
    vectors, which are kept by reference if they need no conversion, plus one byte a
    feature and 8 bytes a vector.

    Where features are correlated, as in embeddings and images, a search first compares
    short projections of the vectors, on 32 to 128 axes, which makes it faster. `fit`
    looks at a sample and decides whether a projection pays, for searches of
    `n_neighbors` neighbours. It takes 8 bytes a vector more, and a byte for each axis;
    there are at most half as many axes as features.

    Distances are sums of squared differences in float64, not
    ``|x|^2 - 2 x.y + |y|^2``: the distance of a vector to itself is 0, and data far
    from the origin loses no digits.

    Data that 8 bits describe badly (a few features with huge ranges beside many small
    ones) leaves more vectors to be measured: slower, as exact. Scaling the features
    helps.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ann import FlatL2Neighbors
    >>> X = np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0], [0.0, 1.0]])
    >>> index = FlatL2Neighbors(n_neighbors=2).fit(X)
    >>> distances, ids = index.kneighbors([[3.0, 3.0]])
    >>> ids
    array([[1, 3]])
    >>> distances.round(2)
    array([[1.  , 3.61]])
    >>> index.reconstruct(1)
    array([3., 4.])
    """

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        radius: float = 1.0,
        metric: Metric = "euclidean",
        mode: Mode = "distance",
        device: str | None = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.radius = radius
        self.metric = metric
        self.mode = mode
        self.device = device
        self.n_jobs = n_jobs
        self.verbose = verbose

    def _build(self, X, backend):
        n_threads = self._n_threads(X.size)
        return build_flat_index(X, backend, n_threads, self._searches())

    def _add(self, X, backend):
        n_threads = self._n_threads(X.size)
        return add_to_flat_index(
            self._index, X, self._storage, backend, n_threads, self._searches()
        )

    def _searches(self):
        return Searches(share_read=1.0, n_neighbors=int(self.n_neighbors))

    def _dtype_and_shape(self, index):
        return index.X.dtype, index.X.shape

    def _restore(self, stored):
        return unpack_flat(stored)

    def _search(self, Q, k, backend):
        n_threads = self._n_threads(len(Q) * self._index.codes.size)
        return backend.knn(Q, self._index, k, n_threads)

    def _search_radius(self, Q, sqradius, with_sqdists, backend):
        n_threads = self._n_threads(len(Q) * self._index.codes.size)
        return backend.radius(Q, self._index, sqradius, with_sqdists, n_threads)

    def _flat_index(self):
        return self._index

    def _decode(self, ids):
        return self._index.X[ids]
