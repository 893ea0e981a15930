"""How many lists a search probes: by the recall of queries with known answers."""

from __future__ import annotations

import timeit
from abc import abstractmethod
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from sklearn_ann._blocks import row_blocks
from sklearn_ann._calibration import (
    Truth,
    draw_rows,
    ranks_of,
    recall_interval,
    without_own,
)
from sklearn_ann._checks import (
    are_queries,
    are_rows_of,
    check_n_neighbors,
    check_nprobe,
    check_positive,
    check_target_recall,
)
from sklearn_ann._interchange import Call
from sklearn_ann._recall import (
    RecallMixin,
    are_hits,
    if_vectors_are_kept,
    knn_recall,
)
from sklearn_ann._state import lock_of
from sklearn_ann._typing import Vectors
from sklearn_ann._warnings import warn_caller
from sklearn_ann.exceptions import TargetRecallWarning

# Rows beyond the true neighbours that are looked at: they may be as near as the last.
TIES = 64

# Most neighbours are in so small a part of the lists, which are ranked first.
_FIRST_PART = 8


class CalibratedMixin(RecallMixin):
    """Recall that is measured in `fit`, and the number of lists that gives it.

    The estimator says how it chooses, `_choose`, how some lists are searched,
    `_search_lists`, and which list a row is in, `_labels`.
    """

    # Whether the target of a fit may be None.
    _may_lack_target = False

    nprobe_: int
    recall_: float
    recall_interval_: tuple[float, float]
    calibration_ids_: NDArray[np.int64] | None
    calibration_queries_: NDArray[np.floating] | None

    @if_vectors_are_kept
    def retune(
        self,
        target_recall: float | None = None,
        n_neighbors: int | None = None,
        calibration_queries: Vectors | None = None,
    ) -> Self:
        """Choose `nprobe_` again, without a new fit.

        Use it for another number of neighbours, for other queries, and after
        `partial_fit`, which keeps what `fit` has chosen, if the new rows are many or
        unlike the others. It takes the time of an exact search of the calibration
        queries. `IVFPQNeighbors` has it with ``store_vectors=True`` only.

        Parameters
        ----------
        target_recall : float, default=None
            The recall to reach; the parameter of the estimator if None.
        n_neighbors : int, default=None
            The number of neighbours whose recall counts; the parameter of the
            estimator if None.
        calibration_queries : array-like of shape (n_queries, n_features), default=None
            Queries like the ones to come, which are not indexed. If None, those that
            were given last, or rows that are drawn again from all that there are now.

        Returns
        -------
        self : object
            The estimator with new `nprobe_`, `recall_` and `recall_interval_`, and
            `refine_factor_` of `IVFPQNeighbors`.
        """
        with lock_of(self):
            self._snapshot()
            draft = self._draft()
            if target_recall is None:
                target_recall = draft.target_recall
            if n_neighbors is None:
                n_neighbors = draft.n_neighbors
            if target_recall is None and not draft._may_lack_target:
                raise ValueError("target_recall must be a number above 0, at most 1.")
            target_recall = check_target_recall(target_recall)
            n_neighbors = check_n_neighbors(n_neighbors)
            call = Call(calibration_queries, draft.device)
            if call.X is not None:
                draft._take_calibration(call.X)
            elif draft.calibration_queries_ is None:
                # Also of the rows that were added.
                draft._draw_calibration(draft.n_samples_fit_)
            X = draft._indexed_vectors()
            draft._calibrate(X, target_recall, n_neighbors, call.backend)
            self._take_over(draft)
        return self

    @if_vectors_are_kept
    def recall_curve(
        self, X: Vectors | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """Measure recall and time for growing numbers of lists, without a new fit.

        `IVFPQNeighbors` has it with ``store_vectors=True`` only.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), default=None
            Queries, on the host or on a GPU. If None, those of the calibration: rows
            that `fit` has drawn, each without itself, or the ones it was given.

        Returns
        -------
        nprobe : ndarray of shape (n_points,), int64
            Numbers of lists, ascending: powers of 2, what a search probes now, and
            `nlist_`.
        recall : ndarray of shape (n_points,), float64
            The recall of `n_neighbors` neighbours, as `score` computes it.
        seconds_per_query : ndarray of shape (n_points,), float64
            The time of a search of all queries at once, divided by their number; the
            least of five.

        See Also
        --------
        RecallCurveDisplay : A picture of it.
        """
        fitted = self._snapshot()
        call = Call(X, fitted.device)
        k, vectors = check_n_neighbors(fitted.n_neighbors), fitted._indexed_vectors()
        truth = fitted._truth(vectors, k, call.backend, call.X)
        nlist = fitted.nlist_
        powers = 2 ** np.arange(nlist.bit_length())
        nprobes = np.unique([*powers, min(fitted._nprobe(), nlist), nlist])
        recalls, seconds = np.empty(len(nprobes)), np.empty(len(nprobes))
        for i, nprobe in enumerate(nprobes.tolist()):
            search = partial(fitted._search_truth, truth, nprobe, call.backend)
            recalls[i] = fitted._recall_of(truth, *search(), vectors, call.backend)
            seconds[i] = min(timeit.repeat(search, number=1, repeat=5)) / len(truth.Q)
        return nprobes, recalls, seconds

    def _nprobe(self):
        """The number of lists that a search probes."""
        if isinstance(self.nprobe, str) and self.nprobe == "auto":
            return self.nprobe_
        return check_nprobe(self.nprobe)

    def _given_nprobe(self):
        """`nprobe`, if it is no "auto", as far as there are lists."""
        return min(check_nprobe(self.nprobe), self.nlist_)

    def _check_learned(self, index):
        """Refuse what is not the calibration of an index like this one."""
        super()._check_learned(index)
        _, (n, d) = self._dtype_and_shape(index)
        check_positive("nprobe_", vars(self).get("nprobe_"))
        ids = vars(self).get("calibration_ids_")
        Q = vars(self).get("calibration_queries_")
        if ids is not None and not are_rows_of(n, ids):
            raise ValueError(f"calibration_ids_ must be numbers of {n} rows.")
        if Q is not None and not are_queries(d, Q):
            raise ValueError(f"calibration_queries_ must be {d} features wide.")

    def _facts(self):
        low, high = self.recall_interval_
        # Not checked: what is shown must not fail.
        is_other = str(self.nprobe) not in ("auto", str(self.nprobe_))
        given = f" (nprobe={self.nprobe!r} is set)" if is_other else ""
        recall = f"{self.recall_:.4f} (95 % interval {low:.4f} to {high:.4f})"
        return {
            **super()._facts(),
            "lists": f"{self.nlist_:,}, imbalance {self.imbalance_factor_:.2f}",
            "nprobe_": f"{self.nprobe_:,}{given}",
            "recall_": "not measured" if np.isnan(self.recall_) else recall,
        }

    # -- calibration -----------------------------------------------------------------

    def _take_calibration(self, queries):
        """Calibrate with these queries."""
        self.calibration_ids_ = None
        try:
            self.calibration_queries_ = self._as_queries(queries)
        except ValueError as error:
            raise ValueError(f"calibration_queries cannot be used: {error}") from error

    def _draw_calibration(self, n):
        """Calibrate with some of n rows."""
        # Not with the numbers that draw the rows for k-means.
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        rng = np.random.RandomState(seed)
        self.calibration_ids_ = draw_rows(n, rng)
        self.calibration_queries_ = None

    def _calibrate(self, X, target_recall, n_neighbors, backend):
        """Choose `nprobe_`, and measure the recall that it gives.

        X are the indexed vectors.
        """
        truth = self._truth(X, n_neighbors, backend)
        advice = self._choose(truth, X, target_recall, backend)
        found = self._search_truth(truth, self.nprobe_, backend)
        self.recall_ = self._recall_of(truth, *found, X, backend)
        self.recall_interval_ = recall_interval(self.recall_, len(truth.Q))
        if advice is not None:
            warn_caller(
                f"target_recall={target_recall} is out of reach: the search finds "
                f"{self.recall_:.4f} of the {truth.distances.shape[1]} nearest "
                f"neighbors. {advice}",
                TargetRecallWarning,
            )

    def _truth(self, X, n_neighbors, backend, queries=None):
        """Queries, or those of the calibration, and their true neighbours among X."""
        Q, own_ids = self.calibration_queries_, None
        if queries is not None:
            Q = self._as_queries(queries)
        elif self.calibration_ids_ is not None:
            Q = X[self.calibration_ids_]
            # A single row has no other neighbour.
            own_ids = self.calibration_ids_ if len(X) > 1 else None
        n_own = own_ids is not None
        k = min(n_neighbors, len(X) - n_own)
        found = self._exact_knn(Q, X, min(k + n_own + TIES, len(X)), backend)
        distances, ids = self._others(*found, Q, own_ids, X)
        ids[~are_hits(distances[:, :k], distances)] = -1
        return Truth(Q, own_ids, distances[:, :k], ids)

    def _search_truth(self, truth, nprobe, backend):
        """Search so many lists for the neighbours of queries, and for themselves."""
        k, n_own = truth.distances.shape[1], int(truth.own_ids is not None)
        return self._search_lists(truth.Q, k, nprobe, backend, n_own)

    def _recall_of(self, truth, sqdists, ids, X, backend):
        """The recall of rows that were found for the queries."""
        Q, own_ids, true_distances, _ = truth
        n_threads = self._n_threads(Q.size * ids.shape[1])
        found = backend.refine(Q, X, ids, ids.shape[1], n_threads)
        distances, _ = self._others(*found, Q, own_ids, X)
        return knn_recall(true_distances, distances)

    def _others(self, sqdists, ids, Q, own_ids, X):
        """True distances of the neighbours found, and their ids, without the query."""
        distances, ids = self._from_sqdists(sqdists, ids, Q, X)
        if own_ids is None:
            return distances, ids
        return without_own(distances, ids, own_ids)

    def _nprobes_to_see(self, truth, labels, backend):
        """How many lists each query must probe to see each of its true neighbours."""
        centroids, nlist = self._index.centroids, self.nlist_
        nprobes = np.full(truth.ids.shape, nlist + 1)
        unseen, n_nearest = np.arange(len(truth.Q)), 0
        while len(unseen) and n_nearest < nlist:
            n_nearest = min(nlist, 2 * n_nearest or -(-nlist // _FIRST_PART))
            for start, stop in row_blocks(len(unseen), nlist):
                rows = unseen[start:stop]
                n_threads = self._n_threads(len(rows) * centroids.codes.size)
                _, probes = backend.knn(truth.Q[rows], centroids, n_nearest, n_threads)
                nprobes[rows] = ranks_of(labels[truth.ids[rows]], probes, nlist)
            # Where there is no row, none is seen.
            nprobes[truth.ids < 0] = 0
            unseen = np.flatnonzero((nprobes > nlist).any(axis=1))
        nprobes[truth.ids < 0] = nlist + 1
        return nprobes

    # -- what the estimator adds -----------------------------------------------------

    @abstractmethod
    def _choose(self, truth, X, target_recall, backend):
        """Set `nprobe_`, at most `nlist_`; advice if it misses the target, or None."""

    @abstractmethod
    def _search_lists(self, Q, k, nprobe, backend, n_own=0):
        """As `_search`, of so many lists, for k neighbours and `n_own` more.

        The queries are that many of the rows.
        """

    @abstractmethod
    def _labels(self):
        """The list of each row."""
