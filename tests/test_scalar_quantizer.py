"""The theorem behind the search: what the 8-bit codes say of a distance is true.

Checked in long double, which is more exact and has a wider range than what the package
computes with.
"""

import copy
import functools

import numba
import numpy as np
import pytest
import vector_kinds
from numpy.testing import assert_array_equal
from parts import called

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, _cpu
from sklearn_ann._cpu import _sq8_block, _sq8_filter
from sklearn_ann._cpu._jit import jit
from sklearn_ann._cpu._sq8_quantize import subtract_center

encode_queries = called(_sq8_block.encode_queries)
set_threshold = called(_sq8_block.set_threshold)
filter_panels = called(_sq8_filter.filter_panels)
bound_noted = _sq8_filter.bound_noted

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
    block.full_at[:] = n
    for i, threshold in enumerate(thresholds):
        set_threshold(block, i, threshold, index)
    dots = np.empty((4, 64), np.int32)
    panels, members = np.arange(len(index.codes)), np.arange(len(Q))
    queries = block.panels.codes, block.panels.biases
    end = filter_panels(panels, 0, members, *queries, block, index, n, dots)
    assert end == len(panels)
    bound_all(members, block, index)
    for i, count in enumerate(block.counts[: len(Q)]):
        yield tuple(
            array[i, :count] for array in (block.rows, block.lowers, block.uppers)
        )


@jit
def bound_all(members, block, index):
    for i in members:
        bound_noted(i, block, index)


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


def assert_same_arrays(index, expected):
    for field, wanted in zip(index, expected, strict=True):
        if isinstance(wanted, tuple):
            assert_same_arrays(field, wanted)
        else:
            assert_array_equal(field, wanted)


def test_the_same_data_give_the_same_arrays(rng):
    X = rng.standard_normal((70, 5))
    junk = np.full(10**6, 77, np.uint8)
    first = make_index(X)
    del junk
    assert_same_arrays(first, make_index(X.copy()))


def test_threads_make_the_same_arrays(rng, split_work):
    X = rng.standard_normal((9000, 5))
    index = FlatL2Neighbors(n_jobs=3).fit(X)._index
    assert_same_arrays(index, make_index(X))


def test_arrays_of_the_index_cannot_be_written(rng):
    index = make_index(rng.standard_normal((70, 5)))
    arrays = [field for field in index if isinstance(field, np.ndarray)]
    assert len(arrays) == 7
    assert not any(array.flags.writeable for array in arrays)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [1, 15, 16, 37])
def test_a_row_is_centred_and_its_largest_magnitude_is_known(d, dtype, rng):
    X, center = rng.normal(size=(3, d)).astype(dtype), rng.normal(size=d)
    centered = np.empty(d)
    largest = _center(X, 1, center, 0.25, centered)
    assert_array_equal(centered, (X[1].astype(np.float64) - center) * 0.25)
    assert largest == np.abs(centered).max()


@pytest.mark.parametrize("at", [0, 15, 16, 20])
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_the_largest_magnitude_is_not_finite_if_a_feature_is_not(value, at, rng):
    X = rng.normal(size=(1, 21))
    X[0, at] = value
    largest = _center(X, 0, np.zeros(21), 1.0, np.empty(21))
    assert_array_equal(largest, abs(value))


@numba.njit
def _center(X, i, center, per_unit, centered):
    return subtract_center(X, i, center, per_unit, centered)


# -- what is chosen again when the rows have doubled ---------------------------------

FITS = pytest.mark.parametrize(
    "make",
    [FlatL2Neighbors, functools.partial(IVFFlatNeighbors, nlist=1, nprobe=1)],
    ids=["flat", "lists"],
)


def flat_index(estimator):
    index = estimator._index
    return getattr(index, "rows", index)


def fit_in_pieces(make, X, sizes):
    index = make(n_jobs=1)
    for piece in np.split(X, np.cumsum(sizes)):
        index.partial_fit(piece)
    return flat_index(index)


def typical_error(index):
    """Of the codes of a row, in the units of X."""
    scales = index.scales[np.isfinite(index.sqnorms)]
    return index.error_ratio * np.median(scales) * index.unit


@FITS
@pytest.mark.parametrize("size", [1e-25, 1.0, 1e25])
@pytest.mark.parametrize(
    "sizes", [[1], [1, *[250] * 7], [1] * 700, [2, 3, 100, 1000]], ids=len
)
def test_codes_are_as_good_as_of_one_fit_wherever_the_first_rows_were(
    make, size, sizes, rng
):
    X = size * (1000 + rng.standard_normal((2000, 6)))
    X[0] = 0
    expected = flat_index(make().fit(X))
    index = fit_in_pieces(make, X, sizes)
    assert typical_error(index) < 1.3 * typical_error(expected)
    assert 0.5 <= index.unit / expected.unit <= 2
    assert np.isneginf(index.sqnorms).sum() <= 1
    assert_array_equal(index.X, X)


@FITS
@pytest.mark.parametrize("first", [0, 3, 77, 255])
def test_integers_lose_nothing_whatever_the_first_rows_were(make, first, rng):
    X = rng.integers(0, 256, (700, 9)).astype(np.float32)
    X[:5] = first
    for sizes in ([1], [5, 100], [1] * 600):
        assert fit_in_pieces(make, X, sizes).error_ratio == 0


def filled_places(index):
    """What is written at the places of the rows, and what is the same for all."""
    is_filled = index.sqnorms < np.inf
    codes = index.codes.transpose(0, 2, 1, 3).reshape(len(is_filled), -1)
    yield from (codes[is_filled], index.scales[is_filled], index.sqnorms)
    yield from (index.X, index.ids[is_filled[: len(index.ids)]], index.duplicates)
    yield from (index.center, index.unit, index.error_ratio)


@FITS
def test_an_index_under_search_is_not_written(make, rng):
    X = (1000 + rng.standard_normal((700, 6))).astype(np.float32)
    estimator = make().fit(X[:5] - 1000).partial_fit(X[5:7])
    for piece in np.split(X[7:], [3, 60, 400]):
        index = flat_index(estimator)
        before = copy.deepcopy(index)
        estimator.partial_fit(piece)
        for found, expected in zip(*map(filled_places, (index, before)), strict=True):
            assert_array_equal(found, expected)
    assert flat_index(estimator).center.min() > 990


@FITS
@pytest.mark.parametrize("kind", [vector_kinds.normal, vector_kinds.bytes_])
@pytest.mark.parametrize("sizes", [[900, *[790] * 8], [400] * 18], ids=len)
def test_rows_that_resemble_the_first_keep_the_center(make, kind, sizes, rng):
    X, _ = vector_kinds.make(kind, np.float32, rng, 8000, 1, 16)
    index = fit_in_pieces(make, X, sizes)
    assert_array_equal(index.center, flat_index(make().fit(X[: sizes[0]])).center)


@FITS
@pytest.mark.parametrize("n", [500, 2000])
def test_each_row_is_encoded_a_few_times_only(make, n, rng, monkeypatch):
    X = np.cumsum(rng.uniform(0, 1, (n, 6)), axis=0)
    encoded = record_encoded_rows(monkeypatch)
    fit_in_pieces(make, X, [1] * (n - 1))
    assert sum(encoded) < 40 * n


def record_encoded_rows(monkeypatch):
    """A list that gets the number of rows of each encoding."""
    encoded, encode = [], _cpu.encode_sq8

    def record(X, rows, *args):
        encoded.append(len(rows))
        return encode(X, rows, *args)

    monkeypatch.setattr(_cpu, "encode_sq8", record)
    return encoded
