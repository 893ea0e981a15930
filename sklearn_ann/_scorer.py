"""A score for a grid search that wants speed, and enough recall."""

from __future__ import annotations

import timeit
from dataclasses import dataclass
from typing import Any

from sklearn_ann._typing import Vectors

# The fastest of so many searches is the one that nothing else has disturbed.
_REPEATS = 3


@dataclass(frozen=True)
class SpeedScorer:
    """Score searches by their speed, if they reach a recall.

    Give it to a grid search as `scoring`: it finds the fastest of the candidates that
    reach the recall, or the one with the highest recall if none does.

    Parameters
    ----------
    target_recall : float, default=0.95
        Searches with less recall have a negative score.

    See Also
    --------
    IVFFlatNeighbors.recall_curve : Recall and time for growing `nprobe`, without a new
        fit.

    Notes
    -----
    A time is measured with nothing else running: with ``n_jobs`` of the grid search
    above 1, candidates slow each other down, and their order may change.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn_ann import IVFFlatNeighbors, SpeedScorer
    >>> X = np.random.default_rng(0).normal(size=(3000, 8))
    >>> index = IVFFlatNeighbors(nlist=30, random_state=0)
    >>> grid = {"nprobe": [1, 30]}
    >>> search = GridSearchCV(index, grid, scoring=SpeedScorer(0.9), cv=3).fit(X)
    >>> search.best_params_
    {'nprobe': 30}
    """

    target_recall: float = 0.95

    def __call__(self, estimator: Any, X: Vectors, y: object = None) -> float:
        """Score a fitted estimator, or a pipeline that ends in one.

        Parameters
        ----------
        estimator : estimator with `score`
            Its `score` is the recall. `kneighbors` is timed, or `transform` if it is a
            pipeline.
        X : array-like of shape (n_queries, n_features)
            Queries.
        y : None
            Ignored; here for the scikit-learn API.

        Returns
        -------
        score : float
            Queries per second if the recall reaches the target, else the recall minus
            the target, which is negative.
        """
        recall = float(estimator.score(X))
        if recall < self.target_recall:
            return recall - self.target_recall
        search = getattr(estimator, "kneighbors", None) or estimator.transform
        seconds = min(timeit.repeat(lambda: search(X), number=1, repeat=_REPEATS))
        queries: Any = X  # also of types without a length, for a type checker
        return len(queries) / seconds
