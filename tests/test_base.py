"""kneighbors and radius_neighbors keep scikit-learn's contract."""

import copy

import numpy as np
import pytest
import reference
import vector_kinds
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import NearestNeighbors

from sklearn_ann import FlatL2Neighbors

METRICS = pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "cosine"])


@pytest.fixture
def X(rng):
    return rng.standard_normal((150, 6))


@pytest.fixture
def Q(rng, X):
    return np.vstack([rng.standard_normal((20, 6)), X[:5]])


def both(X, **parameters):
    """Ours and scikit-learn's, fitted with the same parameters."""
    peer = NearestNeighbors(algorithm="brute", **parameters).fit(X)
    return FlatL2Neighbors(**parameters).fit(X), peer


# -- kneighbors ----------------------------------------------------------------------


@METRICS
@pytest.mark.parametrize("queries", ["given", "rows", None])
@pytest.mark.parametrize("n_neighbors", [None, 1, 30])
def test_kneighbors_equals_scikit_learn(metric, queries, n_neighbors, X, Q):
    queries = {"given": Q, "rows": X, None: None}[queries]
    ours, peer = both(X, metric=metric)
    distances, ids = ours.kneighbors(queries, n_neighbors)
    expected_distances, expected_ids = peer.kneighbors(queries, n_neighbors)
    assert_array_equal(ids, expected_ids, strict=True)
    assert distances.shape == expected_distances.shape
    assert distances.dtype == expected_distances.dtype
    assert_allclose(distances, expected_distances, rtol=1e-7, atol=1e-7)
    assert_array_equal(ours.kneighbors(queries, n_neighbors, False), ids)
    assert_array_equal(
        ours.kneighbors(queries, n_neighbors, return_distance=False), ids
    )


@METRICS
def test_all_rows_are_searched_some_at_a_time(metric, X, monkeypatch):
    X[20:30] = X[0]
    index = FlatL2Neighbors(metric=metric).fit(X)
    expected = index.kneighbors()
    expected_graph = index.fit_transform(X)
    monkeypatch.setattr("sklearn_ann._blocks._BLOCK_BYTES", 8 * 7 * 16)
    for found, wanted in zip(index.kneighbors(), expected, strict=True):
        assert_array_equal(found, wanted, strict=True)
    graph = index.fit_transform(X)
    assert_array_equal(graph.indices, expected_graph.indices)
    assert_array_equal(graph.data, expected_graph.data)


def test_three_equal_points_without_themselves():
    # Not [[1], [0], [0]]: scikit-learn drops the first of a list that lacks the row.
    index = FlatL2Neighbors(1).fit([[2.0], [2.0], [2.0]])
    assert_array_equal(index.kneighbors(return_distance=False), [[1], [0], [1]])


@pytest.mark.parametrize("k", [1, 3, 9])
@pytest.mark.parametrize(
    "kind",
    [vector_kinds.duplicates, vector_kinds.all_equal, vector_kinds.bits],
    ids=vector_kinds.name,
)
def test_a_row_is_left_out_by_its_number_not_by_its_distance(kind, k, rng):
    X, _ = vector_kinds.make(kind, np.float32, rng, 100, 1, 2)
    found = FlatL2Neighbors(k, metric="sqeuclidean").fit(X).kneighbors()
    expected = reference.without_self(*reference.knn(X, X, k + 1))
    assert_array_equal(found[1], expected[1], strict=True)
    assert found[0].shape == expected[0].shape
    assert_allclose(found[0], expected[0], rtol=1e-12)
    assert not (found[1] == np.arange(100)[:, None]).any()


def test_ties_go_to_the_smaller_row_number():
    index = FlatL2Neighbors(2).fit([[1.0], [-1.0], [1.0], [-1.0]])
    assert_array_equal(index.kneighbors([[0.0]], return_distance=False), [[0, 1]])


def test_rows_are_sorted_by_distance(X, Q):
    distances, _ = FlatL2Neighbors(150).fit(X).kneighbors(Q)
    assert (np.diff(distances, axis=1) >= 0).all()


# -- radius_neighbors ----------------------------------------------------------------


@METRICS
@pytest.mark.parametrize("queries", ["given", None])
@pytest.mark.parametrize("sort_results", [False, True])
@pytest.mark.parametrize("is_argument", [False, True])
def test_radius_neighbors_equals_scikit_learn(
    metric, queries, sort_results, is_argument, X, Q
):
    queries = Q if queries else None
    radius = {"euclidean": 1.9, "sqeuclidean": 3.6, "cosine": 0.4}[metric]
    ours, peer = both(X, metric=metric, radius=0.0 if is_argument else radius)
    radius = radius if is_argument else None
    found = ours.radius_neighbors(queries, radius, sort_results=sort_results)
    expected = peer.radius_neighbors(queries, radius, sort_results=sort_results)
    assert sum(map(len, found[1])) > 10
    for distances, ids, expected_distances, expected_ids in zip(
        *found, *expected, strict=True
    ):
        assert_array_equal(ids, expected_ids)
        assert_allclose(distances, expected_distances, rtol=1e-7, atol=1e-7)
    only_ids = ours.radius_neighbors(queries, radius, return_distance=False)
    for ids, expected_ids in zip(only_ids, found[1], strict=True):
        assert_array_equal(ids, np.sort(expected_ids))


