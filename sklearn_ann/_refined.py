"""How many neighbours by codes are measured again: together with the lists to probe."""

from __future__ import annotations

import numpy as np

from sklearn_ann._blocks import row_blocks
from sklearn_ann._calibrated import TIES, CalibratedMixin
from sklearn_ann._calibration import (
    Candidates,
    is_enough,
    least_queries,
    options_that_reach,
    ranks_of,
    recall_of,
)
from sklearn_ann._checks import check_positive, check_refine_factor
from sklearn_ann._recall import are_hits

# Without a target, what more lists find beyond this does not matter.
_NEAR = 0.01

# What is aimed at without a target where the codes are not the limit.
_DEFAULT_TARGET = 0.95

# True neighbours that a calibration does without: they are in lists so far away that a
# search of those would take most of the time.
_FAR_AWAY = 0.001

# Factors to choose from, and the number of candidates that large ones may make.
_FACTORS = 1, 2, 4, 8, 16, 32, 64
_MOST_CANDIDATES = 1024

# What a candidate costs in bytes of codes that a search reads in the same time, on top
# of its vector, and a byte of the vector: with AVX-512, a byte of codes takes 0.04 ns,
# a candidate 130 ns and a byte of its vector 0.15 ns.
_CANDIDATE_COST, _VECTOR_COST = 3300, 3.8


