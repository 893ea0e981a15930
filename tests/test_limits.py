"""Where numbers end: very wide, very small and very large vectors."""

import functools

import numpy as np
import pytest
import reference
from sklearn import config_context

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors


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


@pytest.mark.parametrize(
    "size", [1e20, 1e100, 1e150, 1e153, 1e154, 1e155, 1e160, 1e300]
)
@pytest.mark.parametrize("of_rows", [1e-20, 1.0, 1e20, 1e140])
@pytest.mark.parametrize(("n", "k"), [(130, 5), (300, 10), (300, 1), (1000, 300)])
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value encountered")
def test_rows_at_infinite_distances_are_found_in_their_order(size, of_rows, n, k, rng):
    X = of_rows * rng.standard_normal((n, 4))
    Q = np.vstack([size * rng.standard_normal((20, 4)), X[:5]])
    expected = reference.knn(Q, X, k)
    indexes = [
        FlatL2Neighbors(metric="sqeuclidean"),
        IVFFlatNeighbors(nlist=1, nprobe=1, random_state=0, metric="sqeuclidean"),
        IVFFlatNeighbors(nlist=3, nprobe=2, random_state=0, max_iter=1),
    ]
    for index in indexes:
        index.fit(X)
        one_by_one = [index.kneighbors(q[None], k) for q in Q]
        one_by_one = [np.vstack(part) for part in zip(*one_by_one, strict=True)]
        for found in (index.kneighbors(Q, k), one_by_one):
            assert (found[1] >= 0).all()
            assert (np.diff(found[1], axis=1) > 0)[found[0][:, 1:] == np.inf].all()
            if index is not indexes[2]:
                reference.assert_same_neighbors(found, expected, Q, X)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "make",
    [
        FlatL2Neighbors,
        functools.partial(IVFFlatNeighbors, nlist=3, random_state=0),
        functools.partial(IVFPQNeighbors, nlist=3, nbits=4, random_state=0),
    ],
    ids=["flat", "lists", "codes"],
)
def test_no_search_answers_queries_that_are_not_finite(bad, make, rng):
    index, Q = make().fit(rng.standard_normal((300, 4))), rng.standard_normal((9, 4))
    Q[4, 2] = bad
    with config_context(assume_finite=True):
        for search in (index.kneighbors, index.kneighbors_graph, index.transform):
            with pytest.raises(ValueError, match=r"Row 4 of X has no . neighbors"):
                search(Q)