def test_radius_neighbors_of_equal_rows_leave_out_only_the_row_itself():
    index = FlatL2Neighbors().fit([[2.0], [2.0], [2.0]])
    ids = index.radius_neighbors(radius=0, return_distance=False)
    assert_array_equal(np.stack(ids), [[1, 2], [0, 2], [0, 1]])


# -- parameters read at search time --------------------------------------------------


def test_search_parameters_act_without_a_new_fit(X, Q):
    index = FlatL2Neighbors(5, radius=1.0).fit(X)
    index.set_params(n_neighbors=9, radius=2.0, n_jobs=2)
    expected = FlatL2Neighbors(9, radius=2.0, n_jobs=2).fit(X)
    assert_array_equal(index.kneighbors(Q)[1], expected.kneighbors(Q)[1])
    assert index.transform(Q).nnz == 10 * len(Q)
    for ids, expected_ids in zip(
        index.radius_neighbors(Q)[1], expected.radius_neighbors(Q)[1], strict=True
    ):
        assert_array_equal(ids, expected_ids)
    assert index.set_params(mode="connectivity").transform(Q).nnz == 9 * len(Q)


def test_the_metric_is_the_one_of_the_fit(X, Q):
    index = FlatL2Neighbors().fit(X)
    expected = index.kneighbors(Q)
    index.set_params(metric="cosine")
    assert index.effective_metric_ == "euclidean"
    for found, wanted in zip(index.kneighbors(Q), expected, strict=True):
        assert_array_equal(found, wanted)
    assert index.fit(X).effective_metric_ == "cosine"


def test_an_argument_wins_over_the_parameter(X, Q):
    index = FlatL2Neighbors(5, radius=1.0).fit(X)
    assert index.kneighbors(Q, 3, False).shape == (25, 3)
    assert sum(map(len, index.radius_neighbors(Q, 0.0)[1])) == 5
    assert index.get_params()["n_neighbors"] == 5
    assert index.get_params()["radius"] == 1.0


def flattened(index):
    for field in index:
        yield from flattened(field) if isinstance(field, tuple) else [field]


def test_a_search_changes_no_attribute(X, Q):
    index = FlatL2Neighbors(radius=1.5, n_jobs=2).fit(X)
    before = dict(vars(index))
    arrays = copy.deepcopy(index._index)
    for queries in (Q, None, Q.astype(np.float32), Q.tolist()):
        index.kneighbors(queries)
        index.kneighbors_graph(queries)
        index.radius_neighbors(queries)
        index.radius_neighbors_graph(queries)
    index.transform(Q)
    index.reconstruct(0)
    index.get_feature_names_out()
    after = dict(vars(index))
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)
    for array, expected in zip(flattened(index._index), flattened(arrays), strict=True):
        assert_array_equal(array, expected)


def test_results_belong_to_the_caller(X, Q):
    index = FlatL2Neighbors(150, radius=9.0).fit(X)
    expected = index.kneighbors(Q)
    for result in (*index.kneighbors(Q), *index.kneighbors(Q, 3)):
        result[:] = 0
    for result in index.radius_neighbors(Q)[0]:
        result[:] = 0
    for found, wanted in zip(index.kneighbors(Q), expected, strict=True):
        assert_array_equal(found, wanted)


# -- attributes ----------------------------------------------------------------------


def test_attributes_of_a_fitted_estimator(X):
    index = FlatL2Neighbors()
    assert not index.is_trained
    assert index.ntotal == 0
    index.fit(X)
    assert index.is_trained
    assert index.ntotal == index.n_samples_fit_ == 150
    assert index.n_features_in_ == 6
    assert index.effective_metric_ == "euclidean"
    assert index.effective_metric_params_ == {}
    assert not hasattr(index, "feature_names_in_")


def test_fitting_again_forgets_the_first_fit(X, Q):
    index = FlatL2Neighbors().fit(X[:, :2]).fit(X)
    for found, wanted in zip(
        index.kneighbors(Q), FlatL2Neighbors().fit(X).kneighbors(Q), strict=True
    ):
        assert_array_equal(found, wanted)


def test_a_clone_has_the_parameters_and_no_fit(X):
    index = FlatL2Neighbors(7, radius=2.0, metric="cosine", n_jobs=1).fit(X)
    cloned = clone(index)
    assert cloned.get_params() == index.get_params()
    with pytest.raises(NotFittedError):
        cloned.kneighbors(X)


def test_only_the_number_of_neighbors_is_positional():
    assert FlatL2Neighbors(7).n_neighbors == 7
    with pytest.raises(TypeError, match="positional"):
        FlatL2Neighbors(7, 1.0)


@pytest.mark.parametrize("is_fitted", [False, True])
def test_html_repr_names_estimator_and_parameters(is_fitted, X):
    index = FlatL2Neighbors(n_neighbors=17)
    html = (index.fit(X) if is_fitted else index)._repr_html_()
    assert "FlatL2Neighbors" in html
    assert "17" in html


def test_text_repr_shows_the_parameters_that_were_changed():
    assert repr(FlatL2Neighbors(metric="cosine")) == "FlatL2Neighbors(metric='cosine')"
