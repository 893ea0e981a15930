"""Memory of a GPU for the arrays of one search, kept for the next search.

A search needs some 15 arrays, and to allocate and free each of them takes longer than
a small kernel. Here they are cut from one block, one behind the other. At the end
of a ``scratch`` block the arrays that were made in it are given back, all at once.
What does not fit into the block is allocated by itself, and the block is large enough
the next time.

The lock of the GPU guards all this, and a search ends with copies to the host, so no
kernel reads an array that was given back.
"""

from __future__ import annotations

import contextlib
import math
import os

import numpy as np

from sklearn_ann._cuda._compat import clear, device_in_use, empty, free_memory

# A larger search takes so long that its allocations do not matter, and other libraries
# want the memory meanwhile.
_MOST_KEPT = 2**30

# Arrays begin where cudaMalloc would let them begin.
_ALIGNMENT = 256


class _Stack:
    """The block of a GPU, and the arrays that were cut from it."""

    def __init__(self):
        self.n_scopes = self.n_arrays = self.top = 0
        self.forget()

    def forget(self):
        """Give the block back, and begin with small searches again."""
        self.highest = 0  # bytes of the largest search
        # An array that is cut as in the search before is the same object.
        self.memory, self.size, self.views = None, 0, []

    def grow(self):
        """A block for the largest search so far, if there is room for it."""
        highest = self.highest
        size = min(highest, _MOST_KEPT)
        if self.size < size <= free_memory() + self.size:
            self.forget()
            self.memory, self.size = empty(size, np.uint8), size
            self.highest = highest

    def new(self, shape, dtype):
        """An array with whatever its memory holds."""
        dtype = np.dtype(dtype)
        start, stop = self.top, self.top + math.prod(shape) * dtype.itemsize
        self.top = -(-stop // _ALIGNMENT) * _ALIGNMENT
        self.highest = max(self.highest, self.top)
        if stop > self.size or start == stop:
            return empty(shape, dtype)
        number, cut = self.n_arrays, (start, shape, dtype)
        self.n_arrays += 1
        if number == len(self.views):
            self.views.append((None, None))
        if self.views[number][0] != cut:
            view = self.memory[start:stop].view(dtype).reshape(shape)
            self.views[number] = cut, view
        return self.views[number][1]


# By number of the GPU.
_stacks: dict[int, _Stack] = {}

# Those that a fork has copied. Their memory is the parent's: it is never freed here.
_of_parents: list[_Stack] = []


def _leave_to_parent():
    _of_parents.extend(_stacks.values())
    _stacks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


def _stack_in_use():
    return _stacks.setdefault(device_in_use(), _Stack())


@contextlib.contextmanager
def scratch():
    """Arrays that are made meanwhile belong to the caller until the end of the block.

    Images and what else outlives it must not be among them.
    """
    stack = _stack_in_use()
    if stack.n_scopes == 0:
        stack.grow()
    before = stack.top, stack.n_arrays
    stack.n_scopes += 1
    try:
        yield
    except MemoryError:
        stack.forget()
        raise
    finally:
        stack.n_scopes -= 1
        stack.top, stack.n_arrays = before


def new_scratch(shape, dtype):
    """An array that is valid until the end of ``scratch``, with any content."""
    stack = _stack_in_use()
    shape = shape if isinstance(shape, tuple) else (shape,)
    return stack.new(shape, dtype) if stack.n_scopes else empty(shape, dtype)


def scratch_zeros(shape, dtype):
    """The same with zeros, which are written on the GPU."""
    array = new_scratch(shape, dtype)
    clear(array)
    return array


def scratch_copy(array):
    """A copy that is valid until the end of ``scratch``; a GPU's array as it is."""
    if hasattr(array, "copy_to_host"):
        return array
    copy = new_scratch(array.shape, array.dtype)
    if array.size:
        # numba-cuda drops axes of the stride 0, which ``[:, None]`` makes.
        is_dropped = 0 in array.strides
        array = array.copy() if is_dropped else np.ascontiguousarray(array)
        copy.copy_to_device(array)
    return copy


def kept_bytes():
    """Bytes that are kept for the next arrays: as good as free."""
    stack = _stack_in_use()
    return max(0, stack.size - stack.top)


def forget_scratch():
    """Give back what is kept for the next search on the GPU in use."""
    stack = _stack_in_use()
    if stack.n_scopes == 0:
        stack.forget()
