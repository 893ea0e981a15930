"""Searches that read a projection first: the same answers, and a promise kept.

`projected` makes every index of rows have one, however few there are.
"""

import pickle

import joblib
import numpy as np
import pytest
import reference
import vector_kinds
from numpy.testing import assert_allclose, assert_array_equal
from parts import called

from sklearn_ann import (
    FlatL2Neighbors,
    IVFFlatNeighbors,
    _principal_axes,
    _scalar_quantizer,
)
from sklearn_ann._cpu import _sq8_project
from sklearn_ann._layout import Projection, read_only_index
from sklearn_ann._principal_axes import (
    Searches,
    choose_projection,
    makes_no_distance_longer,
    no_projection,
)

empty_vectors = called(_sq8_project.empty_vectors)
project = called(_sq8_project.project)

D, WIDTH = 70, 32
WHOLE = Searches(share_read=1.0, n_neighbors=10)


def axes_of(columns):
    """Orthonormal axes in the span of some columns, and one of zeros."""
    axes = np.zeros((len(columns), columns.shape[1] + 1), np.float32)
    axes[:, :-1] = np.linalg.qr(columns.astype(np.float64))[0] * (1 - 1e-5)
    return axes


def fit_axes(X, center, unit, searches=WHOLE):
    """A projection of any data: on directions of a sample, or on some others."""
    if searches is None:
        return no_projection(X.shape[1])
    sample = _principal_axes._sample(X, center, unit)
    if sample is None:
        columns = np.random.default_rng(0).standard_normal((X.shape[1], WIDTH - 1))
        return Projection(axes_of(columns), np.zeros(WIDTH))
    directions = _principal_axes._principal_directions(sample, WIDTH)
    return _principal_axes._projection(sample, directions, WIDTH)


@pytest.fixture
def projected(monkeypatch):
    monkeypatch.setattr(_scalar_quantizer, "choose_projection", fit_axes)
    monkeypatch.setattr(_principal_axes, "choose_projection", fit_axes)


def is_projected(estimator):
    return len(estimator._flat_index().projection.middle) > 0


def make_flat(k=5):
    return FlatL2Neighbors(k, n_jobs=1)


def make_lists(k=5, nlist=6, nprobe=3):
    return IVFFlatNeighbors(k, nlist=nlist, nprobe=nprobe, random_state=0, n_jobs=1)


def correlated(rng, n, d=160, n_factors=8, noise=0.02):
    factors = rng.standard_normal((n, n_factors)) @ rng.standard_normal((n_factors, d))
    return (factors + noise * rng.standard_normal((n, d))).astype(np.float32)


# -- the projection ------------------------------------------------------------------


def exact_images(centered, axes):
    """Projections in long double."""
    y, A = centered.astype(np.longdouble), axes[:, :-1].astype(np.longdouble)
    images = y @ A
    kept = np.eye(len(A), dtype=np.longdouble) - A @ A.T
    tails = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", y, kept, y), 0))
    return np.column_stack([images, tails])


@pytest.mark.parametrize("scale", [1.0, 2.0**-55, 2.0**-30, 2.0**38])
@pytest.mark.parametrize("d", [33, 64, 200])
@pytest.mark.parametrize("kind", ["any", "inside", "outside", "nearly inside"])
def test_an_image_is_as_near_as_its_error_says(kind, d, scale, rng):
    axes = axes_of(rng.standard_normal((d, WIDTH - 1)))
    within = axes[:, :-1].astype(np.float64)
    y = rng.standard_normal((4, d))
    if kind != "any":
        inside = y @ within @ within.T
        y = {"inside": inside, "outside": y - inside}.get(kind, inside + 1e-6 * y)
    y *= scale / np.abs(y).max()
    projection = Projection(axes, np.zeros(WIDTH))
    vectors = empty_vectors(d, WIDTH)
    vectors.centered[:], vectors.magnitudes[:] = y, np.abs(y).max(axis=1)
    project(4, vectors, read_only_index(projection))
    differences = vectors.images - exact_images(y, axes)
    assert (np.sqrt((differences**2).sum(axis=1)) <= vectors.errors).all()
    assert (vectors.errors < 1e-2 * np.sqrt(d) * scale).all()


