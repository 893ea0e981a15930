"""IVFFlatNeighbors against the oracle: exact in the lists that are probed."""

import copy

import numpy as np
import pandas as pd
import pytest
import reference
import vector_kinds
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, knn_recall
from sklearn_ann._backend import get_backend

KINDS = pytest.mark.parametrize(
    ("kind", "dtype"), vector_kinds.KINDS, ids=vector_kinds.name
)
NLIST = 12


def fit_lists(X, centroids, **parameters):
    parameters = {"metric": "sqeuclidean", **parameters}
    return IVFFlatNeighbors(init=centroids, max_iter=0, **parameters).fit(X)


def lists_of_some_rows(X, rng, **parameters):
    """Centroids are rows of X, some of them equal: integers stay integers."""
    chosen = rng.choice(len(X), NLIST)
    chosen[NLIST // 2] = chosen[0]
    return fit_lists(X, X[chosen], **parameters)


def assert_same(found, expected):
    for one_found, wanted in zip(found, expected, strict=True):
        if wanted.dtype == object:
            assert_same(one_found, wanted)
        else:
            assert_array_equal(one_found, wanted, strict=True)


@pytest.fixture(params=["query by query", "list by list"])
def scan(request, monkeypatch):
    """The two ways to go through the lists."""
    shared = 0.0 if request.param == "list by list" else np.inf
    monkeypatch.setattr("sklearn_ann._cpu._ivf_flat._SHARED", shared)


# -- neighbours ----------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("nprobe", [1, 3, NLIST - 1, NLIST, 10**9])
def test_neighbors_are_those_of_the_oracle(kind, dtype, nprobe, scan, rng):
    X, Q = vector_kinds.make(kind, dtype, rng, 700, 30, 7)
    index = lists_of_some_rows(X, rng, nprobe=nprobe)
    found = index.kneighbors(Q, 10)
    expected = reference.ivf_knn(Q, X, index.cluster_centers_, nprobe, 10)
    reference.assert_same_neighbors(found, expected, Q, X)


# (rows, features, neighbours, queries): around the sizes of a panel, a step, a vector
# and a tile.
@pytest.mark.parametrize(
    "size",
    [
        (1, 1, 1, 1),
        (64, 4, 64, 4),
        (65, 7, 1, 5),
        (129, 16, 100, 50),
        (500, 65, 10, 3),
        (3000, 2, 1, 200),
        (2000, 8, 300, 9),
        (200, 768, 10, 6),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [vector_kinds.normal, vector_kinds.bits])
@pytest.mark.parametrize("nprobe", [1, 4])
def test_neighbors_of_every_size_are_those_of_the_oracle(size, kind, nprobe, scan, rng):
    n, d, k, nq = size
    X, Q = vector_kinds.make(kind, np.float32, rng, n, nq, d)
    centroids = X[rng.choice(n, min(n, 30), replace=False)]
    found = fit_lists(X, centroids, nprobe=nprobe).kneighbors(Q, k)
    expected = reference.ivf_knn(Q, X, centroids, nprobe, k)
    reference.assert_same_neighbors(found, expected, Q, X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("nlist", [1, 7, 30])
@pytest.mark.parametrize("nprobe", [1, 2, 6])
def test_neighbors_in_trained_lists_are_those_of_the_oracle(dtype, nlist, nprobe, rng):
    X, Q = vector_kinds.make(vector_kinds.normal, dtype, rng, 1200, 40, 6)
    index = IVFFlatNeighbors(
        nlist=nlist, nprobe=nprobe, metric="sqeuclidean", random_state=0
    ).fit(X)
    centroids = index.cluster_centers_
    assert centroids.shape == (nlist, 6)
    assert centroids.dtype == dtype
    found = index.kneighbors(Q, 10)
    expected = reference.ivf_knn(Q, X, centroids, nprobe, 10)
    reference.assert_same_neighbors(found, expected, Q, X)


@KINDS
@pytest.mark.parametrize("nprobe", [NLIST, NLIST + 1])
@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean"])
def test_all_lists_are_the_flat_index_to_the_last_bit(kind, dtype, nprobe, metric, rng):
    X, Q = vector_kinds.make(kind, dtype, rng, 400, 30, 9)
    index = lists_of_some_rows(X, rng, nprobe=nprobe, metric=metric)
    flat = FlatL2Neighbors(metric=metric).fit(X)
    for queries in (Q, None):
        assert_same(index.kneighbors(queries, 9), flat.kneighbors(queries, 9))


@KINDS
def test_all_lists_but_an_empty_one_are_the_flat_index_too(kind, dtype, scan, rng):
    # Unlike all lists, these are searched one by one.
    X, Q = vector_kinds.make(kind, dtype, rng, 400, 30, 9)
    index = lists_of_some_rows(X, rng, nprobe=NLIST)
    empty = 4 * np.abs(np.vstack([X, Q])).max(axis=0, keepdims=True).astype(dtype)
    centroids = np.vstack([index.cluster_centers_, empty])
    index = fit_lists(X, centroids, nprobe=NLIST)
    assume_empty = index.list_sizes_[-1] == 0
    assert assume_empty or kind is vector_kinds.vanishing_squares
    flat = FlatL2Neighbors(metric="sqeuclidean").fit(X)
    assert_same(index.kneighbors(Q, 9), flat.kneighbors(Q, 9))


@KINDS
def test_answers_do_not_depend_on_batch_threads_or_way(
    kind, dtype, rng, split_work, monkeypatch
):
    X, Q = vector_kinds.make(kind, dtype, rng, 1000, 60, 8)
    index = lists_of_some_rows(X, rng, n_neighbors=7, nprobe=3, n_jobs=1)
    expected = index.kneighbors(Q)
    for shared in (0.0, 1.0, np.inf):
        monkeypatch.setattr("sklearn_ann._cpu._ivf_flat._SHARED", shared)
        for n_jobs in (1, 3):
            index.set_params(n_jobs=n_jobs)
            for batch in (1, 3, 4, 30, 60):
                found = [
                    index.kneighbors(Q[i : i + batch]) for i in range(0, 60, batch)
                ]
                assert_same(map(np.vstack, zip(*found, strict=True)), expected)


def test_queries_read_a_list_together_where_many_probe_it(rng, monkeypatch):
    X = rng.standard_normal((500, 4))
    index = lists_of_some_rows(X, rng, nprobe=2, n_jobs=1)
    together = []
    monkeypatch.setattr(
        "sklearn_ann._cpu._ivf_flat.search_lists",
        lambda start, stop, n_together, *args: together.append(n_together),
    )
    for n_queries in (1, 500):
        index._search(X[:n_queries], 5, get_backend(None))
    assert together == [1, 500]


@pytest.mark.parametrize(
    ("X_dtype", "Q_dtype"), [(np.float32, np.float64), (np.float64, np.float32)]
)
def test_queries_of_the_other_dtype_are_not_rounded(X_dtype, Q_dtype, scan, rng):
    X = rng.standard_normal((500, 20)).astype(X_dtype)
    Q = rng.standard_normal((40, 20)).astype(Q_dtype)
    index = lists_of_some_rows(X, rng, nprobe=3)
    found = index.kneighbors(Q, 5)
    expected = reference.ivf_knn(Q, X, index.cluster_centers_, 3, 5)
    reference.assert_same_neighbors(found, expected, Q, X)


@pytest.mark.parametrize("nprobe", [1, 2])
def test_cosine_neighbors_are_those_of_unit_vectors(nprobe, rng):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float64, rng, 400, 30, 6)
    X[5] = Q[3] = 0
    index = IVFFlatNeighbors(nlist=7, nprobe=nprobe, metric="cosine", random_state=0)
    distances, ids = index.fit(X).kneighbors(Q, 10)
    assert index.cluster_centers_.shape == (7, 7)
    units, unit_queries = (
        np.hstack([reference.unit_vectors(rows), ~rows.any(axis=1, keepdims=True)])
        for rows in (X, Q)
    )
    centroids = index.cluster_centers_
    sqdists, expected = reference.ivf_knn(unit_queries, units, centroids, nprobe, 10)
    # Rounding apart, the query of zeros is at the same distance from all others.
    order = np.lexsort((expected, sqdists.round(12)))
    assert_array_equal(ids, np.take_along_axis(expected, order, axis=1))
    assert_allclose(distances, sqdists / 2, rtol=1e-9, atol=1e-15)


def test_sqeuclidean_is_euclidean_squared(rng):
    X = rng.standard_normal((300, 9))
    index = lists_of_some_rows(X, rng, nprobe=2)
    euclidean = fit_lists(X, index.cluster_centers_, nprobe=2, metric="euclidean")
    sqdists, ids = index.kneighbors(X[:20])
    assert_same(euclidean.kneighbors(X[:20]), (np.sqrt(sqdists), ids))


@pytest.mark.parametrize("k", [1, 9])
@pytest.mark.parametrize(
    "kind",
    [vector_kinds.normal, vector_kinds.duplicates, vector_kinds.all_equal],
    ids=vector_kinds.name,
)
def test_a_row_is_not_its_own_neighbor(kind, k, rng):
    X, _ = vector_kinds.make(kind, np.float32, rng, 200, 1, 2)
    index = lists_of_some_rows(X, rng, nprobe=2)
    found = index.kneighbors(None, k)
    found_with_self = reference.ivf_knn(X, X, index.cluster_centers_, 2, k + 1)
    expected = reference.without_self(*found_with_self)
    assert_array_equal(found[1], expected[1], strict=True)
    assert_allclose(found[0], expected[0], rtol=1e-12)
    assert not (found[1] == np.arange(200)[:, None]).any()
    graph = index.set_params(n_neighbors=k).kneighbors_graph(mode="distance")
    assert_array_equal(graph.indices.reshape(200, k), found[1])


# -- lists that hold too few rows ----------------------------------------------------


@pytest.mark.parametrize("nprobe", [1, 2, 5])
@pytest.mark.parametrize("k", [3, 40, 299, 300])
def test_further_lists_are_searched_until_there_are_enough_rows(nprobe, k, scan, rng):
    # Lists from one row to many.
    X = rng.standard_normal((300, 3)) ** 5
    Q = rng.standard_normal((50, 3)) ** 5
    centroids = X[rng.choice(300, 60, replace=False)]
    index = fit_lists(X, centroids, nprobe=nprobe)
    assert index.list_sizes_.min() < 3 < index.list_sizes_.max()
    found = index.kneighbors(Q, k)
    assert all(len(set(row)) == k for row in found[1])
    assert found[1].min() >= 0
    expected = reference.ivf_knn(Q, X, centroids, nprobe, k)
    reference.assert_same_neighbors(found, expected, Q, X)


def test_empty_lists_do_not_count(scan):
    X = np.array([[0.0], [0.1], [50.0], [60.0]])
    centroids = np.array([[1000.0], [50.0], [20.0], [25.0], [0.0]])
    index = fit_lists(X, centroids, nprobe=2, metric="euclidean")
    assert_array_equal(index.list_sizes_, [0, 2, 0, 0, 2])
    distances, ids = index.kneighbors([[21.0]], 3)
    assert_array_equal(ids, [[1, 0, 2]])
    assert_allclose(distances, [[20.9, 21.0, 29.0]])
    assert_array_equal(index.kneighbors([[999.0]], 4)[1], [[3, 2, 1, 0]])


def test_one_query_that_needs_more_lists_changes_nothing_for_the_others(scan, rng):
    X = np.vstack([rng.standard_normal((200, 2)), [[90.0, 90.0]]])
    index = fit_lists(X, X[[0, 50, 100, 200]], nprobe=1)
    Q = np.vstack([X[:20], [[91.0, 91.0]], X[20:40]])
    together = index.kneighbors(Q, 5)
    alone = [index.kneighbors(q[None], 5) for q in Q]
    assert_same(map(np.vstack, zip(*alone, strict=True)), together)
    assert together[1][20, 0] == 200


# -- nprobe --------------------------------------------------------------------------


def test_more_lists_never_find_less(rng):
    X, Q = rng.standard_normal((3000, 12)), rng.standard_normal((100, 12))
    index = IVFFlatNeighbors(10, nlist=50, random_state=0).fit(X)
    exact, _ = FlatL2Neighbors(10).fit(X).kneighbors(Q)
    before, recalls = np.inf, []
    for nprobe in range(1, 51):
        distances, _ = index.set_params(nprobe=nprobe).kneighbors(Q)
        assert (distances <= before).all()
        recalls.append(knn_recall(exact, distances))
        before = distances
    assert recalls == sorted(recalls)
    assert 0.1 < recalls[0] < 0.8 < recalls[20]
    assert recalls[-1] == 1


@pytest.mark.parametrize("nprobe", [1, 3, 30, np.int32(2)])
def test_nprobe_acts_without_a_new_fit(nprobe, rng):
    X, Q = rng.standard_normal((1200, 8)), rng.standard_normal((30, 8))
    index = IVFFlatNeighbors(nlist=30, nprobe=7, random_state=0).fit(X)
    before = index.kneighbors(Q)
    index.set_params(nprobe=nprobe)
    expected = IVFFlatNeighbors(nlist=30, nprobe=nprobe, random_state=0).fit(X)
    assert_same(index.kneighbors(Q), expected.kneighbors(Q))
    assert_same(index.radius_neighbors(Q, 3.0), expected.radius_neighbors(Q, 3.0))
    assert (index.transform(Q) != expected.transform(Q)).nnz == 0
    assert not np.array_equal(index.kneighbors(Q)[0], before[0])


@pytest.mark.parametrize(
    ("nprobe", "error", "message"),
    [
        (0, ValueError, "Expected nprobe >= 1. Got 0"),
        (-1, ValueError, "Expected nprobe >= 1. Got -1"),
        (2.5, TypeError, "nprobe must be an integer or 'auto', got 2.5"),
        ("many", TypeError, "nprobe must be an integer or 'auto', got 'many'"),
        (None, TypeError, "nprobe must be an integer"),
    ],
)
def test_bad_nprobe(nprobe, error, message, rng):
    X = rng.standard_normal((100, 4))
    index = lists_of_some_rows(X, rng).set_params(nprobe=nprobe)
    for search in (
        index.kneighbors,
        index.kneighbors_graph,
        index.radius_neighbors,
        index.radius_neighbors_graph,
        index.transform,
    ):
        with pytest.raises(error, match=message):
            search(X[:3])
    with pytest.raises(error, match=message):
        index.kneighbors()


@pytest.mark.parametrize("method", ["fit", "partial_fit", "fit_transform"])
@pytest.mark.parametrize(
    "parameters",
    [
        {"nlist": 0},
        {"nlist": -3},
        {"nlist": 2.0},
        {"nlist": "many"},
        {"nlist": None},
        {"nprobe": 0},
        {"nprobe": -1},
        {"nprobe": 2.5},
        {"nprobe": "many"},
        {"max_iter": -1},
        {"init": "k-means++"},
        {"random_state": "seed"},
        {"memory": 3},
        {"verbose": "loud"},
        {"metric": "manhattan"},
    ],
    ids=str,
)
def test_fit_validates_the_parameters(parameters, method):
    (name,) = parameters
    message = f"The '{name}' parameter of IVFFlatNeighbors must be"
    with pytest.raises(ValueError, match=message):
        getattr(IVFFlatNeighbors(**parameters), method)(np.eye(4))


@pytest.mark.parametrize("method", ["fit", "partial_fit", "fit_transform"])
def test_more_lists_than_rows_are_refused(method):
    index = IVFFlatNeighbors(nlist=5)
    with pytest.raises(ValueError, match="n_samples=4 should be >= nlist=5"):
        getattr(index, method)(np.eye(4))
    assert not index.is_trained


@pytest.mark.parametrize("place", [0, 17, 39])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_bad_number_among_many_queries_is_found(value, place, scan, rng):
    X = rng.standard_normal((100, 4))
    index = lists_of_some_rows(X, rng, nprobe=2)
    Q = rng.standard_normal((40, 4))
    Q[place, 3] = value
    for search in (index.kneighbors, index.radius_neighbors, index.transform):
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            search(Q)
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        index.kneighbors(Q, 90)


# -- odd lists -----------------------------------------------------------------------


@pytest.mark.parametrize("nprobe", [1, 8])
def test_one_list_is_the_flat_index(nprobe, rng):
    X, Q = rng.standard_normal((200, 5)), rng.standard_normal((30, 5))
    index = IVFFlatNeighbors(nlist=1, nprobe=nprobe).fit(X)
    flat = FlatL2Neighbors().fit(X)
    assert_array_equal(index.list_sizes_, [200])
    assert index.imbalance_factor_ == 1
    assert_allclose(index.cluster_centers_, [X.mean(axis=0)])
    assert_same(index.kneighbors(Q), flat.kneighbors(Q))
    assert_same(index.kneighbors(), flat.kneighbors())
    assert_same(index.radius_neighbors(Q, 2.0), flat.radius_neighbors(Q, 2.0))


def test_one_list_may_hold_everything(scan, rng):
    X, Q = rng.standard_normal((300, 5)), rng.standard_normal((30, 5))
    centroids = np.vstack(
        [np.full((4, 5), 1e3), np.zeros((1, 5)), np.full((4, 5), 1e4)]
    )
    index = fit_lists(X, centroids, nprobe=1)
    assert_array_equal(index.list_sizes_, [0, 0, 0, 0, 300, 0, 0, 0, 0])
    assert index.imbalance_factor_ == pytest.approx(9)
    flat = FlatL2Neighbors(metric="sqeuclidean").fit(X)
    assert_same(index.kneighbors(Q), flat.kneighbors(Q))
    # The nearest list of these is empty.
    assert_same(index.kneighbors(Q + 1e3), flat.kneighbors(Q + 1e3))


@pytest.mark.parametrize("nprobe", [1, 2, 3])
def test_equal_rows_come_by_their_numbers(nprobe):
    index = IVFFlatNeighbors(6, nlist=3, nprobe=nprobe, random_state=0)
    index.fit(np.full((200, 4), 3.7))
    distances, ids = index.kneighbors(np.full((5, 4), 3.7))
    assert_array_equal(distances, 0.0)
    assert (np.diff(ids, axis=1) > 0).all()
    if nprobe == 3:
        assert_array_equal(ids, np.tile(range(6), (5, 1)))
    graph = index.fit_transform(np.full((200, 4), 3.7))
    assert_array_equal(graph.indices.reshape(200, 7)[:, 0], np.arange(200))


@pytest.mark.parametrize("size", [1e160, 1e200])
@pytest.mark.filterwarnings("ignore:invalid value encountered in reduce")
def test_distances_that_overflow_still_name_real_rows(size, scan, rng):
    X = size * rng.uniform(-1, 1, (300, 4))
    index = fit_lists(X, X[:9], nprobe=2)
    _, ids = index.kneighbors(X[:40], 10)
    assert ids.min() >= 0
    assert all(len(set(row)) == 10 for row in ids)
    assert_array_equal(ids[:, 0], range(40))


# -- within a radius -----------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("nprobe", [1, 4])
def test_hits_are_those_of_the_oracle(kind, dtype, nprobe, rng):
    X, Q = vector_kinds.make(kind, dtype, rng, 500, 20, 7)
    index = lists_of_some_rows(X, rng, nprobe=nprobe)
    # Between two distances that differ, so that no rounding decides.
    distances = np.sort([reference.sqdists(q, X) for q in Q], axis=None)
    low = distances[len(distances) // 5]
    above = distances[distances > low * (1 + 1e-9)]
    radius = (low + above[0]) / 2 if len(above) else low
    found = index.radius_neighbors(Q, radius)
    centroids = index.cluster_centers_
    expected = reference.ivf_radius(Q, X, centroids, nprobe, radius)
    assert sum(map(len, found[1])) > 0
    for sqdists, ids, (wanted_sqdists, wanted_ids) in zip(
        *found, expected, strict=True
    ):
        assert_array_equal(ids, wanted_ids)
        assert_allclose(sqdists, wanted_sqdists, rtol=1e-12)


@KINDS
@pytest.mark.parametrize("sort_results", [False, True])
def test_hits_in_all_lists_are_those_of_the_flat_index(kind, dtype, sort_results, rng):
    X, Q = vector_kinds.make(kind, dtype, rng, 400, 20, 7)
    flat = FlatL2Neighbors(metric="sqeuclidean").fit(X)
    radius = float(np.median(flat.kneighbors(Q, 30)[0]))
    arguments = {"radius": radius, "sort_results": sort_results}
    index = lists_of_some_rows(X, rng, nprobe=NLIST)
    for queries in (Q, None):
        expected = flat.radius_neighbors(queries, **arguments)
        assert_same(index.radius_neighbors(queries, **arguments), expected)
        for nprobe in (1, 5):
            fewer = copy.copy(index).set_params(nprobe=nprobe)
            _, ids = fewer.radius_neighbors(queries, **arguments)
            for some, all_ids in zip(ids, expected[1], strict=True):
                assert set(some) <= set(all_ids)


def test_hits_do_not_depend_on_threads(rng, split_work):
    X, Q = rng.standard_normal((1000, 5)), rng.standard_normal((50, 5))
    index = lists_of_some_rows(X, rng, nprobe=3, radius=3.0, n_jobs=1)
    expected = index.radius_neighbors(Q)
    assert sum(map(len, expected[0])) > 1000
    assert_same(index.set_params(n_jobs=3).radius_neighbors(Q), expected)


def test_a_radius_may_find_nothing(rng):
    X = rng.standard_normal((100, 5))
    index = lists_of_some_rows(X, rng, nprobe=2)
    distances, ids = index.radius_neighbors(X + 100, 1.0)
    assert {len(found) for found in (*distances, *ids)} == {0}


# -- scikit-learn's side -------------------------------------------------------------


def test_attributes_of_a_fitted_estimator(rng):
    X = rng.standard_normal((400, 6))
    index = IVFFlatNeighbors(nlist=10, random_state=0)
    assert not index.is_trained
    assert index.ntotal == 0
    index.fit(X)
    assert index.is_trained
    assert index.ntotal == index.n_samples_fit_ == 400
    assert index.nlist_ == 10
    labels = reference.nearest_centroids(X, index.cluster_centers_)
    assert_array_equal(index.list_sizes_, np.bincount(labels, minlength=10))
    assert index.list_sizes_.dtype == np.int64
    shares = index.list_sizes_ / 400
    assert isinstance(index.imbalance_factor_, float)
    assert index.imbalance_factor_ == pytest.approx(10 * (shares**2).sum())
    assert index.imbalance_factor_ > 1
    assert not hasattr(index, "feature_names_in_")
    assert index.nlist == 10


def test_auto_is_one_list_for_few_rows(rng):
    index = IVFFlatNeighbors().fit(rng.standard_normal((400, 6)))
    assert index.nlist_ == 1
    assert index.nlist == "auto"


def test_auto_is_the_square_root_for_many_rows(rng):
    X = rng.standard_normal((20_000, 2)).astype(np.float32)
    index = IVFFlatNeighbors(random_state=0, max_iter=1).fit(X)
    assert index.nlist_ == len(index.list_sizes_) == 141


def flattened(index):
    for field in index:
        yield from flattened(field) if isinstance(field, tuple) else [np.asarray(field)]


def test_a_search_changes_no_attribute(rng):
    X = rng.standard_normal((300, 6))
    index = lists_of_some_rows(X, rng, nprobe=2, radius=1.5)
    before = dict(vars(index))
    arrays = copy.deepcopy(index._index)
    for queries in (X[:20], None, X[:20].astype(np.float32)):
        index.kneighbors(queries, 100)
        index.radius_neighbors_graph(queries)
    index.transform(X)
    index.reconstruct(0)
    assert index.imbalance_factor_
    after = dict(vars(index))
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)
    assert_same(flattened(index._index), flattened(arrays))


def test_the_vectors_are_kept_by_reference(rng):
    X = rng.standard_normal((100, 6)).astype(np.float32)
    index = lists_of_some_rows(X, rng)
    assert np.shares_memory(index._index.rows.X, X)
    assert index.reconstruct(0).dtype == np.float32


def test_inputs_are_not_changed(rng):
    X, Q = rng.standard_normal((200, 6)), rng.standard_normal((10, 6))
    before = X.copy(), Q.copy()
    for metric in ("euclidean", "cosine"):
        index = IVFFlatNeighbors(nlist=5, nprobe=2, metric=metric).fit(X)
        index.kneighbors(Q)
        index.radius_neighbors(Q)
        index.partial_fit(Q)
        assert_same((X, Q), before)
        assert X.flags.writeable


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_reconstruct_gives_the_rows_as_they_were(dtype, rng):
    X = rng.standard_normal((300, 5)).astype(dtype)
    index = lists_of_some_rows(X, rng)
    assert_array_equal(index.reconstruct(range(300)), X, strict=True)
    assert_array_equal(index.reconstruct([[7], [2]]), X[[[7], [2]]], strict=True)
    index.reconstruct([3])[:] = 0
    assert_array_equal(index.reconstruct(3), X[3])
    with pytest.raises(IndexError, match="between 0 and 299"):
        index.reconstruct(300)


def test_reconstruct_gives_the_unit_vectors_of_the_cosine(rng):
    X = rng.standard_normal((100, 5))
    X[4] = 0
    index = IVFFlatNeighbors(nlist=2, metric="cosine", random_state=0).fit(X)
    assert_allclose(index.reconstruct(range(100)), reference.unit_vectors(X))


def test_names_of_features(rng):
    frame = pd.DataFrame(rng.standard_normal((100, 3)), columns=list("abc"))
    index = IVFFlatNeighbors(nlist=2, nprobe=1, random_state=0).fit(frame)
    assert list(index.feature_names_in_) == list("abc")
    array = IVFFlatNeighbors(nlist=2, nprobe=1, random_state=0).fit(frame.to_numpy())
    assert_same(index.kneighbors(frame), array.kneighbors(frame.to_numpy()))
    with pytest.raises(ValueError, match="feature names should match"):
        index.kneighbors(frame[list("bac")])
    with pytest.raises(ValueError, match="feature names should match"):
        index.partial_fit(frame[list("bac")])
    names = index.get_feature_names_out()
    assert_array_equal(names, [f"ivfflatneighbors{i}" for i in range(100)])


def test_a_graph_is_not_put_into_a_data_frame(rng):
    X = rng.standard_normal((100, 3))
    index = lists_of_some_rows(X, rng).set_output(transform="pandas")
    with pytest.raises(ValueError, match="scipy sparse matrix"):
        index.transform(X)


def test_fitting_again_forgets_the_first_fit(rng):
    X, Q = rng.standard_normal((400, 6)), rng.standard_normal((20, 6))
    parameters = {"nlist": 5, "nprobe": 2, "random_state": 0}
    index = IVFFlatNeighbors(**parameters).fit(X[:, :2]).partial_fit(X[:9, :2])
    index.set_params(nlist=10)
    expected = IVFFlatNeighbors(**{**parameters, "nlist": 10}).fit(X)
    assert_same(index.fit(X).kneighbors(Q), expected.kneighbors(Q))
    assert index.nlist_ == len(index.list_sizes_) == 10
    assert index.ntotal == 400


def test_the_metric_is_the_one_of_the_fit(rng):
    X = rng.standard_normal((200, 6))
    index = lists_of_some_rows(X, rng, nprobe=2)
    expected = index.kneighbors(X)
    assert_same(index.set_params(metric="cosine").kneighbors(X), expected)
