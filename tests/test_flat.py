"""FlatL2Neighbors against the oracle: every kind of data, every odd size."""

import numpy as np
import pytest
import reference
import vector_kinds
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics.pairwise import cosine_distances

from sklearn_ann import FlatL2Neighbors

KINDS = pytest.mark.parametrize(
    ("kind", "dtype"), vector_kinds.KINDS, ids=vector_kinds.name
)

# (rows, features, neighbours, queries): around the sizes of a panel (64 rows), a step
# (4 features), a vector (8 doubles, 32 at a time) and a tile (4 queries); few rows for
# every neighbour and many, so that the list of candidates is shrunk.
SIZES = [
    (1, 1, 1, 1),
    (2, 2, 2, 2),
    (63, 3, 10, 3),
    (64, 4, 64, 4),
    (65, 7, 65, 5),
    (129, 16, 1, 50),
    (300, 63, 10, 50),
    (500, 64, 10, 3),
    (400, 65, 400, 2),
    (1000, 2, 10, 50),
    (3000, 1, 1, 5),
    (2000, 8, 3, 5),
    (200, 768, 10, 5),
    (70, 3072, 10, 4),
]


@KINDS
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_neighbors_are_those_of_the_oracle(kind, dtype, size, rng):
    n, d, k, nq = size
    X, Q = vector_kinds.make(kind, dtype, rng, n, nq, d)
    found = FlatL2Neighbors(metric="sqeuclidean").fit(X).kneighbors(Q, k)
    reference.assert_same_neighbors(found, reference.knn(Q, X, k), Q, X)


@KINDS
@pytest.mark.parametrize("n_jobs", [1, 2, 3])
def test_answers_do_not_depend_on_batch_or_threads(
    kind, dtype, n_jobs, rng, split_work
):
    X, Q = vector_kinds.make(kind, dtype, rng, 1000, 60, 8)
    index = FlatL2Neighbors(7, n_jobs=1).fit(X)
    distances, ids = index.kneighbors(Q)
    index.set_params(n_jobs=n_jobs)
    for batch in (1, 2, 3, 4, 5, 30, 60):
        found = [index.kneighbors(Q[i : i + batch]) for i in range(0, 60, batch)]
        found_distances, found_ids = map(np.vstack, zip(*found, strict=True))
        assert_array_equal(found_ids, ids)
        assert_array_equal(found_distances, distances)


@KINDS
def test_the_distance_of_a_vector_to_itself_is_zero(kind, dtype, rng):
    X, _ = vector_kinds.make(kind, dtype, rng, 100, 1, 37)
    distances, _ = FlatL2Neighbors(1).fit(X).kneighbors(X)
    assert_array_equal(distances, 0.0)


# scikit-learn's validation adds all numbers up.
@pytest.mark.filterwarnings("ignore:invalid value encountered in reduce")
@pytest.mark.parametrize("size", [1e160, 1e200, 1e308])
def test_distances_that_overflow_still_name_real_rows(size, rng):
    X = size * rng.uniform(-1, 1, (300, 4))
    Q = np.vstack([X[:3], np.full((2, 4), 1.7e308)])
    distances, ids = FlatL2Neighbors(10).fit(X).kneighbors(Q)
    assert ids.min() >= 0
    assert all(len(set(row)) == 10 for row in ids)
    assert_array_equal(ids[:3, 0], [0, 1, 2])
    assert_array_equal(distances[:3, 0], 0.0)


@pytest.mark.parametrize("n_queries", [1, 50])
def test_threads_agree_on_distances_that_overflow(n_queries, rng, split_work):
    X = 1e200 * rng.uniform(-1, 1, (300, 4))
    index = FlatL2Neighbors(290, n_jobs=1).fit(X)
    distances, ids = index.kneighbors(X[:n_queries])
    found = index.set_params(n_jobs=3).kneighbors(X[:n_queries])
    assert np.isinf(distances).any()
    assert_array_equal(found[0], distances)
    assert_array_equal(found[1], ids)


def test_many_neighbors_of_many_rows(rng):
    X, Q = vector_kinds.make(vector_kinds.bits, np.float32, rng, 3000, 5, 24)
    found = FlatL2Neighbors(metric="sqeuclidean").fit(X).kneighbors(Q, 1000)
    sqdists, ids = reference.knn(Q, X, 1000)
    assert_array_equal(found[0], sqdists)
    assert_array_equal(found[1], ids)


