"""Recall: counted as plain NumPy counts it, ties included."""

import numpy as np
import pytest
import reference
from sklearn.base import clone
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors, knn_recall

# More lists than such few rows should have.
pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn_ann.exceptions.FewTrainingRowsWarning"
)

LISTS = {"nlist": 12, "nprobe": 2, "random_state": 0}
CODES = {**LISTS, "m": 2, "nbits": 4, "store_vectors": True}
ESTIMATORS = [
    FlatL2Neighbors(5),
    IVFFlatNeighbors(5, **LISTS),
    IVFPQNeighbors(5, **CODES, refine_factor=1),
    IVFPQNeighbors(5, **CODES, refine_factor=3),
]


def recall_of(ids, Q, X, k):
    """The slow oracle: the share of rows that are as near as the k-th nearest."""
    hits = []
    for q, found in zip(Q, ids, strict=True):
        distances = np.sqrt(reference.sqdists(q, X))
        farthest = np.sort(distances)[k - 1]
        hits.append(np.sum(distances[found] <= farthest * (1 + 1e-6)))
    return sum(hits) / ids.size


@pytest.mark.parametrize(
    ("true", "found", "expected"),
    [
        ([[1, 2], [1, 2]], [[1, 2], [1, 2]], 1.0),
        ([[1, 2], [1, 2]], [[1, 3], [3, 4]], 0.25),
        # Another row at the distance of the second one is as good.
        ([[1, 2, 2]], [[2, 2, 2]], 1.0),
        # Nothing needs to be sorted.
        ([[2, 1]], [[2, 1]], 1.0),
        ([[1, 2]], [[2 * (1 + 0.9e-6), 2 * (1 + 1.1e-6)]], 0.5),
        # Fewer or more rows than neighbours.
        ([[1, 2, 3, 4]], [[1]], 0.25),
        ([[1, 2]], [[1, 2, 2, 2]], 1.0),
        ([[1, 2]], [[1, np.nan]], 0.5),
        ([[1, 2]], [[1, np.inf]], 0.5),
        # Distances that overflow are equal.
        ([[1, np.inf]], [[np.inf, np.inf]], 1.0),
        ([[0, 0]], [[0, 1e-300]], 0.5),
    ],
)
def test_knn_recall(true, found, expected):
    result = knn_recall(true, found)
    assert result == expected
    assert type(result) is float


@pytest.mark.parametrize(
    ("true", "found", "message"),
    [
        ([[1.0]], [[1.0], [2.0]], "true_distances has 1 queries, distances has 2"),
        ([1.0], [[1.0]], r"true_distances must have .* Got the shape \(1,\)"),
        ([[1.0]], [[]], r"distances must have .* Got the shape \(1, 0\)"),
        ([[np.nan]], [[1.0]], "true_distances contains NaN"),
        ([[1.0]], [[-1.0]], "distances contains negative"),
        ([[-1.0]], [[1.0]], "true_distances contains negative"),
        ([["far"]], [[1.0]], "could not convert"),
    ],
)
def test_knn_recall_refuses(true, found, message):
    with pytest.raises(ValueError, match=message):
        knn_recall(true, found)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("kind", ["normal", "ties", "float32"])
def test_score_is_the_recall_that_numpy_counts(estimator, kind, rng):
    X, Q = rng.normal(size=(400, 6)), rng.normal(size=(50, 6))
    if kind == "ties":
        # Distances of few values, and each row at least twice.
        X, Q = np.round(np.repeat(X[:200], 2, axis=0)), np.round(Q)
    if kind == "float32":
        X, Q = X.astype(np.float32), Q.astype(np.float32)
    index = clone(estimator).fit(X)
    score = index.score(Q)
    ids = index.kneighbors(Q, return_distance=False)
    assert score == recall_of(ids, Q, X, 5)
    assert type(score) is float
    is_exact = isinstance(estimator, FlatL2Neighbors)
    assert score == 1 if is_exact else 0 < score < 1


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("metric", ["sqeuclidean", "cosine"])
def test_score_knows_the_metric(estimator, metric, rng):
    X, Q = rng.normal(size=(300, 6)), rng.normal(size=(40, 6))
    X[::50] = 0
    Q[0] = 0
    index = clone(estimator).set_params(metric=metric).fit(X)
    exact = FlatL2Neighbors(5, metric=metric).fit(X).kneighbors(Q)[0]
    ids = index.kneighbors(Q, return_distance=False)
    # The distances of all rows, in their order.
    flat = FlatL2Neighbors(len(X), metric=metric).fit(X)
    distances, order = flat.kneighbors(Q)
    in_order = np.take_along_axis(distances, order.argsort(axis=1), axis=1)
    found = np.take_along_axis(in_order, ids, axis=1)
    assert index.score(Q) == knn_recall(exact, found)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_more_neighbors_than_lists_hold(estimator, rng):
    X, Q = rng.normal(size=(90, 3)), rng.normal(size=(20, 3))
    index = clone(estimator).fit(X).set_params(n_neighbors=60)
    ids = index.kneighbors(Q, return_distance=False)
    assert index.score(Q) == recall_of(ids, Q, X, 60)
    assert index.set_params(n_neighbors=90).score(Q) == 1


