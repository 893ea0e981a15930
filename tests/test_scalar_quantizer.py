"""The theorem behind the search: what the 8-bit codes say of a distance is true.

Checked in long double, which is more exact and has a wider range than what the package
computes with.
"""

import numba
import numpy as np
import pytest
import vector_kinds
from numpy.testing import assert_array_equal

from sklearn_ann import FlatL2Neighbors
from sklearn_ann._cpu._filter import encode_queries, filter_panels, set_threshold
from sklearn_ann._cpu._quantize import centre

KINDS = pytest.mark.parametrize(
    ("kind", "dtype"), vector_kinds.KINDS, ids=vector_kinds.name
)
WIDTHS = pytest.mark.parametrize("d", [1, 3, 16, 65])


def make_index(X):
    return FlatL2Neighbors(n_jobs=1).fit(X)._index


def signed_codes(index):
    """The codes of the indexed rows, from -128 to 127: one row, one vector."""
    n, d = index.X.shape
    n_panels, steps, lanes, step = index.codes.shape
    rows = index.codes.transpose(0, 2, 1, 3).reshape(n_panels * lanes, steps * step)
    return rows[:n, :d].astype(np.int64) - 128


def long_distances(Q, X):
    differences = Q.astype(np.longdouble)[:, None] - X.astype(np.longdouble)
    return np.sqrt((differences**2).sum(axis=2))


def filtered(index, Q, thresholds):
    """What the filter leaves for each query: row numbers, lower and upper bounds."""
    n = len(index.X)
    block = encode_queries(0, len(Q), Q, index, n + 64)
    block.marks[:] = n
    for i, threshold in enumerate(thresholds):
        set_threshold(block, i, threshold, index.error_ratio)
    dots = np.empty((4, 64), np.int32)
    panels, members = np.arange(len(index.codes)), np.arange(len(Q))
    queries = block.codes, block.biases
    end = filter_panels(panels, 0, members, *queries, block, index, n, dots)
    assert end == len(panels)
    for i, count in enumerate(block.counts[: len(Q)]):
        yield tuple(
            array[i, :count] for array in (block.rows, block.lowers, block.uppers)
        )


def assert_codes_keep_their_promise(index):
    """Rows are near to their codes, and sqnorms are on the safe side."""
    n = len(index.X)
    # -inf marks rows that have no codes.
    is_coded = index.sqnorms[:n] > -np.inf
    scales = index.scales[:n].astype(np.longdouble)
    decoded = scales[:, None] * signed_codes(index)
    errors = (index.X - index.center) / np.longdouble(index.unit) - decoded
    allowed = index.error_ratio * scales
    # The bounds allow for what underflows, which is less than this.
    lengths = np.sqrt((errors**2).sum(axis=1))
    assert (lengths <= allowed + 1e-30)[is_coded].all()
    sqnorms = (decoded**2).sum(axis=1) - allowed**2
    assert (index.sqnorms[:n] <= sqnorms)[is_coded].all()


@KINDS
@WIDTHS
def test_rows_are_as_near_to_their_codes_as_the_index_says(kind, dtype, d, rng):
    X, _ = vector_kinds.make(kind, dtype, rng, 300, 1, d)
    assert_codes_keep_their_promise(make_index(X))


@KINDS
def test_added_rows_are_as_near_to_their_codes_as_the_index_says(kind, dtype, rng):
    # These lose nothing to their codes, so that most rows to add lose more.
    integers = rng.integers(0, 256, (100, 16)).astype(dtype)
    X, _ = vector_kinds.make(kind, dtype, rng, 300, 1, 16)
    index = FlatL2Neighbors(n_jobs=1).fit(integers).partial_fit(X)._index
    assert_array_equal(index.X, np.vstack([integers, X]))
    assert_codes_keep_their_promise(index)


@KINDS
@WIDTHS
def test_bounds_enclose_the_distance(kind, dtype, d, rng):
    X, Q = vector_kinds.make(kind, dtype, rng, 300, 9, d)
    index = make_index(X)
    distances = long_distances(Q, X) / index.unit
    # The package allows for the rounding of float64 where it uses the bounds.
    slack = 1 + 1e-9
    everything = filtered(index, Q, [np.inf] * len(Q))
    for exact, (rows, lowers, uppers) in zip(distances, everything, strict=True):
        assert_array_equal(rows, np.arange(len(X)))
        assert (lowers <= exact * slack).all()
        assert (exact <= uppers * slack).all()


@KINDS
@WIDTHS
@pytest.mark.parametrize("place", [0, 10, 200])
def test_no_row_within_the_threshold_is_dropped(kind, dtype, d, place, rng):
    X, Q = vector_kinds.make(kind, dtype, rng, 300, 9, d)
    index = make_index(X)
    distances = long_distances(Q, X) / index.unit
    thresholds = np.sort(distances, axis=1)[:, place].astype(np.float64)
    for exact, threshold, (rows, _, _) in zip(
        distances, thresholds, filtered(index, Q, thresholds), strict=True
    ):
        assert set(np.flatnonzero(exact <= threshold)) <= set(rows)


