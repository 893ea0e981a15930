"""Adding rows: an index built in pieces is the index built at once."""

import copy

import numpy as np
import pytest
import reference
import vector_kinds
from numpy.testing import assert_array_equal

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors


def fit_flat(X, **parameters):
    return FlatL2Neighbors(**parameters).fit(X)


def fit_lists(X, **parameters):
    """Lists that do not depend on X, so that they are those of its first piece."""
    width = X.shape[1] + (parameters.get("metric") == "cosine")
    centroids = np.random.default_rng(0).standard_normal((9, width), np.float32)
    index = IVFFlatNeighbors(nprobe=3, init=centroids, max_iter=0, **parameters)
    return index.fit(X)


def fit_codes(X, **parameters):
    """Codes that do not depend on X either."""
    rng = np.random.default_rng(0)
    width = X.shape[1] + (parameters.get("metric") == "cosine")
    centroids = rng.standard_normal((9, width), np.float32)
    # Parts of one feature each, whatever the width.
    codebooks = rng.standard_normal((width, 16, 1), np.float32)
    index = IVFPQNeighbors(
        nprobe=3,
        init=centroids,
        max_iter=0,
        nbits=4,
        codebooks=codebooks,
        **parameters,
    )
    return index.fit(X)


def fit_stored(X, **parameters):
    return fit_codes(X, store_vectors=True, refine_factor=3, **parameters)


FITS = pytest.mark.parametrize(
    "fit",
    [fit_flat, fit_lists, fit_codes, fit_stored],
    ids=lambda fit: fit.__name__.removeprefix("fit_"),
)


def fit_in_pieces(pieces, fit=fit_flat, **parameters):
    first, *others = pieces
    index = fit(first, **parameters)
    for piece in others:
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


@FITS
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize(
    "sizes",
    [[1, 1, 1], [63, 1, 64], [64, 64], [65, 63], [1, 200], [200, 1], [130, 70, 5000]],
    ids=str,
)
def test_pieces_equal_one_fit(metric, sizes, fit, rng):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float32, rng, sum(sizes), 9, 6)
    index = fit_in_pieces(np.split(X, np.cumsum(sizes)[:-1]), fit, metric=metric)
    expected = fit(X, metric=metric)
    assert_same_answers(index, expected, Q, k=min(10, len(X)))


@pytest.mark.parametrize(("kind", "dtype"), vector_kinds.KINDS, ids=vector_kinds.name)
def test_pieces_of_every_kind_equal_the_oracle(kind, dtype, rng):
    X, Q = vector_kinds.make(kind, dtype, rng, 700, 20, 6)
    index = fit_in_pieces(np.split(X, [100, 350]), metric="sqeuclidean")
    found = index.kneighbors(Q, 10)
    reference.assert_same_neighbors(found, reference.knn(Q, X, 10), Q, X)


@pytest.mark.parametrize(("kind", "dtype"), vector_kinds.KINDS, ids=vector_kinds.name)
@pytest.mark.parametrize("nprobe", [1, 4])
def test_lists_of_every_kind_equal_the_oracle(kind, dtype, nprobe, rng):
    X, Q = vector_kinds.make(kind, dtype, rng, 700, 20, 6)
    centroids = X[rng.choice(100, 12)]
    index = IVFFlatNeighbors(
        nprobe=nprobe, init=centroids, max_iter=0, metric="sqeuclidean"
    )
    index.fit(X[:100]).partial_fit(X[100:350]).partial_fit(X[350:])
    found = index.kneighbors(Q, 10)
    expected = reference.ivf_knn(Q, X, centroids, nprobe, 10)
    reference.assert_same_neighbors(found, expected, Q, X)
    labels = reference.nearest_centroids(X, centroids)
    assert_array_equal(index.list_sizes_, np.bincount(labels, minlength=12))


@FITS
def test_row_by_row_equals_one_fit(fit, rng):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float32, rng, 900, 9, 6)
    index = fit_in_pieces([X[:5], *X[5:, None]], fit)
    assert_same_answers(index, fit(X), Q, k=10)
    # Larger errors of the codes than those so far, and smaller ones.
    index = fit_in_pieces([np.round(X[:100]), *X[100:200, None], X[200:]], fit)
    expected = fit(np.vstack([np.round(X[:100]), X[100:]]))
    assert_same_answers(index, expected, Q, k=10)


@pytest.mark.parametrize("factor", [1e-30, 1e-12, 1e3, 1e12, 1e30], ids=str)
def test_a_piece_of_another_size_equals_one_fit(factor, rng):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float64, rng, 900, 20, 6)
    X[300:] *= factor
    Q = np.vstack([Q, factor * Q])
    index = fit_in_pieces(np.split(X, [300]), metric="sqeuclidean")
    found = index.kneighbors(Q, 10)
    reference.assert_same_neighbors(found, reference.knn(Q, X, 10), Q, X)


@FITS
@pytest.mark.parametrize("sizes", [[1], [1, 3, 60], [1] * 300], ids=len)
def test_pieces_at_another_place_equal_one_fit(sizes, fit, rng):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float32, rng, 900, 9, 6)
    X[sizes[0] :] += 1000
    Q += 1000
    index = fit_in_pieces(np.split(X, np.cumsum(sizes)), fit)
    assert_same_answers(index, fit(X), Q, k=10)
    assert_same_answers(index, fit(X), X[:1], k=10)


