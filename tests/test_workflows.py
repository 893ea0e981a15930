"""scikit-learn's estimators fed with approximate graphs: nearly the exact results."""

import pickle

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.cluster import DBSCAN, SpectralClustering
from sklearn.datasets import make_blobs
from sklearn.manifold import TSNE, Isomap, trustworthiness
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import (
    KNeighborsClassifier,
    KNeighborsRegressor,
    LocalOutlierFactor,
    RadiusNeighborsClassifier,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, knn_recall


def lists(n_neighbors=5, **parameters):
    parameters = {"nlist": 10, "nprobe": 3, "random_state": 0, **parameters}
    return IVFFlatNeighbors(n_neighbors, **parameters)


@pytest.fixture(scope="module")
def blobs():
    """600 samples and labels to fit, 100 to predict."""
    X, y = make_blobs(700, 5, centers=4, cluster_std=3.0, random_state=0)
    return X[:600], y[:600], X[600:]


def test_the_graphs_are_not_the_exact_ones(blobs):
    X, _, _ = blobs
    exact, _ = FlatL2Neighbors(15).fit(X).kneighbors()
    found, _ = lists(15).fit(X).kneighbors()
    assert 0.8 < knn_recall(exact, found) < 1


@pytest.mark.parametrize("model", [KNeighborsClassifier, KNeighborsRegressor])
def test_k_neighbors(model, blobs):
    X, y, X_test = blobs
    chained = make_pipeline(lists(7), model(7, metric="precomputed")).fit(X, y)
    expected = model(7).fit(X, y).predict(X_test)
    assert np.isclose(chained.predict(X_test), expected).mean() > 0.9
    # A search-time parameter: the pipeline is not fitted again.
    chained[0].set_params(nprobe=10)
    assert_array_equal(chained.predict(X_test), expected)


def test_radius_neighbors(blobs):
    X, y, X_test = blobs
    radius = 4.0
    index = lists(radius=radius).fit(X)
    graph = index.radius_neighbors_graph(X, mode="distance", sort_results=True)
    test_graph = index.radius_neighbors_graph(
        X_test, mode="distance", sort_results=True
    )
    parameters = {"radius": radius, "outlier_label": "most_frequent"}
    model = RadiusNeighborsClassifier(metric="precomputed", **parameters)
    peer = RadiusNeighborsClassifier(**parameters).fit(X, y)
    predicted = model.fit(graph, y).predict(test_graph)
    assert (predicted == peer.predict(X_test)).mean() > 0.9


def test_dbscan(blobs):
    X, _, _ = blobs
    parameters = {"eps": 4.0, "min_samples": 5}
    expected = DBSCAN(**parameters).fit_predict(X)
    assert len(np.unique(expected)) > 3
    assert (expected == -1).sum() > 50
    chained = make_pipeline(lists(80), DBSCAN(metric="precomputed", **parameters))
    assert adjusted_rand_score(chained.fit_predict(X), expected) > 0.9


def test_tsne(blobs):
    X, _, _ = blobs
    X, perplexity = X[:400], 10
    # One list holds fewer rows than that: further ones are searched.
    index = lists(int(3 * perplexity + 1), nprobe=1)
    tsne = TSNE(
        perplexity=perplexity,
        metric="precomputed",
        init="random",
        max_iter=250,
        random_state=0,
    )
    assert trustworthiness(X, make_pipeline(index, tsne).fit_transform(X)) > 0.9


def test_isomap(blobs):
    X, _, X_test = blobs
    chained = make_pipeline(
        lists(60, nprobe=4), Isomap(n_neighbors=60, metric="precomputed")
    )
    internal = Isomap(n_neighbors=60)
    for found, expected in (
        (chained.fit_transform(X), internal.fit_transform(X)),
        (chained.transform(X_test), internal.transform(X_test)),
    ):
        for axis in range(2):
            correlation = np.corrcoef(found[:, axis], expected[:, axis])[0, 1]
            assert abs(correlation) > 0.95


def test_spectral_clustering(blobs):
    X, y, _ = blobs
    k = 15
    parameters = {"n_neighbors": k, "random_state": 0}
    chained = make_pipeline(
        lists(k),
        SpectralClustering(4, affinity="precomputed_nearest_neighbors", **parameters),
    )
    internal = SpectralClustering(4, affinity="nearest_neighbors", **parameters)
    expected = adjusted_rand_score(y, internal.fit_predict(X))
    assert adjusted_rand_score(y, chained.fit_predict(X)) > expected - 0.1


@pytest.mark.parametrize("novelty", [False, True])
def test_local_outlier_factor(novelty, blobs):
    X, _, X_test = blobs
    outlier = LocalOutlierFactor(10, metric="precomputed", novelty=novelty)
    chained = make_pipeline(lists(10), outlier).fit(X)
    internal = LocalOutlierFactor(10, novelty=novelty).fit(X)
    found = chained[-1].negative_outlier_factor_
    expected = internal.negative_outlier_factor_
    # The same rows stand out, and most factors are almost the same number.
    assert len(set(found.argsort()[:10]) & set(expected.argsort()[:10])) >= 8
    assert np.isclose(found, expected, rtol=0.02).mean() > 0.9
    assert_allclose(np.median(found), np.median(expected), rtol=0.01)
    if novelty:
        found = chained.decision_function(X_test)
        expected = internal.decision_function(X_test)
        assert np.corrcoef(found, expected)[0, 1] > 0.95


# -- choosing parameters -------------------------------------------------------------


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_grid_search_over_lists_and_probes(backend, blobs):
    X, y, _ = blobs
    pipeline = make_pipeline(
        StandardScaler(), lists(9), KNeighborsClassifier(9, metric="precomputed")
    )
    grid = {
        "ivfflatneighbors__nlist": [1, 10],
        "ivfflatneighbors__nprobe": [1, 10, 50],
    }
    with joblib.parallel_config(backend):
        search = GridSearchCV(pipeline, grid, cv=3, n_jobs=2).fit(X, y)
    exact = make_pipeline(StandardScaler(), KNeighborsClassifier(9))
    expected = cross_val_score(exact, X, y, cv=3).mean()
    results = search.cv_results_
    scores = results["mean_test_score"]
    is_exact = (results["param_ivfflatneighbors__nlist"] == 1) | (
        results["param_ivfflatneighbors__nprobe"] >= 10
    )
    assert is_exact.sum() == 5
    assert_allclose(scores[is_exact.astype(bool)], expected)
    assert_allclose(scores, expected, atol=0.05)
    assert search.best_estimator_[1].nprobe == search.best_params_[grid_key("nprobe")]


def grid_key(name):
    return f"ivfflatneighbors__{name}"


def test_a_pipeline_with_memory_gives_the_same_answers(blobs, tmp_path):
    X, y, X_test = blobs
    pipeline = make_pipeline(lists(7), KNeighborsClassifier(7, metric="precomputed"))
    expected = pipeline.fit(X, y).predict(X_test)
    cached = clone(pipeline).set_params(memory=str(tmp_path))
    for _ in range(2):
        assert_array_equal(cached.fit(X, y).predict(X_test), expected)


# -- persistence ---------------------------------------------------------------------


@pytest.mark.parametrize("mmap_mode", [None, "r"])
def test_a_pipeline_is_saved_and_goes_on(mmap_mode, blobs, tmp_path):
    X, y, X_test = blobs
    pipeline = make_pipeline(
        StandardScaler(), lists(7), KNeighborsClassifier(7, metric="precomputed")
    ).fit(X, y)
    joblib.dump(pipeline, tmp_path / "pipeline.joblib")
    loaded = joblib.load(tmp_path / "pipeline.joblib", mmap_mode=mmap_mode)
    probabilities = pipeline.predict_proba(X_test)
    assert_array_equal(loaded.predict_proba(X_test), probabilities)
    copied = pickle.loads(pickle.dumps(pipeline))
    assert_array_equal(copied.predict_proba(X_test), probabilities)
    for changed in (pipeline, loaded):
        changed.set_params(ivfflatneighbors__nprobe=1)
    graph, expected = loaded[:-1].transform(X_test), pipeline[:-1].transform(X_test)
    assert (graph != expected).nnz == 0