def test_a_vector_out_of_range_has_its_length_as_the_error(rng):
    projection = Projection(
        axes_of(rng.standard_normal((D, WIDTH - 1))), rng.standard_normal(WIDTH)
    )
    vectors = empty_vectors(D, WIDTH)
    for i, scale in enumerate([2.0**41, 2.0**-61]):
        vectors.centered[i], vectors.magnitudes[i] = scale, scale
    project(2, vectors, read_only_index(projection))
    assert_array_equal(vectors.images[:2], 0)
    lengths = np.linalg.norm(vectors.centered[:2], axis=1)
    least = lengths + np.linalg.norm(projection.middle)
    assert (vectors.errors[:2] >= least).all()
    # The center itself is in range.
    assert vectors.errors[2] == 0


@pytest.mark.usefixtures("projected")
def test_a_row_out_of_range_does_not_spoil_the_others(rng):
    X = np.vstack([correlated(rng, 500), np.zeros((1, 160))]).astype(np.float64)
    X -= X.mean(axis=0)
    before = FlatL2Neighbors().fit(X[:-1])._index
    # Near the center, but not there.
    X[-1] = before.center + 2.0**-75 * before.unit
    index = FlatL2Neighbors().fit(X)._index
    assert index.error_ratio < 2 * before.error_ratio
    assert np.isneginf(index.sqnorms).sum() <= 1


# -- answers -------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "dtype"), vector_kinds.KINDS, ids=vector_kinds.name)
@pytest.mark.parametrize("make", [make_flat, make_lists])
def test_answers_do_not_depend_on_a_projection(make, kind, dtype, rng, monkeypatch):
    X, Q = vector_kinds.make(kind, dtype, rng, 700, 30, D)
    plain = make().fit(X)
    monkeypatch.setattr(_scalar_quantizer, "choose_projection", fit_axes)
    index = make().fit(X)
    assert is_projected(index)
    assert not is_projected(plain)
    for k in (1, 10, 300, 700):
        for queries in (Q, Q[:1], None):
            k_here = min(k, 699) if queries is None else k
            found, expected = (
                each.kneighbors(queries, k_here) for each in (index, plain)
            )
            assert_array_equal(found[1], expected[1])
            assert_array_equal(found[0], expected[0])
    radius = np.median(plain.kneighbors(Q, 50)[0])
    for with_distances in (True, False):
        found, expected = (
            each.radius_neighbors(Q, radius, return_distance=with_distances)
            for each in (index, plain)
        )
        for ids, others in zip(np.ravel(found), np.ravel(expected), strict=True):
            assert_array_equal(ids, others)


@pytest.mark.usefixtures("projected")
@pytest.mark.parametrize("k", [1, 10, 100])
@pytest.mark.parametrize("nq", [1, 5, 64, 130])
def test_search_as_the_oracle(nq, k, rng):
    X, Q = correlated(rng, 9000), correlated(rng, nq)
    index = FlatL2Neighbors(k, metric="sqeuclidean", n_jobs=1).fit(X)
    sqdists, ids = index.kneighbors(Q)
    expected_sqdists, expected_ids = reference.knn_of_many(Q, X, k)
    assert_array_equal(ids, expected_ids)
    assert_allclose(sqdists, expected_sqdists, rtol=1e-12)


@pytest.mark.usefixtures("projected")
@pytest.mark.parametrize("k", [1, 10, 100])
@pytest.mark.parametrize("nq", [1, 5, 130])
def test_search_of_lists_as_the_oracle(nq, k, rng):
    X, Q = correlated(rng, 9000), correlated(rng, nq)
    index = make_lists(k, nlist=20, nprobe=4).fit(X)
    _, probes = reference.knn(Q, index.cluster_centers_.astype(np.float64), 4)
    _, ids = index.kneighbors(Q)
    labels = index._labels()
    for i in range(nq):
        rows = np.flatnonzero(np.isin(labels, probes[i]))
        assert_array_equal(ids[i], rows[reference.knn(Q[i : i + 1], X[rows], k)[1][0]])


