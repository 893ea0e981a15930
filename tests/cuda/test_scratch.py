"""Memory of a GPU that one search leaves to the next."""

import cuda_lane  # noqa: F401  skips where there is no CUDA
import numpy as np
import pytest

from sklearn_ann import IVFFlatNeighbors
from sklearn_ann._cuda import _compat, _memory, _scratch
from sklearn_ann._cuda._scratch import (
    forget_scratch,
    kept_bytes,
    new_scratch,
    scratch,
    scratch_copy,
    scratch_zeros,
)


@pytest.fixture(autouse=True)
def device():
    with _compat.use_device(0):
        yield


@pytest.fixture
def allocated(monkeypatch):
    """Sizes of what is allocated on the device by itself, in bytes."""
    sizes, empty = [], _scratch.empty

    def record(shape, dtype):
        array = empty(shape, dtype)
        sizes.append(array.nbytes)
        return array

    monkeypatch.setattr(_scratch, "empty", record)
    return sizes


def test_arrays_of_a_search_are_cut_from_the_block_of_the_search_before(allocated):
    for _ in range(3):
        with scratch():
            a, b = new_scratch(100, np.float32), new_scratch((7, 3), np.int64)
            a.copy_to_device(np.arange(100, dtype=np.float32))
            b.copy_to_device(np.arange(21).reshape(7, 3))
            np.testing.assert_array_equal(a.copy_to_host(), np.arange(100))
            np.testing.assert_array_equal(b.copy_to_host().ravel(), np.arange(21))
    # 400 bytes begin a new multiple of 256 behind them.
    assert allocated == [400, 168, 512 + 256]


def test_an_array_that_does_not_fit_is_allocated_by_itself(allocated):
    for n in (10, 10, 1000, 1000, 10):
        with scratch():
            new_scratch(n, np.uint8)
    assert allocated == [10, 256, 1000, 1024]


def test_what_was_made_inside_is_given_back_at_the_end():
    for _ in range(2):
        with scratch():
            outer = scratch_copy(np.arange(64))
            for _ in range(3):
                with scratch():
                    scratch_copy(np.full(64, 7))
            again = scratch_copy(np.full(64, 9))
            np.testing.assert_array_equal(outer.copy_to_host(), np.arange(64))
            np.testing.assert_array_equal(again.copy_to_host(), np.full(64, 9))
    with scratch():
        assert kept_bytes() == 2 * 64 * 8
        new_scratch(64, np.int64)
        assert kept_bytes() == 64 * 8


def test_an_array_outside_of_any_search_is_its_own(allocated):
    with scratch():
        new_scratch(100, np.uint8)
    first, second = new_scratch(100, np.uint8), new_scratch(100, np.uint8)
    assert allocated == [100, 100, 100]
    assert first is not second


@pytest.mark.parametrize("shape", [5, (3, 4), 0, (0, 3)])
def test_zeros_are_zero(shape):
    for _ in range(3):
        with scratch():
            new_scratch(100, np.uint8)
            zeros = scratch_zeros(shape, np.int32)
            assert zeros.copy_to_host().sum() == 0
            shape_of = shape if isinstance(shape, tuple) else (shape,)
            assert tuple(zeros.shape) == shape_of


@pytest.mark.parametrize("step", [1, 2])
def test_a_copy_has_the_shape_and_the_values(step):
    column = np.arange(6, dtype=np.int32)[::step]
    for array in (column, column[:, None], np.broadcast_to(column, (2, 6 // step))):
        for _ in range(2):
            with scratch():
                np.testing.assert_array_equal(scratch_copy(array).copy_to_host(), array)


def test_the_block_is_forgotten_when_memory_is_short():
    for _ in range(2):
        with scratch():
            new_scratch(1000, np.uint8)
    assert kept_bytes() == 1024
    with pytest.raises(MemoryError), scratch():
        raise MemoryError
    assert kept_bytes() == 0


def test_the_child_of_a_fork_begins_with_nothing(monkeypatch):
    for _ in range(2):
        with scratch():
            new_scratch(1000, np.uint8)
    monkeypatch.setattr(_scratch, "_stacks", {**_scratch._stacks})
    monkeypatch.setattr(_scratch, "_of_parents", [])
    (stack,) = _scratch._stacks.values()
    _scratch._leave_to_parent()
    assert kept_bytes() == 0
    # It frees nothing.
    assert _scratch._of_parents == [stack]


def test_what_is_kept_counts_as_free(monkeypatch):
    for _ in range(2):
        with scratch():
            new_scratch(10_000, np.uint8)
    monkeypatch.setattr(_memory, "free_memory", lambda: 0)
    assert len(_memory.split_rows(10, 1000)) == 2
    # An index may have it.
    monkeypatch.setattr(_memory, "free_memory", lambda: 10_240 - kept_bytes())
    _memory.check_room(10_000, "An index")
    assert kept_bytes() == 0


def test_a_block_is_not_larger_than_what_is_free(monkeypatch, allocated):
    monkeypatch.setattr(_scratch, "free_memory", lambda: 500)
    for _ in range(3):
        with scratch():
            new_scratch(1000, np.uint8)
    assert allocated == [1000] * 3


def test_a_large_search_keeps_no_more_than_the_most(monkeypatch, allocated):
    monkeypatch.setattr(_scratch, "_MOST_KEPT", 1024)
    for _ in range(3):
        with scratch():
            new_scratch(500, np.uint8)
            new_scratch(5000, np.uint8)
    assert allocated == [500, 5000, 1024, 5000, 5000]


def test_searches_of_one_size_allocate_once(allocated, rng):
    X = rng.normal(size=(300, 4)).astype(np.float32)
    params = {"nlist": 3, "nprobe": 2, "max_iter": 1, "random_state": 0}
    index = IVFFlatNeighbors(3, device="cuda", **params).fit(X)
    forget_scratch()
    index.kneighbors(X[:2])
    expected = index.kneighbors(X[:3])
    index.kneighbors(X[:3])
    del allocated[:]
    found = index.kneighbors(X[:3])
    assert allocated == []
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
