"""Search of some inverted lists, exact inside them."""

from __future__ import annotations

from typing import Literal

from numpy.typing import ArrayLike

from sklearn_ann._calibration import Candidates, is_enough, options_that_reach
from sklearn_ann._inverted_lists import empty_lists, extend_lists
from sklearn_ann._ivf import IVFNeighbors
from sklearn_ann._layout import IVFFlatIndex, read_only_index
from sklearn_ann._principal_axes import Searches
from sklearn_ann._scalar_quantizer import empty_flat_index, place_rows
from sklearn_ann._stored_index import unpack_ivf_flat
from sklearn_ann._typing import Memory, Metric, Mode, RandomState

# Lists that a search is expected to probe, or `nprobe` if that is more, for the choice
# of a projection. Most data needs no more lists for 95 % of the neighbours.
_PROBED = 16


class IVFFlatNeighbors(IVFNeighbors):
    """Approximate nearest neighbours: exact inside the inverted lists that are probed.

    k-means cuts space into `nlist` cells, and each row goes to the list of the cell it
    is in. A query looks into the `nprobe` lists with the nearest centroids only, as
    `IndexIVFFlat` of Faiss does. Inside them the search is that of `FlatL2Neighbors`:
    exact, with distances in float64 and ties in the order of the row numbers. Answers
    do not depend on the batch size or the number of threads.

    Parameters
    ----------
    n_neighbors : int, default=5
        Neighbours for each query. Read at search time: `set_params` needs no new fit.
        A fit for about as many makes searches fastest.
    nlist : int or 'auto', default='auto'
        Number of lists. More lists make a search with the same `nprobe` faster and its
        recall lower, and training slower; Faiss's rule is 4 to 16 times the square root
        of the number of rows. 'auto' is that square root, or 1 for fewer than 10,000
        rows, where a flat search takes no longer; with `init`, the number of its rows.
    nprobe : int or 'auto', default='auto'
        Lists to search for each query. Time and recall grow with it; from `nlist_` on
        everything is searched and the answer is exact. 'auto' is `nprobe_`, the
        smallest number that reaches `target_recall`. A query whose lists hold fewer
        rows than it wants neighbours searches further lists until it has enough. Read
        at search time.
    target_recall : float, default=0.95
        The share of the true neighbours that a search finds with ``nprobe="auto"``, on
        average over queries like those of the calibration; a single query may find
        fewer. It promises nothing for queries of another kind: calibrate with your own,
        see `fit`. A higher target takes longer, and 1 is exact.
    init : array-like of shape (nlist, n_features), default=None
        Centroids that k-means starts from. With ``max_iter=0`` they are used as they
        are, and nothing is trained: so are `cluster_centers_` of another estimator, for
        every `metric`. For 'cosine' these have one feature more than the data;
        centroids without it are scaled to length 1, as the rows are. None starts from
        rows drawn at random.
    radius : float, default=1.0
        Radius of `radius_neighbors`, in the units of `metric`: rows of the probed lists
        only. Read at search time.
    metric : {'euclidean', 'sqeuclidean', 'cosine'}, default='euclidean'
        Euclidean distances, squared ones as Faiss returns them, or one minus the cosine
        of the angle. For 'cosine' a normalised copy of the vectors is indexed. When it
        is set on a fitted estimator, it takes effect with the next `fit`.
    mode : {'distance', 'connectivity'}, default='distance'
        What `transform` returns: distances to ``n_neighbors + 1`` neighbours, or ones
        at `n_neighbors`, as scikit-learn's ``KNeighborsTransformer``.
    max_iter : int, default=10
        Iterations of k-means at most, Faiss's number for lists. More change the recall
        little. With 0 the centroids are those of `init`, or the rows that are drawn.
    random_state : int, RandomState instance or None, default=None
        Draws the rows that k-means is trained on, 256 for each list, and those that it
        starts from. An int gives the same lists each time.
    memory : str, object with the joblib.Memory interface, or None, default=None
        Where to keep centroids, and the exact answers that recall is measured with: a
        grid over `nprobe` then trains k-means once for each fold and `nlist`, and
        searches exactly once for each fold and kind of queries. Needs an int as
        `random_state`, or nothing is found again.
    device : {'cpu', 'cuda', 'cuda:N', None}, default=None
        Where to fit and search: on the CPU, or on NVIDIA GPU number N (0 for 'cuda'),
        which is experimental. None is where X is: an array on a GPU is searched there,
        any other, and no X, on the CPU. Answers do not depend on it. Read at search
        time.
    n_jobs : int, default=None
        Threads of a fit or a search. None or -1 for all usable cores (fewer in joblib's
        workers), 1 for the calling thread only. Answers do not depend on it.
    verbose : int, default=0
        Whether a fit prints the iterations of k-means and what it compiles, and long
        graphs of all rows and radius searches show how far they are.

    Attributes
    ----------
    nlist_ : int
        Number of lists.
    nprobe_ : int
        Lists that were searched for each query in the calibration: the smallest number
        that reaches `target_recall`, or `nprobe`.
    recall_ : float
        The recall of the calibration queries with `nprobe_` lists.
    recall_interval_ : tuple of two floats
        A 95 % confidence interval for the recall of all such queries, from these. It
        does not allow for the choice, which was made with the same queries.
    calibration_ids_ : ndarray of shape (n_queries,), int64, or None
        The rows that were drawn as calibration queries; None if they were given.
    calibration_queries_ : ndarray of shape (n_queries, n_features), or None
        The calibration queries that were given.
    cluster_centers_ : ndarray of shape (nlist_, n_features_in_)
        Centroids of the lists. For 'cosine' those of the normalised vectors, which have
        one feature more (of zero vectors).
    n_iter_ : int
        Iterations of k-means that were made.
    list_sizes_ : ndarray of shape (nlist_,), int64
        Rows in each list.
    imbalance_factor_ : float
        How many times longer a search takes than with lists of equal sizes, if queries
        are distributed as the rows are; 1 at best.
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
    FlatL2Neighbors : Exact search of all rows.
    from_faiss : The same lists as an index of Faiss.

    Notes
    -----
    The time of a search grows with ``n_queries * nlist * n_features`` for the
    centroids and with ``n_queries * nprobe / nlist * n_samples * n_features`` for the
    lists; a batch reads each list once for all of its queries. Memory is that of the
    vectors, which are kept by reference if they need no conversion, plus one byte a
    feature and 16 bytes a vector, and room for up to 63 vectors in each list. Long
    lists of correlated features have projections as `FlatL2Neighbors` has them, chosen
    for searches of `n_neighbors` neighbours in 16 lists, or `nprobe` if that is more.

    `partial_fit` adds rows to the lists of the first fit, without training, and keeps
    `nprobe_` and `recall_`: `retune` measures them again. When the data drifts away
    from what the lists were trained on, they become unequal (`imbalance_factor_`) and a
    new `fit` pays.

    Inverted files go back to Sivic and Zisserman, "Video Google" (2003); lists of
    k-means cells with residual codes are those of Jegou, Douze and Schmid, "Product
    quantization for nearest neighbor search" (2011).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ann import IVFFlatNeighbors
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(3000, 8))
    >>> index = IVFFlatNeighbors(n_neighbors=3, nlist=30, nprobe=4, random_state=0)
    >>> index.fit(X).list_sizes_.shape
    (30,)
    >>> distances, ids = index.kneighbors(X[:1])
    >>> ids[:, 0], distances[:, 0]
    (array([0]), array([0.]))
    >>> exact = index.set_params(nprobe=30).kneighbors(X[:1])  # no new fit
    """

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        nlist: int | Literal["auto"] = "auto",
        nprobe: int | Literal["auto"] = "auto",
        target_recall: float = 0.95,
        init: ArrayLike | None = None,
        radius: float = 1.0,
        metric: Metric = "euclidean",
        mode: Mode = "distance",
        max_iter: int = 10,
        random_state: RandomState = None,
        memory: str | Memory | None = None,
        device: str | None = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.nlist = nlist
        self.nprobe = nprobe
        self.target_recall = target_recall
        self.init = init
        self.radius = radius
        self.metric = metric
        self.mode = mode
        self.max_iter = max_iter
        self.random_state = random_state
        self.memory = memory
        self.device = device
        self.n_jobs = n_jobs
        self.verbose = verbose

    # -- fitting ---------------------------------------------------------------------

    def _fill(self, X, backend, centroids):
        empty = IVFFlatIndex(
            centroids=self._index_centroids(centroids, backend),
            lists=empty_lists(len(centroids)),
            rows=empty_flat_index(X, self._searches(len(centroids))),
        )
        return self._place(empty, X, backend)

    def _add(self, X, backend):
        self._warn_of_outgrown_lists(len(X))
        return self._place(self._index, X, backend)

    def _place(self, index, X, backend):
        """The index with the rows of X added to their lists."""
        labels = self._assign(X, index.centroids, backend)
        lists, order, positions = extend_lists(index.lists, labels)
        n_panels, n_threads = len(lists.panels), self._n_threads(X.size)
        rows = place_rows(
            *(index.rows, X, order, positions, n_panels, self._storage, backend),
            n_threads,
            self._searches(len(lists.sizes)),
        )
        return read_only_index(index._replace(lists=lists, rows=rows))

    def _searches(self, nlist):
        nprobe = _PROBED if self.nprobe == "auto" else max(_PROBED, self.nprobe)
        share_read = min(1.0, nprobe / nlist)
        return Searches(share_read=share_read, n_neighbors=int(self.n_neighbors))

    def _dtype_and_shape(self, index):
        return index.rows.X.dtype, index.rows.X.shape

    def _restore(self, stored):
        return unpack_ivf_flat(stored)

    # -- searching -------------------------------------------------------------------

    def _search(self, Q, k, backend):
        return self._search_lists(Q, k, self._nprobe(), backend)

    def _search_lists(self, Q, k, nprobe, backend, n_own=0):
        index, k = self._index, k + n_own
        n_threads = self._n_threads_for(len(Q), nprobe)
        if nprobe >= self.nlist_:
            return backend.knn(Q, index.rows, k, n_threads)
        _, probes = self._probe(index, Q, nprobe, k, backend, n_threads)
        return backend.scan_ivf_flat(Q, index, probes, k, n_threads)

    def _search_radius(self, Q, sqradius, with_sqdists, backend):
        index = self._index
        nprobe = self._nprobe()
        n_threads = self._n_threads_for(len(Q), nprobe)
        if nprobe >= self.nlist_:
            return backend.radius(Q, index.rows, sqradius, with_sqdists, n_threads)
        _, probes = self._probe(index, Q, nprobe, 0, backend, n_threads)
        return backend.radius_ivf_flat(
            Q, index, probes, sqradius, with_sqdists, n_threads
        )

    def _n_threads_for(self, nq, nprobe):
        share = min(1.0, nprobe / self.nlist_)
        return self._n_threads(int(nq * self._index.rows.codes.size * share))

    # -- calibration -----------------------------------------------------------------

    def _choose(self, truth, X, target_recall, backend):
        if self.nprobe != "auto":
            self.nprobe_ = self._given_nprobe()
            return None
        # A search of lists is exact: it finds the true neighbours that it sees.
        nprobes = self._nprobes_to_see(truth, self._labels(), backend)
        candidates = Candidates(nprobes, truth.ids >= 0)
        n, k = truth.distances.shape
        options = options_that_reach(
            lambda recall: is_enough(recall, n, target_recall),
            candidates,
            (nprobes.shape[1],),
            k,
            1,
            self.nlist_,
        )
        # A search of all lists is exact, whatever can be promised.
        self.nprobe_ = options[0][0] if options else self.nlist_
        return None

    # -- looking at the index --------------------------------------------------------

    def _flat_index(self):
        return self._index.rows

    def _ids(self):
        return self._index.rows.ids

    def _decode(self, ids):
        return self._index.rows.X[ids]
