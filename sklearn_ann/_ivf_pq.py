"""Search of some inverted lists of product-quantized rows."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_memory

from sklearn_ann._backend import get_backend
from sklearn_ann._ivf import IVFNeighbors
from sklearn_ann._layout import CODEWORDS
from sklearn_ann._product_quantizer import (
    DecodedRows,
    choose_parts,
    draw_residuals,
    empty_pq_index,
    place_codes,
    train_codebooks,
)
from sklearn_ann._refined import RefinedMixin
from sklearn_ann._sklearn import Interval, StrOptions
from sklearn_ann._stored_index import unpack_ivf_pq
from sklearn_ann._typing import Memory, Metric, Mode, RandomState
from sklearn_ann._validation import validate_codebooks

# Rows that the reconstruction error is averaged over, at most.
_ERROR_SAMPLE = 8192


class IVFPQNeighbors(RefinedMixin, IVFNeighbors):
    """Approximate nearest neighbours among compressed rows in inverted lists.

    As in `IVFFlatNeighbors`, k-means cuts space into `nlist` cells and a query looks
    into `nprobe` of them. But a row is stored as `m` codes of its residual, the
    difference to the centroid of its cell: each part of it is replaced by the nearest
    of ``2 ** nbits`` codewords, as in `IndexIVFPQ` of Faiss. Distances are those of the
    query to what the codes stand for, see `reconstruct`; with `store_vectors` and
    `refine_factor`, those to the vectors themselves.

    Parameters
    ----------
    n_neighbors : int, default=5
        Neighbours for each query. Read at search time: `set_params` needs no new fit.
    nlist : int or 'auto', default='auto'
        Number of lists; see `IVFFlatNeighbors`. With `init`, 'auto' is the number of
        its rows.
    nprobe : int or 'auto', default='auto'
        Lists to search for each query. Time and recall grow with it, up to the recall
        that the codes allow. 'auto' is `nprobe_`, see `target_recall`. A query whose
        lists hold fewer rows than it wants neighbours searches further lists until it
        has enough. Read at search time.
    target_recall : float or None, default=None
        The share of the true neighbours that a search finds with ``nprobe="auto"``, on
        average over queries like those of the calibration; see `IVFFlatNeighbors`. A
        target that the codes cannot reach is a warning. None asks for the recall of a
        search of all lists, less 0.01 at most, and for 0.95 where `refine_factor` is
        chosen, too: codes alone are the limit. Not used where both are given.
    init : array-like of shape (nlist, n_features), default=None
        Centroids that k-means starts from. With ``max_iter=0`` they are used as they
        are, and nothing is trained: so are `cluster_centers_` of another estimator, for
        every `metric`. For 'cosine' these have one feature more than the data;
        centroids without it are scaled to length 1, as the rows are. None starts from
        rows drawn at random.
    m : int or 'auto', default='auto'
        Number of parts, each with a codebook of its own. More parts raise recall,
        memory and time. 'auto' spends a byte on 8 features: parts of 8, or of 4 with
        ``nbits=4``. When the number of features is no multiple of it, fewer parts may
        do: `m_`.
    nbits : int, default=8
        4 to 8: the logarithm of the number of codewords of a part. Two codes of 4 bits
        share a byte, others take one each; fewer bits lower the recall.
    codebooks : array-like of shape (m, n_codewords, n_part_features), default=None
        Codewords of each part, ``2 ** nbits`` at most, for example `codebooks_` of
        another estimator. They are used as they are, in float32, and not trained;
        features past the last must be 0. With ``m="auto"`` their number of parts is
        taken. None trains them.
    refine_factor : int or 'auto', default='auto'
        Neighbours found with the codes, as a multiple of `n_neighbors`, that are
        measured again with the stored vectors; the nearest of them are returned with
        exact distances. 1 skips this step. 'auto' is `refine_factor_`, which is chosen
        together with `nprobe_`, or 1 without stored vectors. Read at search time.
    store_vectors : bool, default=False
        Whether to keep the vectors too, by reference if they need no conversion:
        refining needs them, and `score`, `retune` and `recall_curve`. A memory map
        stays on disk.
    radius : float, default=1.0
        Radius of `radius_neighbors`, in the units of `metric`: rows of the probed lists
        whose reconstruction is within it. Read at search time.
    metric : {'euclidean', 'sqeuclidean', 'cosine'}, default='euclidean'
        Euclidean distances, squared ones as Faiss returns them, or one minus the cosine
        of the angle. For 'cosine' the normalised vectors are indexed. When it is set on
        a fitted estimator, it takes effect with the next `fit`.
    mode : {'distance', 'connectivity'}, default='distance'
        What `transform` returns: distances to ``n_neighbors + 1`` neighbours, or ones
        at `n_neighbors`, as scikit-learn's ``KNeighborsTransformer``.
    max_iter : int, default=10
        Iterations of k-means for the lists at most. With 0 the centroids are those of
        `init`, or rows drawn at random. Codewords take 25.
    random_state : int, RandomState instance or None, default=None
        Draws the rows that k-means is trained on and those that it starts from. An int
        gives the same index each time.
    memory : str, object with the joblib.Memory interface, or None, default=None
        Where to keep centroids, codewords and the exact answers that recall is measured
        with: a grid over `nprobe` or `refine_factor` then trains once for each fold.
        Needs an int as `random_state`.
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
    m_ : int
        Number of parts.
    codebooks_ : ndarray of shape (m_, n_codewords, n_part_features), float32
        Codewords of each part; features past the last are 0.
    nprobe_ : int
        Lists that were searched for each query in the calibration: the smallest number
        that reaches `target_recall`, or `nprobe`.
    refine_factor_ : int
        The factor of the calibration: chosen with `nprobe_` so that a search takes the
        least time, or `refine_factor`.
    recall_ : float
        The recall of the calibration queries with these two, measured in `fit` with the
        vectors, stored or not. NaN if `from_faiss` has taken over codes.
    recall_interval_ : tuple of two floats
        A 95 % confidence interval for the recall of all such queries, from these. It
        does not allow for the choice, which was made with the same queries.
    calibration_ids_ : ndarray of shape (n_queries,), int64, or None
        The rows that were drawn as calibration queries; None if they were given.
    calibration_queries_ : ndarray of shape (n_queries, n_features), or None
        The calibration queries that were given.
    reconstruction_error_ : float
        Mean squared distance of a fitted row and its reconstruction, over 8192 rows
        at most. Not there if `from_faiss` has taken over codes.
    cluster_centers_ : ndarray of shape (nlist_, n_features_in_)
        Centroids of the lists. For 'cosine' those of the normalised vectors, which have
        one feature more (of zero vectors).
    n_iter_ : int
        Iterations of k-means for the lists that were made.
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
    IVFFlatNeighbors : The same lists with the vectors themselves.
    from_faiss : The same lists and codebooks as an index of Faiss.

    Notes
    -----
    A row takes `m_` bytes of codes (half as many with ``nbits=4``), 4 of a term of its
    distance and 4 of its number, and each list has room for up to 63 rows more. Stored
    vectors come on top, with 4 bytes a feature in float32. `reconstruct` decodes,
    stored or not.

    The distance to a row is computed from one table for each query, not for each list:
    ``|q - c - r|^2 = |q - c|^2 + (|r|^2 + 2 c.r) - 2 q.r`` with the centroid c and the
    decoded residual r, where the bracket is one number for each row. The table is
    rounded down to two bytes. Sums of the upper ones, of 64 rows at once, are lower
    bounds that rule most rows out; those that are left are measured in float64.

    Without stored vectors, `kneighbors` and graphs of the indexed rows themselves
    (``X=None``) search for the neighbours of their reconstructions.

    The method is that of Jegou, Douze and Schmid, "Product quantization for nearest
    neighbor search" (2011).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ann import IVFPQNeighbors
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(12000, 16))
    >>> index = IVFPQNeighbors(nlist=20, m=4, store_vectors=True, random_state=0)
    >>> index.fit(X).codebooks_.shape
    (4, 256, 4)
    >>> _, ids = index.set_params(refine_factor=10).kneighbors(X[:3])
    >>> ids[:, 0]
    array([0, 1, 2])
    """

    _parameter_constraints = {
        **IVFNeighbors._parameter_constraints,
        "target_recall": [Interval(Real, 0, 1, closed="right"), None],
        "m": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "nbits": [Interval(Integral, 4, 8, closed="both")],
        "codebooks": ["array-like", None],
        "refine_factor": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "store_vectors": ["boolean"],
    }

    m_: int
    codebooks_: NDArray[np.float32]
    reconstruction_error_: float

    _derived = IVFNeighbors._derived | {"m_"}

    # Others may be nearer to a row than its own codes: the farthest of them goes.
    _place_of_missing_self = -1

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        nlist: int | Literal["auto"] = "auto",
        nprobe: int | Literal["auto"] = "auto",
        target_recall: float | None = None,
        init: ArrayLike | None = None,
        m: int | Literal["auto"] = "auto",
        nbits: int = 8,
        codebooks: ArrayLike | None = None,
        refine_factor: int | Literal["auto"] = "auto",
        store_vectors: bool = False,
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
        self.m = m
        self.nbits = nbits
        self.codebooks = codebooks
        self.refine_factor = refine_factor
        self.store_vectors = store_vectors
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

    def _build(self, X, backend):
        if self.codebooks is not None:
            # Before k-means: codebooks that do not fit are an error at once.
            self.codebooks_ = validate_codebooks(
                self.codebooks, X.shape[1], self.m, int(self.nbits)
            )
        return super()._build(X, backend)

    def _fill(self, X, backend, centroids):
        coarse = self._index_centroids(centroids, backend)
        labels = self._assign(X, coarse, backend)
        if self.codebooks is None:
            self.codebooks_ = self._train_codebooks(X, labels, centroids, backend)
        empty = empty_pq_index(coarse, self.codebooks_, int(self.nbits), X.dtype)
        index = self._place(empty, X, labels, self.store_vectors, backend)
        self.reconstruction_error_ = self._reconstruction_error(index, X, backend)
        return index

    def _set_index(self, index):
        super()._set_index(index)
        self.m_ = len(self.codebooks_)

    def _dtype_and_shape(self, index):
        return index.X.dtype, (int(index.lists.sizes.sum()), index.X.shape[1])

    def _restore(self, stored):
        return unpack_ivf_pq(stored, vars(self).get("codebooks_"))

    def _train_codebooks(self, X, labels, centroids, backend):
        """Codebooks for the residuals of X."""
        n_codewords = 2 ** int(self.nbits)
        m, dsub = choose_parts(X.shape[1], self.m, self.nbits)
        rng = check_random_state(self.random_state)
        residuals = draw_residuals(X, labels, centroids, m * dsub, n_codewords, rng)
        train = check_memory(self.memory).cache(
            train_codebooks, ignore=["backend", "n_threads", "verbose"]
        )
        return train(
            residuals,
            m,
            min(n_codewords, len(residuals)),
            rng.randint(np.iinfo(np.int32).max),
            backend=backend,
            n_threads=self._n_threads(residuals.size * n_codewords),
            verbose=self.verbose,
        )

    def _add(self, X, backend):
        self._warn_of_outgrown_lists(len(X))
        index = self._index
        labels = self._assign(X, index.centroids, backend)
        # As it was fitted: vectors are stored of all rows or of none.
        return self._place(index, X, labels, self._is_stored, backend)

    def _place(self, index, X, labels, is_stored, backend):
        """The index with the rows of X added to their lists."""
        n_threads = self._n_threads(X.size * CODEWORDS)
        centroids, codebooks_t = index.centroids.X, index.codebooks_t
        codes = backend.encode_pq(
            X, labels, centroids, codebooks_t, index.half_sqnorms, n_threads
        )
        stored = X if is_stored else np.empty((0, X.shape[1]), X.dtype)
        return place_codes(
            index, codes, labels, stored, self._storage, backend, n_threads
        )

    def _reconstruction_error(self, index, X, backend):
        rows = np.arange(0, len(X), -(-len(X) // _ERROR_SAMPLE))
        decoded = DecodedRows(index, backend, np.float64)[rows]
        return float(np.square(X[rows] - decoded, dtype=np.float64).sum(axis=1).mean())

    def _graph_of_fitted(self, X):
        # Others may be nearer to a row than what its own codes stand for.
        return self.transform(X)

    # -- searching -------------------------------------------------------------------

    def _search(self, Q, k, backend):
        return self._search_lists(Q, k, self._nprobe(), backend)

    def _search_lists(self, Q, k, nprobe, backend, n_own=0):
        index, factor = self._index, self._refine_factor()
        n_candidates = min(factor * k + n_own, self.n_samples_fit_)
        k, nprobe = k + n_own, min(nprobe, self.nlist_)
        n_threads = self._n_threads_for(len(Q), nprobe)
        probe_sqdists, probes = self._probe(
            index, Q, nprobe, n_candidates, backend, n_threads
        )
        if factor == 1:
            return backend.scan_ivf_pq(Q, index, probes, probe_sqdists, k, n_threads)
        candidates = backend.candidates_ivf_pq(
            Q, index, probes, probe_sqdists, n_candidates, n_threads
        )
        return backend.refine(Q, index.X, candidates, k, n_threads)

    def _search_radius(self, Q, sqradius, with_sqdists, backend):
        index = self._index
        nprobe = min(self._nprobe(), self.nlist_)
        n_threads = self._n_threads_for(len(Q), nprobe)
        _, probes = self._probe(index, Q, nprobe, 0, backend, n_threads)
        return backend.radius_ivf_pq(
            Q, index, probes, sqradius, with_sqdists, n_threads
        )

    def _n_threads_for(self, nq, nprobe):
        index, share = self._index, nprobe / self.nlist_
        return self._n_threads(
            int(nq * (index.codes.size * share + index.half_sqnorms.size))
        )

    # -- looking at the index --------------------------------------------------------

    def _ids(self):
        return self._index.ids

    def _decode(self, ids):
        return self._decoded_rows()[ids]

    def _decoded_rows(self):
        # Codes are decoded on the CPU, whatever the device of a search.
        return DecodedRows(self._index, get_backend("cpu"), self._index_dtype)
