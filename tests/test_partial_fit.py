"""Adding rows: an index built in pieces is the index built at once."""

import numpy as np
import pytest
import reference
import vector_kinds
from numpy.testing import assert_array_equal

from sklearn_ann import FlatL2Neighbors


def fit_in_pieces(pieces, **parameters):
    index = FlatL2Neighbors(**parameters)
    for piece in pieces:
        assert index.partial_fit(piece) is index
    return index


def assert_same_answers(index, expected, Q, k):
    for found, wanted in zip(
        index.kneighbors(Q, k), expected.kneighbors(Q, k), strict=True
    ):
        assert_array_equal(found, wanted)
    radius = float(np.median(expected.kneighbors(Q, k)[0]))
    for found, wanted in zip(
        index.radius_neighbors(Q, radius),
        expected.radius_neighbors(Q, radius),
        strict=True,
    ):
        for one_found, one_wanted in zip(found, wanted, strict=True):
            assert_array_equal(one_found, one_wanted)
    n = expected.n_samples_fit_
    assert index.n_samples_fit_ == index.ntotal == n
    assert len(index.get_feature_names_out()) == n
    assert_array_equal(
        index.reconstruct(range(n)), expected.reconstruct(range(n)), strict=True
    )


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize(
    "sizes",
    [[1, 1, 1], [63, 1, 64], [64, 64], [65, 63], [1, 200], [200, 1], [130, 70, 5000]],
    ids=str,
)
def test_pieces_equal_one_fit(metric, sizes, rng):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float32, rng, sum(sizes), 9, 6)
    index = fit_in_pieces(np.split(X, np.cumsum(sizes)[:-1]), metric=metric)
    expected = FlatL2Neighbors(metric=metric).fit(X)
    assert_same_answers(index, expected, Q, k=min(10, len(X)))


@pytest.mark.parametrize(("kind", "dtype"), vector_kinds.KINDS, ids=vector_kinds.name)
def test_pieces_of_every_kind_equal_the_oracle(kind, dtype, rng):
    X, Q = vector_kinds.make(kind, dtype, rng, 700, 20, 6)
    index = fit_in_pieces(np.split(X, [100, 350]), metric="sqeuclidean")
    found = index.kneighbors(Q, 10)
    reference.assert_same_neighbors(found, reference.knn(Q, X, 10), Q, X)


@pytest.mark.parametrize("factor", [1e-30, 1e-12, 1e3, 1e12, 1e30], ids=str)
def test_a_piece_of_another_size_equals_one_fit(factor, rng):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float64, rng, 900, 20, 6)
    X[300:] *= factor
    Q = np.vstack([Q, factor * Q])
    index = fit_in_pieces(np.split(X, [300]), metric="sqeuclidean")
    found = index.kneighbors(Q, 10)
    reference.assert_same_neighbors(found, reference.knn(Q, X, 10), Q, X)


@pytest.mark.parametrize(
    "dtypes",
    [(np.float32, np.float64), (np.float64, np.float32), (np.float32, np.int64)],
    ids=str,
)
def test_the_dtype_is_the_one_that_holds_all_pieces(dtypes, rng):
    pieces = [
        vector_kinds.wide_integers(rng, 70, 0, 3).astype(dtype) for dtype in dtypes
    ]
    index = fit_in_pieces(pieces)
    expected = FlatL2Neighbors().fit(np.vstack(pieces).astype(np.float64))
    assert_same_answers(index, expected, pieces[0].astype(np.float64), k=5)
    assert_same_answers(index, expected, pieces[0].astype(np.float32), k=5)


def test_the_first_call_is_a_fit_and_fit_starts_over(rng):
    X = rng.standard_normal((100, 4))
    index = FlatL2Neighbors().partial_fit(X[:60]).fit(X[60:])
    assert index.n_samples_fit_ == 40
    assert_same_answers(index, FlatL2Neighbors().fit(X[60:]), X[:5], k=5)


def test_the_caller_s_pieces_are_not_changed(rng):
    X = rng.standard_normal((100, 4))
    before = X.copy()
    fit_in_pieces([X[:60], X[60:]])
    assert_array_equal(X, before)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((3, 5)), "X has 5 features, but FlatL2Neighbors is expecting 4"),
        (np.full((3, 4), np.nan), "NaN"),
        (np.zeros((0, 4)), "0 sample"),
    ],
    ids=["wrong width", "NaN", "empty"],
)
def test_a_piece_that_is_refused_leaves_the_index_as_it_was(bad, message, rng):
    X = rng.standard_normal((100, 4))
    index = FlatL2Neighbors().fit(X)
    with pytest.raises(ValueError, match=message):
        index.partial_fit(bad)
    assert_same_answers(index, FlatL2Neighbors().fit(X), X[:5], k=5)


def test_a_copy_of_the_index_made_before_is_not_changed(rng):
    X = rng.standard_normal((100, 4))
    index = FlatL2Neighbors().fit(X[:60])
    before = index.kneighbors(X, 5)
    state = dict(vars(index))
    index.partial_fit(X[60:])
    vars(index).update(state)
    for found, expected in zip(index.kneighbors(X, 5), before, strict=True):
        assert_array_equal(found, expected)
