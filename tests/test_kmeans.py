"""The two halves of a k-means step against the oracle."""

import numpy as np
import pytest
import reference
import vector_kinds
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_ann import _cpu
from sklearn_ann._layout import Projection
from sklearn_ann._scalar_quantizer import (
    add_to_flat_index,
    build_flat_index,
    empty_flat_index,
)
from sklearn_ann._storage import GrowingArrays

KINDS = pytest.mark.parametrize(
    ("kind", "dtype"), vector_kinds.KINDS, ids=vector_kinds.name
)


def assign(X, centroids, n_threads=1):
    index = build_flat_index(centroids, _cpu, 1)
    return _cpu.assign(X, np.arange(len(X)), index, n_threads)


def assert_nearest(labels, X, centroids):
    """Of two centroids whose distances differ by their rounding, either may be one."""
    assert labels.dtype == np.int64
    all_sqdists = np.array([reference.sqdists(x, centroids) for x in X])
    chosen = np.take_along_axis(all_sqdists, labels[:, None], axis=1)[:, 0]
    assert_allclose(chosen, all_sqdists.min(axis=1), rtol=1e-12)
    # Equal centroids are equally near: the first is chosen.
    for label in np.unique(labels):
        assert not (centroids[:label] == centroids[label]).all(axis=1).any()


@KINDS
@pytest.mark.parametrize("nlist", [1, 2, 63, 64, 65, 200])
def test_rows_go_to_the_nearest_centroid(kind, dtype, nlist, rng):
    X, others = vector_kinds.make(kind, dtype, rng, 300, 10, 9)
    X = np.vstack([X, others])
    # Some are rows of X, some are not, some are there twice.
    centroids = np.vstack([X[:150:3], others, X[:150]])[:nlist]
    found = assign(X, centroids)
    assert_nearest(found, X, centroids)
    if kind in (vector_kinds.bytes_, vector_kinds.bits, vector_kinds.wide_integers):
        assert_array_equal(found, reference.nearest_centroids(X, centroids))


@pytest.mark.parametrize("d", [1, 3, 16, 65, 768])
@pytest.mark.parametrize("nlist", [1, 7, 64, 130])
@pytest.mark.parametrize("n", [1, 2, 4, 5, 257])
def test_every_size(d, nlist, n, rng):
    X = rng.standard_normal((n, d)).astype(np.float32)
    centroids = rng.standard_normal((nlist, d)).astype(np.float32)
    found = assign(X, centroids)
    assert_array_equal(found, reference.nearest_centroids(X, centroids))


@pytest.mark.parametrize("places", [(3, 60), (0, 129), (64, 65), (5, 63, 64, 128)])
def test_the_first_of_equally_near_centroids_wins(places):
    centroids = np.zeros((130, 2), np.float32)
    centroids[:, 0] = 100
    # All at distance 5 of the origin, and far from the others.
    for place, corner in zip(places, [(3, 4), (4, 3), (-3, 4), (0, 5)], strict=False):
        centroids[place] = corner
    assert_array_equal(assign(np.zeros((9, 2), np.float32), centroids), places[0])


def test_a_centroid_far_away_does_not_spoil_the_others(rng):
    X = rng.standard_normal((200, 5))
    centroids = np.vstack([rng.standard_normal((70, 5)), np.full((1, 5), 1e40)])
    found = assign(X, centroids)
    assert_array_equal(found, reference.nearest_centroids(X, centroids))


def test_rows_and_centroids_may_differ_in_dtype(rng):
    for dtypes in ((np.float32, np.float64), (np.float64, np.float32)):
        X, centroids = (
            rng.standard_normal((n, 5)).astype(dtype)
            for n, dtype in zip((200, 70), dtypes, strict=True)
        )
        assert_nearest(assign(X, centroids), X, centroids)


