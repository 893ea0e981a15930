"""Vectors in float32, and the bounds of what the filter computes from them."""

import cuda_lane
import numpy as np
import pytest
import vector_kinds
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_ann import _cpu
from sklearn_ann._cuda import (
    _candidates,
    _fp32_filter,
    _fp32_vectors,
    _image,
    _queries,
)
from sklearn_ann._cuda._compat import to_device
from sklearn_ann._scalar_quantizer import add_to_flat_index, build_flat_index
from sklearn_ann._storage import GrowingArrays

KINDS = pytest.mark.parametrize(
    ("kind", "dtype"), vector_kinds.KINDS, ids=vector_kinds.name
)


def all_pairs(X, Q):
    """The image of X, the queries, and low and upper of each pair."""
    index = build_flat_index(X, _cpu, 1)
    image = _image.image_of(index)
    queries = _queries.upload_queries(Q, image)
    padded, n = len(queries.sqnorms), len(X)
    starts = _candidates.equal_starts(len(Q), padded, 2 * n)
    candidates = _candidates.empty_candidates(starts)
    thresholds = np.full(padded, np.nan, np.float32)
    thresholds[: len(Q)] = np.inf
    thresholds = to_device(thresholds)
    _fp32_filter.filter_tiles(queries, image, 0, image.n_tiles, thresholds, candidates)
    assert_array_equal(candidates.counts.copy_to_host()[: len(Q)], n)
    lowers, uppers = np.empty((2, len(Q), n), np.float32)
    for i in range(len(Q)):
        positions = candidates.positions.copy_to_host()[2 * n * i :][:n]
        lowers[i, positions] = candidates.lowers.copy_to_host()[2 * n * i :][:n]
        uppers[i, positions] = candidates.uppers.copy_to_host()[2 * n * i :][:n]
    return index, image, queries, lowers, uppers


@KINDS
def test_bounds_hold_for_every_pair(kind, dtype, n_at_once, rng):
    X, Q = vector_kinds.make(kind, dtype, rng, 70, 4, 5)
    index, image, queries, lowers, uppers = all_pairs(X, Q)
    wide = np.longdouble
    difference = (Q[:, None].astype(wide) - X[None].astype(wide)) / wide(index.unit)
    sqdists = (difference**2).sum(axis=2)
    qnorms = queries.sqnorms.copy_to_host()[: len(Q), None].astype(wide)
    a = wide(1) - wide(image.bound.lower_factor)
    with np.errstate(invalid="ignore"):
        # A query without an image has an infinite norm, and no finite bound.
        is_above = ~np.isfinite(qnorms) | (lowers - a * qnorms + qnorms <= sqdists)
        limits = uppers + a * qnorms + 4 * wide(image.bound.underflow) + qnorms
        is_below = ~np.isfinite(qnorms) | (sqdists <= limits)
    assert is_above.all()
    assert is_below.all()


def test_bounds_of_everyday_data_are_tight(rng):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float32, rng, 70, 4, 64)
    *_, lowers, uppers = all_pairs(X, Q)
    assert (uppers - lowers).max() < 1e-4 * np.ptp(lowers)


@pytest.mark.parametrize("order", cuda_lane.ORDERS)
def test_images_are_the_centred_rows_in_panels(order, rng):
    cuda_lane.set_order(order)
    X = rng.standard_normal((150, 13))
    X[7], X[9] = 1e30, 0
    index = build_flat_index(X, _cpu, 1)
    image = _image.image_of(index)
    assert (image.n_steps, image.n_tiles) == (4, 2)
    vectors = image.vectors.copy_to_host().reshape(4, 4, 64, 4)
    rows = vectors.transpose(0, 2, 1, 3).reshape(256, 16)
    expected = np.zeros((256, 16), np.float32)
    expected[:150, :13] = (X - index.center) / index.unit
    assert_array_equal(rows, expected)
    sqnorms = image.sqnorms.copy_to_host()
    lowered = (expected[:150].astype(float) ** 2).sum(axis=1) * image.bound.lower_factor
    assert_allclose(sqnorms[:150], lowered, rtol=1e-6)
    assert_array_equal(sqnorms[150:], np.inf)
    assert_array_equal(image.ids.copy_to_host()[[0, 149, 150]], [0, 149, -1])


def test_rows_far_outside_have_no_image_and_are_never_dropped(rng):
    index = build_flat_index(1e-13 * rng.standard_normal((70, 2)), _cpu, 1)
    # The center and the unit stay those of the first rows.
    more = np.full((1, 2), 1e20)
    index = add_to_flat_index(index, more, GrowingArrays(), _cpu, 1)
    image = _image.image_of(index)
    assert image.sqnorms.copy_to_host()[70] == -np.inf
    vectors = image.vectors.copy_to_host().reshape(-1, 64, 4)
    assert_array_equal(vectors[image.n_steps :, 6], 0)


def test_queries_that_are_not_finite_have_no_length(rng):
    X = rng.standard_normal((20, 3))
    Q = np.vstack([X[:1], X[:1], X[:1], X[:1]])
    Q[1, 2], Q[2, 0], Q[3, 1] = np.nan, -np.inf, 1e300
    image = _image.image_of(build_flat_index(X, _cpu, 1))
    sqnorms = _queries.upload_queries(Q, image).sqnorms.copy_to_host()
    assert np.isfinite(sqnorms[0])
    assert_array_equal(sqnorms[1:4], [np.nan, np.nan, np.inf])
    assert np.isnan(sqnorms[4:]).all()


def test_too_many_features_are_an_error():
    with pytest.raises(ValueError, match="at most 262144"):
        _fp32_vectors.bound_for(2**18 + 1)


@pytest.mark.parametrize("n_tiles", [*range(1, 40), 1000, 7813])
def test_the_stride_visits_every_tile_once_and_spreads_the_first(n_tiles):
    stride = _fp32_filter.tile_stride(n_tiles)
    visited = np.arange(n_tiles) * stride % n_tiles
    assert_array_equal(np.sort(visited), range(n_tiles))
    if n_tiles >= 1000:
        first = np.sort(visited[:16])
        assert np.diff(first).max() < n_tiles / 4
