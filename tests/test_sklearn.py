"""scikit-learn's own checks, and its estimators fed with our graphs."""

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.cluster import DBSCAN, SpectralClustering
from sklearn.datasets import make_blobs
from sklearn.manifold import TSNE, Isomap
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import (
    KNeighborsClassifier,
    KNeighborsRegressor,
    LocalOutlierFactor,
)
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors

# scikit-learn runs these on its own estimators only.
OWN_CHECKS = [
    "check_dataframe_column_names_consistency",
    "check_estimators_partial_fit_n_features",
    "check_get_feature_names_out_error",
    "check_global_output_transform_pandas",
    "check_inplace_ensure_writeable",
    "check_param_validation",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
]


EACH_ESTIMATOR = pytest.mark.parametrize(
    "estimator", [FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors]
)


@parametrize_with_checks(
    [
        FlatL2Neighbors(),
        FlatL2Neighbors(metric="sqeuclidean", n_jobs=1),
        FlatL2Neighbors(metric="cosine"),
        FlatL2Neighbors(mode="connectivity"),
        IVFFlatNeighbors(),
        IVFFlatNeighbors(nlist=1, metric="cosine"),
        IVFFlatNeighbors(nlist=2, nprobe=1),
        IVFPQNeighbors(),
        IVFPQNeighbors(nlist=2, nprobe=1, store_vectors=True),
        # Fewer codewords than rows: codes that lose something.
        IVFPQNeighbors(m=1, nbits=4, nlist=2),
    ]
)
@pytest.mark.filterwarnings("ignore::sklearn_ann.exceptions.FewTrainingRowsWarning")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


# The checks of data frames use arrays as well.
@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
@pytest.mark.parametrize(
    "estimator", [FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors]
)
@pytest.mark.filterwarnings("ignore::sklearn_ann.exceptions.FewTrainingRowsWarning")
@pytest.mark.parametrize(
    "check", [name for name in OWN_CHECKS if hasattr(estimator_checks, name)]
)
def test_scikit_learn_checks_of_its_own_estimators(check, estimator):
    getattr(estimator_checks, check)(estimator.__name__, estimator())


@pytest.mark.parametrize(
    "estimator", [FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors]
)
def test_the_data_is_expected_dense_and_finite(estimator):
    tags = estimator().__sklearn_tags__()
    assert not tags.input_tags.sparse
    assert not tags.input_tags.allow_nan
    assert not tags.target_tags.required
    assert not tags.non_deterministic
    assert tags.transformer_tags.preserves_dtype == ["float64"]


# -- estimators fed with our graphs --------------------------------------------------


@pytest.fixture(scope="module")
def blobs():
    """100 samples and labels to fit, 50 to predict."""
    X, y = make_blobs(150, 5, centers=4, cluster_std=3.0, random_state=0)
    return X[:100], y[:100], X[100:]


@pytest.mark.parametrize("model", [KNeighborsClassifier, KNeighborsRegressor])
def test_k_neighbors(model, blobs):
    X, y, X_test = blobs
    chained = make_pipeline(FlatL2Neighbors(7), model(7, metric="precomputed"))
    predicted = chained.fit(X, y).predict(X_test)
    assert_array_equal(predicted, model(7).fit(X, y).predict(X_test))


def test_dbscan(blobs):
    X, _, _ = blobs
    eps = 4.0
    chained = make_pipeline(
        FlatL2Neighbors(60), DBSCAN(eps=eps, min_samples=5, metric="precomputed")
    )
    graph = FlatL2Neighbors(60).fit_transform(X)
    assert (graph.data.reshape(100, 61)[:, -1] > eps).all()
    expected = DBSCAN(eps=eps, min_samples=5).fit_predict(X)
    assert_array_equal(chained.fit_predict(X), expected)
    assert len(np.unique(expected)) > 2


def test_tsne(blobs):
    X, _, _ = blobs
    perplexity = 5
    parameters = {
        "perplexity": perplexity,
        "init": "random",
        "max_iter": 250,
        "random_state": 0,
    }
    chained = make_pipeline(
        FlatL2Neighbors(int(3 * perplexity + 1)),
        TSNE(metric="precomputed", **parameters),
    )
    expected = TSNE(**parameters).fit_transform(X)
    assert_allclose(chained.fit_transform(X), expected, rtol=1e-5)


def test_isomap(blobs):
    X, _, X_test = blobs
    chained = make_pipeline(
        FlatL2Neighbors(20), Isomap(n_neighbors=20, metric="precomputed")
    )
    internal = Isomap(n_neighbors=20)
    assert_allclose(chained.fit_transform(X), internal.fit_transform(X), atol=1e-9)
    assert_allclose(chained.transform(X_test), internal.transform(X_test), atol=1e-9)


def test_spectral_clustering(blobs):
    X, _, _ = blobs
    k = 15
    chained = make_pipeline(
        FlatL2Neighbors(k),
        SpectralClustering(
            4, n_neighbors=k, affinity="precomputed_nearest_neighbors", random_state=0
        ),
    )
    internal = SpectralClustering(
        4, n_neighbors=k, affinity="nearest_neighbors", random_state=0
    )
    assert_array_equal(chained.fit_predict(X), internal.fit_predict(X))


@pytest.mark.parametrize("novelty", [False, True])
def test_local_outlier_factor(novelty, blobs):
    X, _, X_test = blobs
    chained = make_pipeline(
        FlatL2Neighbors(10),
        LocalOutlierFactor(10, metric="precomputed", novelty=novelty),
    ).fit(X)
    internal = LocalOutlierFactor(10, novelty=novelty).fit(X)
    assert_allclose(
        chained[-1].negative_outlier_factor_, internal.negative_outlier_factor_
    )
    if novelty:
        assert_allclose(
            chained.decision_function(X_test), internal.decision_function(X_test)
        )


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_grid_search_over_the_number_of_neighbors(backend, blobs):
    X, y, _ = blobs
    grid = {
        "flatl2neighbors__n_neighbors": [9, 12],
        "kneighborsclassifier__n_neighbors": [1, 5, 9],
    }
    pipeline = make_pipeline(
        FlatL2Neighbors(), KNeighborsClassifier(metric="precomputed")
    )
    with joblib.parallel_config(backend):
        chained = GridSearchCV(pipeline, grid, cv=3, n_jobs=2).fit(X, y)
    internal = GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1, 5, 9]}, cv=3)
    expected = internal.fit(X, y).cv_results_["mean_test_score"]
    assert_allclose(chained.cv_results_["mean_test_score"], np.tile(expected, 2))
    assert chained.best_estimator_[0].n_neighbors == 9


def test_a_pipeline_with_memory_gives_the_same_answers(blobs, tmp_path):
    X, y, X_test = blobs
    pipeline = make_pipeline(
        FlatL2Neighbors(7), KNeighborsClassifier(7, metric="precomputed")
    )
    expected = pipeline.fit(X, y).predict(X_test)
    cached = pipeline.set_params(memory=str(tmp_path))
    for _ in range(2):
        assert_array_equal(cached.fit(X, y).predict(X_test), expected)