@KINDS
def test_labels_do_not_depend_on_batch_or_threads(kind, dtype, rng):
    X, _ = vector_kinds.make(kind, dtype, rng, 900, 1, 8)
    centroids = X[rng.choice(900, 70)]
    labels = assign(X, centroids)
    for n_threads in (2, 3):
        assert_array_equal(assign(X, centroids, n_threads), labels)
    for start in (0, 5, 300):
        found = assign(X[start : start + 7].copy(), centroids)
        assert_array_equal(found, labels[start : start + 7])


@KINDS
def test_guesses_and_codes_of_a_training_change_nothing(kind, dtype, rng):
    X, _ = vector_kinds.make(kind, dtype, rng, 900, 1, 70)
    rows = rng.permutation(900)[:701]
    centroids = X[rng.choice(900, 130)]
    for frame in (empty_flat_index(X), with_projection(X, rng)):
        index = add_to_flat_index(frame, centroids, GrowingArrays(), _cpu, 1)
        encoded = _cpu.encode_training_rows(X, rows, index, 2)
        # Those of a training are the codes for all of its centroids.
        moved = (centroids + rng.normal(0, 0.1, centroids.shape)).astype(dtype)
        for some in (centroids, moved):
            expected = _cpu.assign(X, rows, build_flat_index(some, _cpu, 1), 1)
            index = add_to_flat_index(frame, some, GrowingArrays(), _cpu, 1)
            for guesses in (None, expected, rng.integers(0, 130, 701)):
                given = None if guesses is None else guesses.copy()
                found = _cpu.assign(X, rows, index, 2, encoded, guesses)
                assert_array_equal(found, expected)
                assert_array_equal(guesses, given)


def with_projection(X, rng):
    """A frame for rows like X, whose codes in panels are of 31 axes and a tail."""
    frame, axes = empty_flat_index(X), np.zeros((X.shape[1], 32), np.float32)
    axes[:, :-1] = np.linalg.qr(rng.standard_normal((X.shape[1], 31)))[0] * (1 - 1e-5)
    codes = np.empty((0, 8, 64, 4), np.uint8)
    return frame._replace(projection=Projection(axes, np.zeros(32)), codes=codes)


# -- sums ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_clusters", [1, 2, 9, 200])
def test_sums_of_clusters(dtype, n_clusters, rng):
    X = rng.standard_normal((400, 5)).astype(dtype)
    rows = rng.permutation(400)[:300]
    labels = rng.integers(0, n_clusters, 300)
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(n_clusters + 1))
    # In the order of the rows, in float64: to the last bit.
    expected = np.zeros((n_clusters, 5))
    np.add.at(expected, labels, X[rows].astype(np.float64))
    for n_threads in (1, 2, 7):
        sums = _cpu.accumulate_clusters(X, rows, order, starts, n_threads)
        assert_array_equal(sums, expected, strict=True)


def test_empty_clusters_add_up_to_zero(rng):
    X = rng.standard_normal((3, 2))
    starts = np.array([0, 0, 1, 1, 3, 3])
    rows, order = np.array([1, 0, 2]), np.array([2, 0, 1])
    sums = _cpu.accumulate_clusters(X, rows, order, starts, 2)
    zero = np.zeros(2)
    assert_array_equal(sums, [zero, X[2], zero, X[0] + X[1], zero])


def test_sums_of_float32_are_kept_in_float64():
    X = np.array([[2.0**25], [1.0], [1.0], [-(2.0**25)]], np.float32)
    rows = np.arange(4)
    sums = _cpu.accumulate_clusters(X, rows, rows, np.array([0, 4]), 1)
    assert_array_equal(sums, [[2.0]])


def test_some_rows_are_assigned_in_the_order_given(rng):
    X = rng.standard_normal((300, 5)).astype(np.float32)
    centroids = X[:20].copy()
    rows = rng.permutation(300)[:200]
    index = build_flat_index(centroids, _cpu, 1)
    labels = _cpu.assign(X, rows, index, 2)
    all_labels = _cpu.assign(X, np.arange(300), index, 1)
    assert_array_equal(labels, all_labels[rows])