@pytest.mark.usefixtures("projected")
@pytest.mark.parametrize("order", ["nearest first", "nearest last"])
def test_rows_in_the_order_of_their_distance(order, rng):
    X = correlated(rng, 9000)
    q = X[:1] + np.float32(0.01)
    by_distance = reference.knn(q, X, len(X))[1][0]
    X = X[by_distance if order == "nearest first" else by_distance[::-1]]
    ids = FlatL2Neighbors(100, n_jobs=1).fit(X).kneighbors(q, return_distance=False)
    nearest = np.arange(100)
    assert_array_equal(ids[0], nearest if order == "nearest first" else 8999 - nearest)


@pytest.mark.usefixtures("projected")
def test_half_of_the_rows_equal(rng):
    X = correlated(rng, 4000)
    X[rng.permutation(4000)[:2000]] = X[7]
    Q = np.vstack([X[7:8], correlated(rng, 20)])
    ids = FlatL2Neighbors(50, n_jobs=1).fit(X).kneighbors(Q, return_distance=False)
    assert_array_equal(ids, reference.knn(Q, X, 50)[1])


@pytest.mark.usefixtures("projected")
@pytest.mark.parametrize("make", [make_flat, make_lists])
def test_added_rows_and_files(make, rng, tmp_path):
    X, Q = correlated(rng, 3000), correlated(rng, 10)
    index = make(10).partial_fit(X[:300])
    for start in range(300, 3000, 270):
        index.partial_fit(X[start : start + 270])
    assert is_projected(index)
    whole = make(10)
    if make is make_lists:
        whole.set_params(init=index.cluster_centers_, max_iter=0)
    expected = whole.fit(X).kneighbors(Q)
    joblib.dump(index, tmp_path / "index")
    for other in (
        index,
        pickle.loads(pickle.dumps(index)),
        joblib.load(tmp_path / "index", mmap_mode="r"),
    ):
        assert is_projected(other)
        for found, wanted in zip(other.kneighbors(Q), expected, strict=True):
            assert_array_equal(found, wanted)


# -- the choice ----------------------------------------------------------------------


def test_correlated_features_get_a_projection_and_others_none(rng):
    n = 30_000
    index = FlatL2Neighbors().fit(correlated(rng, n))
    assert is_projected(index)
    assert index._index.codes.shape[1] == len(index._index.projection.middle) // 4
    assert not is_projected(FlatL2Neighbors().fit(rng.standard_normal((n, 160))))
    # Fewer bytes of codes are read as fast as they are.
    assert not is_projected(FlatL2Neighbors().fit(correlated(rng, 5000)))


def test_the_same_rows_get_the_same_projection(rng):
    X = correlated(rng, 30_000)
    first, second = (FlatL2Neighbors().fit(X)._index.projection for _ in range(2))
    assert_array_equal(first.axes, second.axes)
    assert_array_equal(first.middle, second.middle)
    assert makes_no_distance_longer(first.axes)


@pytest.mark.parametrize("value", [0.0, 1e300])
def test_rows_that_tell_nothing_get_none(value):
    X = np.full((40_000, 64), value)
    X[0] = 1.0
    assert len(choose_projection(X, np.zeros(64), 1.0, WHOLE).middle) == 0


def width_of(X, share_read=1.0, n_neighbors=10):
    searches = Searches(share_read=share_read, n_neighbors=n_neighbors)
    center = X.mean(axis=0, dtype=np.float64)
    return len(choose_projection(X, center, 16.0, searches).middle)


def test_a_projection_pays_where_many_rows_are_read(rng):
    X = correlated(rng, 60_000)
    assert width_of(X) > 0
    assert width_of(X, share_read=0.5) > 0
    assert width_of(X, share_read=0.01) == 0
    # Nor do centroids have one.
    assert len(choose_projection(X, X.mean(axis=0), 16.0, None).middle) == 0


def test_a_projection_that_leaves_a_row_for_each_neighbor_does_not_pay(rng):
    X = correlated(rng, 30_000)
    assert width_of(X, n_neighbors=10) > 0
    assert width_of(X, n_neighbors=1000) == 0


def test_lists_have_a_projection_if_they_are_few_and_long(rng):
    X = correlated(rng, 60_000)
    few = make_lists(10, nlist=8, nprobe=2).fit(X)
    many = make_lists(10, nlist=800, nprobe=2).fit(X)
    assert is_projected(few)
    assert not is_projected(many)
    # Centroids have none.
    assert len(few._index.centroids.projection.middle) == 0


