"""What the estimators with inverted lists share: training and probing."""

from __future__ import annotations

from abc import abstractmethod
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_memory

from sklearn_ann._base import NeighborsBase
from sklearn_ann._calibrated import CalibratedMixin
from sklearn_ann._coarse_quantizer import (
    choose_nlist,
    draw_start,
    draw_training_rows,
    train_centroids,
    warn_of_few_rows,
)
from sklearn_ann._interchange import Call
from sklearn_ann._inverted_lists import imbalance, labels_of_rows, rows_by_list
from sklearn_ann._recall import digest, exact_knn
from sklearn_ann._scalar_quantizer import build_flat_index
from sklearn_ann._sklearn import HasMethods, Interval, StrOptions, fit_context
from sklearn_ann._typing import Vectors
from sklearn_ann._validation import validate_init
from sklearn_ann._warnings import warn_caller
from sklearn_ann.exceptions import OutgrownListsWarning

# 'auto' no longer fits the rows when it would choose this many times the lists that
# there are: a search of them takes that many times longer.
_OUTGROWN = 4


class IVFNeighbors(CalibratedMixin, NeighborsBase):
    """Lists of the cells of k-means, some of which are searched.

    A subclass says how a list stores its rows: `_fill`, `_add`, `_search`,
    `_search_radius`, `_ids` and `_decode`.
    """

    _parameter_constraints = {
        **NeighborsBase._parameter_constraints,
        "nlist": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "nprobe": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "target_recall": [Interval(Real, 0, 1, closed="right")],
        "init": ["array-like", None],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "random_state": ["random_state"],
        "memory": [str, HasMethods(["cache"]), None],
    }

    nlist_: int
    cluster_centers_: NDArray[Any]
    n_iter_: int

    _derived = NeighborsBase._derived | {"nlist_", "cluster_centers_"}

    # -- fitting ---------------------------------------------------------------------

    @fit_context
    def fit(
        self,
        X: Vectors,
        y: object = None,
        *,
        calibration_queries: Vectors | None = None,
    ) -> Self:
        """Build the index, and measure the recall of its searches.

        A fit that fails, or is interrupted, leaves the estimator as it was. Searches in
        other threads see the old index until the new one is complete.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Vectors to search. float32 and float64 keep their dtype; float16, integers
            of up to 16 bits and booleans become float32, which holds them exactly,
            other numbers float64. A C-contiguous array of float32 or float64 is kept by
            reference: do not change it while the estimator is in use. An array on a GPU
            is copied to the host, where the index is.
        y : None
            Ignored; here for the scikit-learn API.
        calibration_queries : array-like of shape (n_queries, n_features), default=None
            Queries like the ones to come, which are not indexed: a few hundred to a
            few thousand. To promise a recall of 0.95 takes 19 at least; with fewer,
            `IVFFlatNeighbors` searches all lists. If None, rows of X that are drawn at
            random, 1000 at most; none is its own neighbour. A pipeline does not
            transform them.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._fit_in_one_step(X, calibration_queries=calibration_queries)

    def _fit(self, call, copy=False, calibration_queries=None):
        X = super()._fit(call, copy)
        queries = Call(calibration_queries, self.device).X
        if queries is not None:
            self._take_calibration(queries)
        self._calibrate(X, self.target_recall, int(self.n_neighbors), call.backend)
        return X

    def _build(self, X, backend):
        self._draw_calibration(len(X))
        centroids, self.n_iter_ = self._train(X, backend)
        return self._fill(X, backend, centroids)

    def _train(self, X, backend):
        """Centroids for X, and the number of iterations that k-means made."""
        start = self.init
        if start is not None:
            start = validate_init(start, X, self.effective_metric_)
        nlist = self._choose_nlist(len(X), start)
        if start is not None and self.max_iter == 0:
            return start, 0
        rng = check_random_state(self.random_state)
        rows = draw_training_rows(X, nlist, rng, self.calibration_ids_)
        if self.max_iter > 0:
            warn_of_few_rows(len(X), nlist)
        if start is None:
            seed = rng.randint(np.iinfo(np.int32).max)
            start = draw_start(X, rows, nlist, seed)
        n_threads = self._n_threads(len(rows) * X.shape[1] * nlist)
        if self.memory is not None:
            # A cache sees the rows that are trained on, and nothing of the others.
            X, rows = X[rows], np.arange(len(rows))
        train = check_memory(self.memory).cache(
            train_centroids, ignore=["backend", "n_threads", "verbose"]
        )
        return train(
            X,
            rows,
            start,
            self.max_iter,
            backend=backend,
            n_threads=n_threads,
            verbose=self.verbose,
        )

    def _choose_nlist(self, n, init):
        """The number of lists for n rows; with `init`, the number of its centroids."""
        if self.nlist == "auto":
            return choose_nlist(n) if init is None else len(init)
        if init is not None and len(init) != self.nlist:
            raise ValueError(
                f"init has {len(init)} centroids, but nlist={self.nlist}. Use "
                f"nlist={len(init)}, or nlist='auto'."
            )
        return int(self.nlist)

    @abstractmethod
    def _fill(self, X, backend, centroids):
        """The index of the rows of X in the lists of these centroids."""

    def _index_centroids(self, centroids, backend):
        return build_flat_index(centroids, backend, self._n_threads(centroids.size))

    def _set_index(self, index):
        super()._set_index(index)
        self.cluster_centers_ = index.centroids.X
        self.nlist_ = len(self.cluster_centers_)
        self._smallest_list = int(index.lists.sizes.min())

    def _assign(self, X, centroids, backend):
        """The list of each row."""
        n_threads = self._n_threads(X.size * len(centroids.X))
        rows = np.arange(len(X))
        return backend.assign(X, rows, centroids, n_threads)

    def _warn_of_outgrown_lists(self, n_more):
        """Warn when rows are added that 'auto' would have made many more lists for."""
        n = self.n_samples_fit_
        had, has = (choose_nlist(rows) / self.nlist_ for rows in (n, n + n_more))
        is_auto = self.nlist == "auto" and self.init is None
        if is_auto and had < _OUTGROWN <= has:
            warn_caller(
                f"nlist='auto' chose nlist_={self.nlist_} for the rows of the first "
                f"fit and would choose {choose_nlist(n + n_more)} for the {n + n_more} "
                "rows that there are now. With more lists searches take less time: fit "
                "again with all rows, or set nlist before the first partial_fit.",
                OutgrownListsWarning,
            )

    # -- searching -------------------------------------------------------------------

    def _search_order(self):
        # Queries of a list probe the same lists.
        return rows_by_list(self._index.lists, self._ids())

    def _probe(self, index, Q, nprobe, k, backend, n_threads):
        """The lists nearest to each query: `nprobe`, or as many as hold k rows.

        Returns the squared distances to their centroids, and the lists. Queries that
        need more lists than `nprobe` make the arrays wider; the places that the others
        do not use hold -1.
        """
        sizes = index.lists.sizes
        sqdists, probes = backend.knn(Q, index.centroids, nprobe, n_threads)
        # Known without a look at each query, which takes longer than a small list.
        if nprobe * self._smallest_list >= k:
            return sqdists, probes
        # A query that is not finite has no lists at all.
        short = np.flatnonzero((sizes[probes].sum(axis=1) < k) & (probes[:, 0] >= 0))
        while len(short) and nprobe < self.nlist_:
            # Each round doubles the number of lists, until all queries have enough.
            nprobe = min(2 * nprobe, self.nlist_)
            further, more = backend.knn(Q[short], index.centroids, nprobe, n_threads)
            n_in_nearer_lists = np.cumsum(sizes[more], axis=1) - sizes[more]
            more[n_in_nearer_lists >= k] = -1
            sqdists, probes = (
                _widen(sqdists, nprobe, np.inf),
                _widen(probes, nprobe, -1),
            )
            sqdists[short], probes[short] = further, more
            short = short[np.where(more >= 0, sizes[more], 0).sum(axis=1) < k]
        return sqdists, probes

    def _exact_knn(self, Q, X, k, backend):
        if self.memory is None:
            return super()._exact_knn(Q, X, k, backend)
        # Estimators that differ in the number of lists, or of those to probe, compare
        # with the same answer.
        find = check_memory(self.memory).cache(
            exact_knn, ignore=["Q", "X", "index", "backend", "n_threads"]
        )
        n_threads = self._n_threads(len(Q) * X.size)
        key = digest(Q), digest(X)
        found = find(Q, X, k, self._flat_index(), backend, n_threads, key)
        # A cache may return memory maps.
        return tuple(map(np.array, found))

    # -- looking at the index --------------------------------------------------------

    @abstractmethod
    def _ids(self):
        """The row at each position of the lists; negative where there is none."""

    def _labels(self):
        """The list of each row."""
        return labels_of_rows(self._index.lists, self._ids())

    @property
    def list_sizes_(self) -> NDArray[np.int64]:
        """Rows in each list."""
        return self._index.lists.sizes

    @property
    def imbalance_factor_(self) -> float:
        """How many times longer a search takes than with lists of equal sizes."""
        return imbalance(self.list_sizes_)


def _widen(array, width, value):
    """The same array so wide, with `value` in new places."""
    wide = np.full((len(array), width), value, array.dtype)
    wide[:, : array.shape[1]] = array
    return wide