@pytest.mark.parametrize("factor", [1.0, 0.7317])
def test_bounds_hold_where_they_are_tight(factor):
    # Codes are off by one half, straight towards the query or away from it.
    halves = np.stack([np.full(120, 127.0), np.arange(-60, 60) + 0.5], axis=1)
    X = factor * np.hstack([halves, -halves]).reshape(240, 2)
    Q = factor * np.stack([np.full(6, 127.0), [-101, -60, -3, 0, 8, 101]], axis=1)
    index = make_index(X)
    assert not index.center.any()
    distances = long_distances(Q, X) / index.unit
    everything = filtered(index, Q, [np.inf] * len(Q))
    for exact, (_, lowers, uppers) in zip(distances, everything, strict=True):
        assert (lowers <= exact * (1 + 1e-9)).all()
        assert (exact <= uppers * (1 + 1e-9)).all()
    for place in range(0, 240, 7):
        thresholds = np.sort(distances, axis=1)[:, place].astype(np.float64)
        for exact, threshold, (rows, _, _) in zip(
            distances, thresholds, filtered(index, Q, thresholds), strict=True
        ):
            assert set(np.flatnonzero(exact <= threshold)) <= set(rows)


@pytest.mark.parametrize("d", [16, 65])
def test_the_filter_drops_most_rows_of_ordinary_data(d, rng):
    # The theorem is also true of a filter that drops nothing.
    X, Q = vector_kinds.make(vector_kinds.normal, np.float32, rng, 3000, 20, d)
    index = make_index(X)
    nearest = np.sort(long_distances(Q, X) / index.unit, axis=1)[:, 9]
    n_kept = [len(rows) for rows, _, _ in filtered(index, Q, nearest.astype(float))]
    assert np.mean(n_kept) < 60


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [-128, 0, 10**6])
@pytest.mark.parametrize("span", [1, 255])
def test_integers_that_fit_a_byte_lose_nothing(dtype, offset, span, rng):
    X = (offset + rng.integers(0, span + 1, (200, 9))).astype(dtype)
    index = make_index(X)
    assert index.error_ratio == 0
    decoded = index.center + index.unit * index.scales[:200, None] * signed_codes(index)
    assert_array_equal(decoded, X)


@pytest.mark.parametrize(("d", "dtype"), [(128, np.float32), (768, np.float32)])
def test_the_codes_take_little_memory_beside_the_vectors(d, dtype, rng):
    X = rng.standard_normal((6400, d)).astype(dtype)
    index = make_index(X)
    assert np.shares_memory(index.X, X)
    arrays = [field for field in index if isinstance(field, np.ndarray)]
    assert sum(array.nbytes for array in arrays) <= 1.27 * X.nbytes


def test_the_same_data_give_the_same_arrays(rng):
    X = rng.standard_normal((70, 5))
    junk = np.full(10**6, 77, np.uint8)
    first = make_index(X)
    del junk
    for field, again in zip(first, make_index(X.copy()), strict=True):
        assert_array_equal(field, again)


def test_threads_make_the_same_arrays(rng, split_work):
    X = rng.standard_normal((9000, 5))
    index = FlatL2Neighbors(n_jobs=3).fit(X)._index
    for field, expected in zip(index, make_index(X), strict=True):
        assert_array_equal(field, expected)


def test_arrays_of_the_index_cannot_be_written(rng):
    index = make_index(rng.standard_normal((70, 5)))
    arrays = [field for field in index if isinstance(field, np.ndarray)]
    assert len(arrays) == 7
    assert not any(array.flags.writeable for array in arrays)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [1, 15, 16, 37])
def test_a_row_is_centred_and_its_largest_magnitude_is_known(d, dtype, rng):
    X, center = rng.normal(size=(3, d)).astype(dtype), rng.normal(size=d)
    centred = np.empty(d)
    largest = _centre(X, 1, center, 0.25, centred)
    assert_array_equal(centred, (X[1].astype(np.float64) - center) * 0.25)
    assert largest == np.abs(centred).max()


@pytest.mark.parametrize("at", [0, 15, 16, 20])
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_the_largest_magnitude_is_not_finite_if_a_feature_is_not(value, at, rng):
    X = rng.normal(size=(1, 21))
    X[0, at] = value
    largest = _centre(X, 0, np.zeros(21), 1.0, np.empty(21))
    assert_array_equal(largest, abs(value))


@numba.njit
def _centre(X, i, center, per_unit, centred):
    return centre(X, i, center, per_unit, centred)