@pytest.mark.parametrize("n", [1000, 2048, 8000, 12_000, 20_000, 30_000, 100_000])
def test_the_reach_of_neighbors_that_the_sample_lacks(n, rng):
    # Points uniform on a torus: the k-th of n is at the radius of a ball of volume k/n.
    d, k = 4, 10
    points = rng.random((2048, d))
    differences = np.abs(points[:64, None] - points)
    differences = np.minimum(differences, 1 - differences)
    reach = _principal_axes._reach(np.linalg.norm(differences, axis=2), n, k)
    expected = (k / n / (np.pi**2 / 2)) ** (1 / d)
    assert np.exp(np.log(reach).mean()) == pytest.approx(expected, rel=0.08)


@pytest.mark.parametrize("make", [make_flat, make_lists])
def test_the_type_of_n_neighbors_does_not_matter(make, rng):
    X = correlated(rng, 30_000)
    small, plain = make(np.int8(10)).fit(X), make(10).fit(X)
    projections = [each._flat_index().projection for each in (small, plain)]
    assert is_projected(small)
    assert_array_equal(projections[0].axes, projections[1].axes)


def test_a_projection_is_chosen_when_rows_have_become_many(rng):
    X = correlated(rng, 40_000)
    index = FlatL2Neighbors().partial_fit(X[:5000])
    assert not is_projected(index)
    index.partial_fit(X[5000:])
    assert is_projected(index)


def test_a_projection_is_given_up_when_it_does_not_fit(rng):
    X = correlated(rng, 30_000)
    index = FlatL2Neighbors().fit(X)
    assert is_projected(index)
    index.partial_fit(10 * rng.standard_normal((90_000, 160)))
    assert not is_projected(index)


@pytest.mark.parametrize("rank", [1, 20, 69, 70])
@pytest.mark.parametrize("smallest", [1.0, 1e-3, 1e-6, 1e-12])
def test_no_axis_is_longer_than_1_whatever_the_spectrum(rank, smallest, rng):
    turn = np.linalg.qr(rng.standard_normal((D, D)))[0][:rank]
    X = rng.standard_normal((3000, rank)) * np.geomspace(1, smallest, rank) @ turn
    projection = fit_axes(X, X.mean(axis=0), 1.0)
    assert makes_no_distance_longer(projection.axes)
    # And they are those that keep the most of the squared lengths.
    Y = X - X.mean(axis=0)
    kept = np.square(Y @ projection.axes).sum()
    most = np.square(np.linalg.svd(Y, compute_uv=False)[: WIDTH - 1]).sum()
    assert kept >= 0.9 * most


def test_axes_that_make_distances_longer_are_told(rng):
    axes = axes_of(rng.standard_normal((D, WIDTH - 1)))
    assert makes_no_distance_longer(axes)
    assert makes_no_distance_longer(no_projection(D).axes)
    assert not makes_no_distance_longer(axes * np.float32(1.001))
    assert not makes_no_distance_longer(axes * np.float32(np.nan))
    assert not makes_no_distance_longer(np.roll(axes, 1, axis=1))


@pytest.mark.usefixtures("projected")
@pytest.mark.parametrize(
    ("part", "name", "damage"),
    [
        ("projection", "axes", lambda a: 2 * a),
        ("projection", "axes", lambda a: a[:, 1:].copy()),
        ("projection", "middle", lambda a: a * np.nan),
        ("projection", "middle", lambda a: a[1:]),
        ("full", "codes", lambda a: a[:-1]),
        ("full", "scales", lambda a: -a),
        ("full", "sqnorms", np.zeros_like),
        ("full", "error_ratio", lambda ratio: -1.0),
    ],
)
def test_a_damaged_projection_is_refused(part, name, damage, rng):
    index = FlatL2Neighbors().fit(correlated(rng, 100))
    state = index.__getstate__()
    stored = state["_stored_index"][part]
    stored[name] = damage(stored[name])
    with pytest.raises(ValueError, match="must"):
        FlatL2Neighbors().__setstate__(state)
