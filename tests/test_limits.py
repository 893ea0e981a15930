"""Where numbers end: very wide, very small and very large vectors."""

import numpy as np
import pytest
import reference

from sklearn_ann import FlatL2Neighbors


@pytest.mark.parametrize("d", [131_071, 131_072, 132_104, 132_200])
def test_dot_products_of_wide_integer_vectors_do_not_overflow(d):
    X = np.full((70, d), 255, np.float32)
    X[:2] = 0
    X[1, :5] = 1
    ids = FlatL2Neighbors(2).fit(X).kneighbors(X[:1], return_distance=False)
    assert ids.tolist() == [[0, 1]]


def test_vectors_too_wide_for_integer_products():
    X = np.zeros((3, 8_500_000), np.float32)
    X[1] = 1
    X[2] = 3
    distances, ids = FlatL2Neighbors(2, metric="sqeuclidean").fit(X).kneighbors(X[1:2])
    assert ids.tolist() == [[1, 0]]
    assert distances.tolist() == [[0, 8_500_000]]


@pytest.mark.parametrize("exponent", [-320, -170, -162, -160, -150, 150, 154, 300])
def test_squares_that_underflow_or_overflow(rng, exponent):
    X = rng.normal(size=(500, 5)) * 10.0**exponent
    Q = rng.normal(size=(20, 5)) * 10.0**exponent
    with np.errstate(over="ignore"):
        expected_sqdists, expected_ids = reference.knn(Q, X, 5)
    sqdists, ids = FlatL2Neighbors(5, metric="sqeuclidean").fit(X).kneighbors(Q)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(sqdists, expected_sqdists, rtol=1e-12)
