"""A score for grid searches: the fastest search with enough recall."""

import pickle

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, SpeedScorer


@pytest.fixture(scope="module")
def X():
    return make_blobs(3000, 8, centers=40, cluster_std=4.0, random_state=0)[0]


class Known(FlatL2Neighbors):
    """An estimator whose recall is given, and whose searches are counted."""

    found, n_searches = 0.9, 0

    def score(self, X, y=None):
        return self.found

    def kneighbors(self, X=None, n_neighbors=None, return_distance=True):
        self.n_searches += 1
        return super().kneighbors(X, n_neighbors, return_distance)


def test_the_score_is_queries_per_second_if_there_is_enough_recall(X, monkeypatch):
    def repeat(search, number, repeat):
        for _ in range(repeat * number):
            search()
        return [4.0, 2.0, 3.0]

    monkeypatch.setattr("timeit.repeat", repeat)
    index = Known().fit(X)
    assert SpeedScorer(0.9)(index, X[:100]) == 100 / 2.0
    assert index.n_searches == 3
    assert SpeedScorer(0.95)(index, X[:100]) == pytest.approx(-0.05)
    assert index.n_searches == 3  # what does not count is not timed


def test_a_grid_search_takes_the_fastest_that_finds_enough(X):
    index = IVFFlatNeighbors(nlist=30, random_state=0)
    grid = {"nprobe": [1, 2, 30]}
    search = GridSearchCV(index, grid, scoring=SpeedScorer(), cv=3).fit(X)
    recalls = GridSearchCV(index, grid, cv=3).fit(X).cv_results_["mean_test_score"]
    scores = search.cv_results_["mean_test_score"]
    # Below the target the score is what is missing.
    is_short = recalls < 0.94
    np.testing.assert_allclose(scores[is_short], recalls[is_short] - 0.95)
    assert (scores[recalls > 0.96] > 1000).all()
    assert search.best_params_["nprobe"] != 1


def test_it_works_in_pipelines_processes_and_halving_searches(X):
    model = make_pipeline(StandardScaler(), IVFFlatNeighbors(nlist=20, random_state=0))
    grid = {"ivfflatneighbors__nprobe": [1, 20]}
    scorer = pickle.loads(pickle.dumps(SpeedScorer(0.9)))
    assert scorer == SpeedScorer(target_recall=0.9)
    search = GridSearchCV(model, grid, scoring=scorer, cv=2, n_jobs=2).fit(X)
    assert search.best_score_ > 1000
    halving = HalvingGridSearchCV(
        IVFFlatNeighbors(random_state=0),
        {"nlist": [5, 10], "nprobe": [1, 10]},
        scoring=SpeedScorer(0.9),
        min_resources=800,
        cv=2,
        random_state=0,
    )
    assert halving.fit(X).best_score_ > 1000
