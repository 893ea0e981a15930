"""Arrays that grow keep what they hold, and what was taken of them before."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sklearn_ann._storage import GrowingArrays


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
        assert not longer[len(before) :].any()
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
    assert_array_equal(wide, [1] * 80 + [0, 0])


@pytest.mark.parametrize("length", [1, 63, 64, 1000])
def test_arrays_start_at_a_cache_line(length):
    for _ in range(5):
        array = GrowingArrays().resize("name", np.empty((0, 3), np.float32), length)
        assert array.ctypes.data % 64 == 0
