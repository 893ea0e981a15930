"""Arrays that grow keep what they hold, and what was taken of them before."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors
from sklearn_ann._storage import GrowingArrays, clear_empty


@pytest.mark.parametrize("shape", [(), (3,), (2, 64, 4)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64])
def test_a_longer_array_begins_with_the_shorter_one(shape, dtype, rng):
    storage = GrowingArrays()
    array = np.empty((0, *shape), dtype)
    for length in [0, 1, 2, 3, 50, 51, 52, 53, 54, 55, 56, 57, 200]:
        before = array.copy()
        longer = storage.resize("name", array, length)
        assert longer.shape == (length, *shape)
        assert longer.dtype == dtype
        assert_array_equal(longer[: len(before)], before)
        longer[len(before) :] = rng.integers(1, 100, longer[len(before) :].shape)
        assert_array_equal(array, before)
        array = longer


def test_most_additions_copy_nothing():
    storage, array, n_moves = GrowingArrays(), np.zeros(1000), 0
    for length in range(1001, 3001):
        longer = storage.resize("name", array, length)
        n_moves += not np.shares_memory(longer, array)
        array = longer
    # An eighth more each time: log(3) / log(9 / 8) is less than 10.
    assert 1 <= n_moves <= 10


def test_names_have_arrays_of_their_own():
    storage = GrowingArrays()
    a = storage.resize("a", np.ones(10), 20)
    b = storage.resize("b", np.zeros(10), 20)
    assert not np.shares_memory(a, b)
    assert_array_equal(a[:10], 1)


def test_another_dtype_moves():
    storage = GrowingArrays()
    narrow = storage.resize("name", np.ones(80, np.float32), 81)
    wide = storage.resize("name", narrow.astype(np.float64), 82)
    assert wide.dtype == np.float64
    assert not np.shares_memory(wide, narrow)
    assert_array_equal(wide[:80], 1)


def test_an_array_from_elsewhere_takes_the_place_of_the_one_held():
    storage = GrowingArrays()
    held = storage.resize("name", np.ones(80), 81)
    longer = storage.resize("name", np.zeros(80), 82)
    assert not np.shares_memory(longer, held)
    assert_array_equal(longer[:80], 0)
    # As of an index whose successor was not finished.
    again = storage.resize("name", held, 83)
    assert not np.shares_memory(again, longer)
    assert_array_equal(again[:80], 1)


@pytest.mark.parametrize("length", [1, 63, 64, 1000])
def test_arrays_start_at_a_cache_line(length):
    for _ in range(5):
        array = GrowingArrays().resize("name", np.empty((0, 3), np.float32), length)
        assert array.ctypes.data % 64 == 0


@pytest.mark.parametrize("shape", [(4, 3, 64), (4, 3, 64, 4)])
def test_only_empty_positions_are_cleared(shape):
    codes, is_empty = np.ones(shape, np.uint8), np.ones(4 * 64, bool)
    # Some of panel 0 is filled, all of panel 1, nothing of 2, some of 3.
    is_empty[np.r_[10:64, 64:128, 192:200]] = False
    clear_empty(codes, is_empty)
    codes = codes.reshape(4, 3, 64, -1)
    is_kept, is_cleared = codes.all(axis=(1, 3)), ~codes.any(axis=(1, 3))
    assert_array_equal(is_kept.ravel(), ~is_empty)
    assert_array_equal(is_cleared.ravel(), is_empty)


def test_equal_fits_are_saved_as_equal_bytes(rng):
    X = rng.standard_normal((500, 6)).astype(np.float32)
    for make in (
        lambda: FlatL2Neighbors(),
        lambda: IVFFlatNeighbors(nlist=5, random_state=0),
        lambda: IVFPQNeighbors(nlist=5, nbits=4, random_state=0),
    ):
        saved = set()
        for value in (1, 2):
            # Memory that the next arrays may get.
            junk = [np.full(size, value, np.uint8) for size in (10**4, 10**5, 10**6)]
            del junk
            index = make().fit(X[:300]).partial_fit(X[300:])
            saved.add(pickle.dumps(index))
        assert len(saved) == 1