class RefinedMixin(CalibratedMixin):
    """Vectors beside their codes, and the choice of how many are measured.

    `nprobe_` and `refine_factor_` are chosen together, at the least cost.
    """

    _may_lack_target = True

    refine_factor_: int

    # -- stored vectors --------------------------------------------------------------

    @property
    def _is_stored(self):
        return len(self._index.X) > 0

    def _indexed_vectors(self):
        return self._index.X if self._is_stored else self._decoded_rows()

    def _measured_vectors(self, within_radius=False):
        is_refined = not within_radius and self._refine_factor() > 1
        return self._index.X if is_refined else None

    def _keeps_vectors(self):
        return self._is_stored if self.is_trained else self.store_vectors

    def _flat_index(self):
        return None

    def _check_learned(self, index):
        super()._check_learned(index)
        check_positive("refine_factor_", vars(self).get("refine_factor_"))
        if self.refine_factor_ > 1 and len(index.X) == 0:
            raise ValueError("refine_factor_ must be 1 without vectors.")

    def _facts(self):
        facts = super()._facts()
        recall = facts.pop("recall_")
        return {**facts, "refine_factor_": f"{self.refine_factor_}", "recall_": recall}

    # -- the choice ------------------------------------------------------------------

    def _refine_factor(self):
        """Candidates for each neighbour."""
        if isinstance(self.refine_factor, str) and self.refine_factor == "auto":
            return self.refine_factor_
        return check_refine_factor(self.refine_factor, self._is_stored)

    def _choose(self, truth, X, target_recall, backend):
        """Set `nprobe_` and `refine_factor_`; advice if they miss a target, or None."""
        n_queries, k = truth.distances.shape
        target, factors = target_recall, self._factors(k)
        if self.nprobe != "auto" and len(factors) == 1:
            self.nprobe_ = self._given_nprobe()
            self.refine_factor_ = factors[0]
            return None
        if target is None and len(factors) > 1:
            target = _DEFAULT_TARGET
        labels = self._labels()
        most = self._most_to_probe(truth, labels, target, backend)
        lowest = 1 if self.nprobe == "auto" else most
        # Some more than a search measures: one of fewer lists has others among them.
        n = max(2, factors[-1]) * k
        candidates = self._candidates(truth, X, labels, most, n, backend)
        best = recall_of(candidates, most, factors[-1] * k, k)
        is_within_reach = target is not None and is_enough(best, n_queries, target)

        def is_good(recall):
            if is_within_reach:
                return is_enough(recall, n_queries, target)
            if target_recall is not None:
                return recall >= best
            # All lists would find no more than the best, and what is far away.
            return recall >= best + _FAR_AWAY - _NEAR

        options = options_that_reach(is_good, candidates, factors, k, lowest, most)
        costs = [self._cost(*option, k) for option in options]
        self.nprobe_, self.refine_factor_ = options[np.argmin(costs)]
        if target_recall is None or is_within_reach:
            return None
        n_more = _possible_factors(k)[-1] * k
        if n_more > n:
            candidates = self._candidates(truth, X, labels, most, n_more, backend)
        return self._advice(target_recall, best, candidates, k, most)

    def _most_to_probe(self, truth, labels, target, backend):
        """Lists to probe at most: all true neighbours that matter are in them."""
        if self.nprobe != "auto":
            return self._given_nprobe()
        k = truth.distances.shape[1]
        nprobes = self._nprobes_to_see(truth, labels, backend)
        # Of rows that are equally near, the k that are seen first.
        nprobes = np.sort(np.sort(nprobes, axis=1)[:, :k], axis=None)
        far_away = _FAR_AWAY if target is None else min(_FAR_AWAY, (1 - target) / 10)
        return int(nprobes[int((1 - far_away) * (len(nprobes) - 1))])

    def _factors(self, k):
        """Factors to choose from, ascending."""
        if self.refine_factor != "auto":
            return (check_refine_factor(self.refine_factor, self._is_stored),)
        return _possible_factors(k) if self._is_stored else (1,)

    def _candidates(self, truth, X, labels, nprobe, n, backend):
        """The nearest n rows by codes in so many lists, without the query itself."""
        n = min(n + (truth.own_ids is not None), len(X))
        parts = [
            self._some_candidates(
                truth._replace(
                    Q=truth.Q[start:stop],
                    own_ids=None
                    if truth.own_ids is None
                    else truth.own_ids[start:stop],
                    distances=truth.distances[start:stop],
                ),
                (X, labels, nprobe, n, backend),
            )
            for start, stop in row_blocks(len(truth.Q), n + self.nlist_)
        ]
        return Candidates(*map(np.concatenate, zip(*parts, strict=True)))

    def _some_candidates(self, truth, given):
        Q, own_ids, true_distances, _ = truth
        X, labels, nprobe, n, backend = given
        n_own, k = int(own_ids is not None), true_distances.shape[1]
        index, n_threads = self._index, self._n_threads_for(len(Q), nprobe)
        sqdists, probes = self._probe(index, Q, nprobe, n, backend, n_threads)
        _, ids = backend.scan_ivf_pq(Q, index, probes, sqdists, n, n_threads)
        nprobes = ranks_of(labels[ids], probes, self.nlist_).astype(np.int32)
        n_threads = self._n_threads(Q.shape[1] * ids.size)
        n_nearest = min(k + n_own + TIES, n)
        nearest = backend.refine(Q, X, ids, n_nearest, n_threads)
        distances, nearest_ids = self._others(*nearest, Q, own_ids, X)
        nearest_ids[~are_hits(true_distances, distances)] = -1
        if own_ids is not None:
            # No number of lists is enough to see it.
            nprobes[ids == own_ids[:, None]] = self.nlist_ + 1
        return nprobes, _are_among(ids, nearest_ids, len(X))

    def _cost(self, nprobe, factor, k):
        """What a search costs, in bytes of codes."""
        index = self._index
        n_bytes = index.codes.size * nprobe / self.nlist_
        if factor == 1:
            return n_bytes
        d, itemsize = index.X.shape[1], index.X.itemsize
        return n_bytes + factor * k * (_CANDIDATE_COST + _VECTOR_COST * d * itemsize)

    def _advice(self, target, best, candidates, k, nprobe):
        """What would reach a target."""
        n, factors = len(candidates.nprobes), _possible_factors(k)
        least = least_queries(target)
        if least is None:
            return (
                "Nothing promises that codes find all: search with IVFFlatNeighbors "
                "and nprobe=nlist_, or with FlatL2Neighbors."
            )
        if n < least:
            return f"To promise it takes {least} calibration queries or more; got {n}."
        options = options_that_reach(
            lambda recall: is_enough(recall, n, target),
            candidates,
            factors,
            k,
            nprobe,
            nprobe,
        )
        if options:
            factor = options[-1][1]
            vectors = "" if self._is_stored else "store_vectors=True and "
            return f"{vectors}refine_factor={factor} or 'auto' reach it."
        if self.nprobe != "auto":
            return f"nprobe='auto' looks into more lists than {nprobe}."
        if best >= target:
            return f"It takes more than {n} calibration queries to promise it."
        if self.m_ < self.n_features_in_:
            return f"Codes with more parts than m={self.m_} find more."
        return "IVFFlatNeighbors finds more."


def _possible_factors(k):
    """Those that make few candidates, and small ones for any number of neighbours."""
    return tuple(f for f in _FACTORS if f <= 4 or f * k <= _MOST_CANDIDATES)


def _are_among(ids, others, n):
    """Whether each of ids, below n, is among the others in the same row."""
    first = n * np.arange(len(ids))[:, None]
    keys = np.where(others >= 0, others + first, -1)
    return np.isin(ids + first, keys)