@FITS
@pytest.mark.parametrize(
    "dtypes",
    [(np.float32, np.float64), (np.float64, np.float32), (np.float32, np.int64)],
    ids=str,
)
def test_the_dtype_is_the_one_that_holds_all_pieces(dtypes, fit, rng):
    pieces = [
        vector_kinds.wide_integers(rng, 70, 0, 3).astype(dtype) for dtype in dtypes
    ]
    index = fit_in_pieces(pieces, fit)
    expected = fit(np.vstack(pieces).astype(np.float64))
    assert_same_answers(index, expected, pieces[0].astype(np.float64), k=5)
    assert_same_answers(index, expected, pieces[0].astype(np.float32), k=5)


def test_the_first_call_is_a_fit_and_fit_starts_over(rng):
    X = rng.standard_normal((100, 4))
    index = FlatL2Neighbors().partial_fit(X[:60]).fit(X[60:])
    assert index.n_samples_fit_ == 40
    assert_same_answers(index, FlatL2Neighbors().fit(X[60:]), X[:5], k=5)


def test_the_first_call_trains_the_lists_and_the_others_do_not(rng):
    X = rng.standard_normal((500, 4))
    parameters = {"nlist": 5, "nprobe": 2, "random_state": 0}
    trained = IVFFlatNeighbors(**parameters).fit(X[:200])
    index = IVFFlatNeighbors(**parameters).partial_fit(X[:200]).partial_fit(X[200:])
    assert_array_equal(index.cluster_centers_, trained.cluster_centers_)
    expected = IVFFlatNeighbors(
        **parameters, init=trained.cluster_centers_, max_iter=0
    ).fit(X)
    assert_same_answers(index, expected, X[:20], k=5)
    assert_array_equal(index.list_sizes_, expected.list_sizes_)
    assert index.imbalance_factor_ == expected.imbalance_factor_
    index.fit(X)
    assert not np.array_equal(index.cluster_centers_, trained.cluster_centers_)


@FITS
def test_the_caller_s_pieces_are_not_changed(fit, rng):
    X = rng.standard_normal((100, 4))
    before = X.copy()
    fit_in_pieces([X[:60], X[60:80], X[80:]], fit)
    assert_array_equal(X, before)


@FITS
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((3, 5)), "X has 5 features, but .*Neighbors is expecting 4"),
        (np.full((3, 4), np.nan), "NaN"),
        (np.zeros((0, 4)), "0 sample"),
    ],
    ids=["wrong width", "NaN", "empty"],
)
def test_a_piece_that_is_refused_leaves_the_index_as_it_was(bad, message, fit, rng):
    X = rng.standard_normal((100, 4))
    index = fit(X)
    with pytest.raises(ValueError, match=message):
        index.partial_fit(bad)
    assert_same_answers(index, fit(X), X[:5], k=5)
    index.partial_fit(X[:7])
    assert_same_answers(index, fit(np.vstack([X, X[:7]])), X[:5], k=5)


# -- copies --------------------------------------------------------------------------


@FITS
@pytest.mark.parametrize("n_pieces", [1, 2, 3])
def test_a_copy_of_the_index_made_before_is_not_changed(n_pieces, fit, rng):
    X = rng.standard_normal((700, 4))
    index = fit_in_pieces(np.array_split(X[:60], n_pieces), fit)
    before = index.kneighbors(X, 5)
    state, copied = dict(vars(index)), copy.copy(index)
    # Places in panels that are there, and in others; worse codes than all before.
    for piece in (X[60:61], X[61:70], 1e3 * X[70:300], X[300:]):
        index.partial_fit(piece)
        earlier = type(index)(**index.get_params())
        vars(earlier).update(state)
        for old in (earlier, copied):
            assert old.n_samples_fit_ == 60
            for found, expected in zip(old.kneighbors(X, 5), before, strict=True):
                assert_array_equal(found, expected)


@FITS
@pytest.mark.parametrize("n_pieces", [1, 2, 3])
def test_both_branches_of_a_copy_take_rows_of_their_own(n_pieces, fit, rng):
    X, Q = rng.standard_normal((700, 4)), rng.standard_normal((20, 4))
    left = fit_in_pieces(np.array_split(X[:100], n_pieces), fit)
    right = copy.copy(left)
    kept = {"left": [X[:100]], "right": [X[:100]]}
    for i, piece in enumerate(np.array_split(X[100:], 30)):
        side, index = ("left", left) if i % 2 else ("right", right)
        index.partial_fit(piece)
        kept[side].append(piece)
        if i == 15:
            copied = copy.copy(left)
            expected = copied.kneighbors(Q, 5)
    assert_same_answers(left, fit(np.vstack(kept["left"])), Q, k=5)
    assert_same_answers(right, fit(np.vstack(kept["right"])), Q, k=5)
    for found, wanted in zip(copied.kneighbors(Q, 5), expected, strict=True):
        assert_array_equal(found, wanted)