@pytest.mark.parametrize(
    ("X_dtype", "Q_dtype"), [(np.float32, np.float64), (np.float64, np.float32)]
)
def test_queries_of_the_other_dtype_are_not_rounded(X_dtype, Q_dtype, rng):
    X = rng.standard_normal((500, 20)).astype(X_dtype)
    Q = rng.standard_normal((10, 20)).astype(Q_dtype)
    found = FlatL2Neighbors(metric="sqeuclidean").fit(X).kneighbors(Q, 5)
    reference.assert_same_neighbors(found, reference.knn(Q, X, 5), Q, X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sqeuclidean_is_euclidean_squared(dtype, rng):
    X, Q = vector_kinds.make(vector_kinds.normal, dtype, rng, 300, 20, 9)
    distances, ids = FlatL2Neighbors().fit(X).kneighbors(Q)
    sqdists, same_ids = FlatL2Neighbors(metric="sqeuclidean").fit(X).kneighbors(Q)
    assert_array_equal(ids, same_ids)
    assert_array_equal(distances, np.sqrt(sqdists))


# -- the cosine ----------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "atol"), [(np.float32, 1e-6), (np.float64, 1e-14)])
def test_cosine_distances_are_those_of_scikit_learn(dtype, atol, rng):
    X, Q = vector_kinds.make(vector_kinds.normal, dtype, rng, 200, 20, 9)
    X[5] = 0
    distances, ids = FlatL2Neighbors(200, metric="cosine").fit(X).kneighbors(Q)
    expected = cosine_distances(Q.astype(np.float64), X.astype(np.float64))
    assert (np.diff(distances, axis=1) >= 0).all()
    assert_allclose(
        distances, np.take_along_axis(expected, ids, axis=1), rtol=0, atol=atol
    )
    assert_array_equal(np.sort(ids), np.tile(np.arange(200), (20, 1)))


def test_zero_rows_are_at_cosine_distance_1_from_others_and_0_from_zero_rows(rng):
    X = rng.standard_normal((70, 3))
    X[[5, 66]] = 0
    distances, ids = FlatL2Neighbors(70, metric="cosine").fit(X).kneighbors(X[[5]])
    assert_array_equal(ids[0, :2], [5, 66])
    assert_array_equal(distances[0, :2], 0.0)
    assert_allclose(distances[0, 2:], 1.0, rtol=1e-15)


@pytest.mark.parametrize("exponent", [-100, -60, 60, 100])
def test_cosine_distances_do_not_depend_on_lengths(exponent, rng):
    X = rng.standard_normal((100, 6)).astype(np.float32)
    expected = reference.cosine_distances(X[:10], X)
    index = FlatL2Neighbors(100, metric="cosine").fit(X * np.float32(2.0**exponent))
    distances, ids = index.kneighbors(X[:10] * np.float32(2.0**-exponent))
    expected = np.take_along_axis(expected, ids, axis=1)
    assert_allclose(distances, expected, rtol=0, atol=1e-6)


# -- reconstruct ---------------------------------------------------------------------


@pytest.fixture
def rows_and_index(rng):
    X = rng.standard_normal((70, 5)).astype(np.float32)
    return X, FlatL2Neighbors().fit(X)


@pytest.mark.parametrize(
    "ids",
    [
        3,
        np.int32(69),
        np.uint64(0),
        [3, 1, 3],
        np.array([64, 65], np.uint8),
        [[0], [9]],
    ],
    ids=repr,
)
def test_reconstruct_gives_the_rows_as_they_were(rows_and_index, ids):
    X, index = rows_and_index
    vectors = index.reconstruct(ids)
    assert vectors.dtype == X.dtype
    assert_array_equal(vectors, X[np.asarray(ids, np.int64)], strict=True)


@pytest.mark.parametrize("ids", [[], np.array([], np.int64)], ids=repr)
def test_reconstruct_of_nothing_is_empty(rows_and_index, ids):
    X, index = rows_and_index
    assert_array_equal(index.reconstruct(ids), X[:0], strict=True)


def test_reconstruct_returns_a_copy_that_may_be_written(rows_and_index):
    X, index = rows_and_index
    index.reconstruct(3)[:] = 0
    index.reconstruct([3, 4])[:] = 0
    assert_array_equal(index.reconstruct([3, 4]), X[3:5])
    assert X[3:5].any(axis=1).all()


@pytest.mark.parametrize("ids", [-1, 70, [0, 70], [-71], 2**40], ids=repr)
def test_reconstruct_of_rows_that_do_not_exist_is_an_index_error(rows_and_index, ids):
    with pytest.raises(IndexError, match="between 0 and 69"):
        rows_and_index[1].reconstruct(ids)


@pytest.mark.parametrize("ids", [1.0, [0.5], "1", True, [True, False], None], ids=repr)
def test_reconstruct_refuses_what_is_not_an_integer(rows_and_index, ids):
    with pytest.raises(TypeError, match="ids must be integers"):
        rows_and_index[1].reconstruct(ids)


def test_reconstruct_gives_the_unit_vectors_of_the_cosine(rng):
    X = rng.standard_normal((10, 5))
    X[4] = 0
    index = FlatL2Neighbors(metric="cosine").fit(X)
    assert_allclose(index.reconstruct(range(10)), reference.unit_vectors(X))