def test_score_grows_with_nprobe_up_to_one(rng):
    X, Q = rng.normal(size=(500, 8)), rng.normal(size=(60, 8))
    index = IVFFlatNeighbors(10, **LISTS).fit(X)
    scores = [index.set_params(nprobe=n).score(Q) for n in range(1, 13)]
    assert scores == sorted(scores)
    assert scores[0] < 0.7
    assert scores[-1] == 1


def test_score_does_not_depend_on_threads(rng, split_work):
    X, Q = rng.normal(size=(500, 8)), rng.normal(size=(60, 8))
    for estimator in ESTIMATORS:
        index = clone(estimator).fit(X)
        scores = {index.set_params(n_jobs=n).score(Q) for n in (1, 2)}
        assert len(scores) == 1


def test_codes_without_vectors_cannot_be_judged(rng):
    X = rng.normal(size=(100, 4))
    codes = {**CODES, "store_vectors": False}
    for index in (IVFPQNeighbors(**codes), IVFPQNeighbors(**codes).fit(X)):
        assert not hasattr(index, "score")
        with pytest.raises(AttributeError) as info:
            index.score(X)
        assert "store_vectors=True" in str(info.value.__cause__)
    # What counts after a fit is what was stored.
    index.set_params(store_vectors=True)
    assert not hasattr(index, "score")
    assert hasattr(index.fit(X), "score")
    assert hasattr(index.set_params(store_vectors=False), "score")


@pytest.mark.parametrize(
    ("X", "parameters", "message"),
    [
        (np.ones((2, 3)), {}, "X has 3 features"),
        (np.full((2, 4), np.nan), {}, "NaN"),
        (None, {}, "Expected 2D array|array"),
        (np.ones(4), {}, "Expected 2D array"),
        (np.ones((2, 4)), {"n_neighbors": 101}, "n_samples_fit = 100"),
        (np.ones((2, 4)), {"n_neighbors": 0}, "Expected n_neighbors > 0"),
        (np.ones((2, 4)), {"metric": "manhattan"}, "metric must be one of"),
    ],
)
@pytest.mark.parametrize("estimator", ESTIMATORS[:3])
def test_score_refuses_what_kneighbors_refuses(estimator, X, parameters, message, rng):
    index = clone(estimator).fit(rng.normal(size=(100, 4))).set_params(**parameters)
    with pytest.raises(ValueError, match=message):
        index.score(X)


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("make", [GridSearchCV, HalvingGridSearchCV])
def test_a_grid_without_labels_maximises_recall(make, n_jobs, rng):
    X = rng.normal(size=(600, 6))
    X[:, 0] *= 100
    grid = {"ivfflatneighbors__nprobe": [1, 6], "ivfflatneighbors__nlist": [6, 20]}
    lists = IVFFlatNeighbors(3, random_state=0, max_iter=2)
    search = make(make_pipeline(StandardScaler(), lists), grid, cv=2, n_jobs=n_jobs)
    search.fit(X)
    assert search.best_score_ == 1
    best = {name.rpartition("__")[2]: n for name, n in search.best_params_.items()}
    assert best == {"nprobe": 6, "nlist": 6}
    # In each fold: the recall of the rows left out, among the others.
    assert search.cv_results_["mean_test_score"].min() < 0.9
