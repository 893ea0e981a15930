"""Many rows at the same distance: right answers, and how few rows are measured."""

import copy

import numpy as np
import pytest
import reference
from numpy.testing import assert_array_equal
from parts import called

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors
from sklearn_ann._cpu import _sq8_block

tie_threshold = called(_sq8_block.tie_threshold)

N = 700


def half_zeros(rng, n):
    X = rng.standard_normal((n, 6))
    X[rng.permutation(n)[: n // 2]] = 0
    return X


def signed_zeros(rng, n):
    """Rows that differ in bits, and in nothing else, among others."""
    X = half_zeros(rng, n)
    return np.where((X == 0) & (rng.random(X.shape) < 0.2), -0.0, X)


def groups(rng, n):
    """Of 1, 2, 4, 8, ... rows, anywhere."""
    X = rng.standard_normal((12, 6))
    return X[np.minimum(rng.geometric(0.5, n), 12) - 1]


def all_equal(rng, n):
    return np.full((n, 6), 3.7)


def one_hot(rng, n):
    return np.eye(100)[rng.integers(0, 100, n)]


def thirds(rng, n):
    """Different rows that tie, and are no integers."""
    return one_hot(rng, n) / 3


def different(rng, n):
    """All rows tie, for each other, and no two are identical."""
    return np.eye(n)


def bits(rng, n):
    return rng.integers(0, 2, (n, 8)).astype(float)


def counts(rng, n):
    return rng.poisson(0.3, (n, 8)).astype(float) + 100


KINDS = [half_zeros, signed_zeros, groups, all_equal, one_hot, thirds, different]
KINDS += [bits, counts]
EACH = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def make(kind, dtype, rng, n=N):
    """Rows and queries: some rows, the middle of all, and others of the kind."""
    X = kind(rng, n).astype(dtype)
    others = kind(rng, n).astype(dtype)[:5]
    return X, np.vstack([X[:: n // 8], X[:1] * 0, X[:1] * 0 + 1, others])


def without_marks(index):
    """A copy of a flat estimator that has to find out which rows are identical."""
    plain = copy.copy(index)
    plain._index = index._index._replace(duplicates=np.empty((0, 0), np.uint64))
    return plain


@EACH
@DTYPES
@pytest.mark.parametrize("k", [1, 2, 7, 8, 9, 64, 65, 300])
def test_neighbors_are_those_of_the_oracle(kind, dtype, k, rng):
    X, Q = make(kind, dtype, rng)
    index = FlatL2Neighbors(metric="sqeuclidean").fit(X)
    found = index.kneighbors(Q, k)
    reference.assert_same_neighbors(found, reference.knn(Q, X, k), Q, X)
    for array, expected in zip(
        found, without_marks(index).kneighbors(Q, k), strict=True
    ):
        assert_array_equal(array, expected)


@EACH
@pytest.mark.parametrize("n_queries", [1, 2, 19])
def test_threads_and_batches_agree(kind, n_queries, rng, split_work):
    X, Q = make(kind, np.float32, rng)
    expected = FlatL2Neighbors(9, n_jobs=1).fit(X).kneighbors(Q)
    index = FlatL2Neighbors(9, n_jobs=3).fit(X)
    for start in range(0, len(Q), n_queries):
        batch = slice(start, start + n_queries)
        for found, wanted in zip(index.kneighbors(Q[batch]), expected, strict=True):
            assert_array_equal(found, wanted[batch])


@EACH
@pytest.mark.parametrize("nprobe", [1, 3, 9])
def test_lists_are_those_of_the_oracle(kind, nprobe, rng):
    X, Q = make(kind, np.float32, rng)
    centroids = X[rng.choice(N, 9)]
    index = IVFFlatNeighbors(
        nprobe=nprobe, init=centroids, max_iter=0, metric="sqeuclidean"
    )
    index.fit(X[:300]).partial_fit(X[300:330]).partial_fit(X[330:])
    for k in (1, 8, 40):
        found = index.kneighbors(Q, k)
        expected = reference.ivf_knn(Q, X, centroids, nprobe, k)
        reference.assert_same_neighbors(found, expected, Q, X)


@EACH
@pytest.mark.parametrize("sizes", [[1, 699], [690, 10], [64, 64, 572]], ids=str)
def test_pieces_are_those_of_the_oracle(kind, sizes, rng):
    X, Q = make(kind, np.float64, rng)
    index = FlatL2Neighbors(metric="sqeuclidean")
    for piece in np.split(X, np.cumsum(sizes)[:-1]):
        index.partial_fit(piece)
    found = index.kneighbors(Q, 9)
    reference.assert_same_neighbors(found, reference.knn(Q, X, 9), Q, X)


@EACH
def test_rows_are_excluded_from_their_own_neighbors(kind, rng):
    X, _ = make(kind, np.float32, rng, n=200)
    found = FlatL2Neighbors(7, metric="sqeuclidean").fit(X).kneighbors()
    expected = reference.without_self(*reference.knn(X, X, 8))
    reference.assert_same_neighbors(found, expected, X, X)


@DTYPES
def test_numbers_that_only_look_like_integers_do_not_tie(dtype, rng):
    first = rng.choice([1.0, 100.0], (520, 4)).astype(dtype)
    first[0] = 0
    more = rng.choice([0.0, 1.0, 100.0], (180, 4)).astype(dtype)
    # Beside a center of 128 they vanish, but they are nearer to each other than to 0.
    more[::2][more[::2] == 0] = 1e-20
    index = FlatL2Neighbors(metric="sqeuclidean").fit(first).partial_fit(more)
    assert_array_equal(index._index.center, 128)
    Q, X = more, np.vstack([first, more])
    for k in (1, 2, 5, 40):
        found, expected = index.kneighbors(Q, k), reference.knn(Q, X, k)
        assert_array_equal(found[0], expected[0])
        assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_too_short_for_codes_are_no_integers(dtype):
    X = np.zeros((200, 2), dtype)
    X[:64, 0] = dtype(1e-40) * np.arange(1, 65)
    X[64:132:2, 0], X[65:132:2, 0] = 1, -1
    Q = np.vstack([X[-1:], X[:3], X[64:66]])
    index = FlatL2Neighbors(metric="sqeuclidean").fit(X)
    for k in (1, 2, 70, 200):
        found, expected = index.kneighbors(Q, k), reference.knn(Q, X, k)
        assert_array_equal(found[1], expected[1])
        assert_array_equal(found[0], expected[0])


# -- the short way -------------------------------------------------------------------


def is_late(X, n_before):
    """Rows that so many identical ones come before."""
    seen, late = {}, []
    for row in X:
        seen[row.tobytes()] = seen.get(row.tobytes(), -1) + 1
        late.append(seen[row.tobytes()] >= n_before)
    return np.array(late)


def assert_not_measured(index, is_unseen, q, k, field=None):
    """Put copies of the query in the place of some rows: none of them is found."""
    q = q[None]
    expected = index.kneighbors(q, k)
    flat = index._index if field is None else getattr(index._index, field)
    X = flat.X.copy()
    X[is_unseen] = q
    flat = flat._replace(X=X)
    index._index = flat if field is None else index._index._replace(**{field: flat})
    for found, wanted in zip(index.kneighbors(q, k), expected, strict=True):
        assert_array_equal(found, wanted)


@pytest.mark.parametrize("kind", [half_zeros, groups, thirds])
@pytest.mark.parametrize("k", [1, 5, 8])
def test_of_identical_rows_the_first_are_measured(kind, k, rng):
    X, _ = make(kind, np.float32, rng, n=3000)
    late = is_late(X, 8)
    assert late.sum() > 1000
    q = X[-1] + 0.125
    assert_not_measured(FlatL2Neighbors().fit(X), late, q, k)
    pieces = FlatL2Neighbors().fit(X[:100]).partial_fit(X[100:])
    assert_not_measured(pieces, late, q, k)


def test_of_identical_rows_in_lists_the_first_are_measured(rng):
    X, _ = make(half_zeros, np.float32, rng, n=3000)
    index = IVFFlatNeighbors(nprobe=2, init=X[:5], max_iter=0).fit(X)
    assert_not_measured(index, is_late(X, 8), X[0] * 0 + 0.125, 5, "rows")


def test_identical_rows_are_marked_again_when_the_rows_double(rng):
    X, _ = make(half_zeros, np.float32, rng, n=3000)
    index = FlatL2Neighbors().fit(X[:1030])
    for at in range(1030, 2048, 2):
        index.partial_fit(X[at : at + 2])
    late = is_late(X[:2048], 8)
    assert late[1100:].any()
    assert_not_measured(index, late, X[0] * 0 + 0.125, 5)


def test_few_identical_rows_are_not_looked_for(rng):
    X = rng.standard_normal((3000, 6))
    X[[1, 5, 2000, 2999]] = 0
    assert FlatL2Neighbors().fit(X)._index.duplicates.size == 0


@pytest.mark.parametrize("kind", [one_hot, different])
def test_of_integers_that_tie_the_first_are_measured(kind, rng):
    X, _ = make(kind, np.float32, rng, n=3000)
    index = without_marks(FlatL2Neighbors().fit(X))
    # A list of candidates is full by then.
    assert_not_measured(index, np.arange(3000) >= 256, X[0], 5)


def test_rows_behind_k_others_need_a_smaller_multiple():
    assert tie_threshold(np.inf, 0.25) == np.inf
    assert tie_threshold(3.0, 0.0) == 3.0
    assert tie_threshold(0.0, 1.0) < 0
    for square in (1, 2, 3, 1000, 255**2 * 1000):
        # As rounded, too: the k-th may be this far, and nearer ones are let in.
        for threshold in (square**0.5, square**0.5 * (1 - 1e-15)):
            assert (square - 1) ** 0.5 < tie_threshold(threshold, 1.0) < square**0.5
    assert tie_threshold(2.0**0.5 / 8, 1 / 64) == pytest.approx(1.5**0.5 / 8)
