"""Arrays that grow at their end without being copied each time."""

from __future__ import annotations

import math

import numpy as np

from sklearn_ann._layout import PANEL

_CACHE_LINE = 64


class GrowingArrays:
    """Named arrays of an index with spare room behind them, an eighth more each move.

    A longer array shares its beginning with the shorter one that it came from, so an
    index that is being searched meanwhile sees nothing of what is written behind its
    end. Only one index may be extended in one storage: copies of an estimator start
    with a storage of their own. (`_blocks.Joined` grows too, but belongs to one call:
    nobody shares its beginning, so that the system may move it.)
    """

    def __init__(self):
        self._buffers = {}

    def resize(self, name, array, length):
        """`array`, by the name it always has, longer; new places hold anything.

        An array that is not the beginning of the one held by this name takes its place.
        """
        buffer = self._buffers.get(name)
        is_held = buffer is not None and array.base is buffer.base
        if not is_held or len(buffer) < length or buffer.dtype != array.dtype:
            shape = (length + len(array) // 8, *array.shape[1:])
            buffer = _aligned_empty(shape, array.dtype)
            buffer[: len(array)] = array
            self._buffers[name] = buffer
        return buffer[:length]


def append_rows(X, more, storage):
    """X with more rows, in the dtype that holds all; `more` itself if X has none."""
    dtype = np.result_type(X, more)
    if len(X) == 0:
        return more.astype(dtype, copy=False)
    X = X.astype(dtype, copy=False)
    longer = storage.resize("X", X, len(X) + len(more))
    longer[len(X) :] = more
    return longer


def lengthened(array, length, value):
    """A copy of an array so long, with `value` at the new places."""
    longer = np.full(length, value, array.dtype)
    longer[: len(array)] = array
    return longer


def clear_empty(codes, is_empty):
    """Zero the codes of empty positions, in panels that are new.

    Whatever memory held would be saved with the index otherwise. After the others are
    written, so that the threads which do that have shared the page faults.

    Parameters
    ----------
    codes : ndarray of shape (n_panels, s, 64, ...)
    is_empty : ndarray of shape (n_panels * 64,), bool
    """
    empty = np.flatnonzero(is_empty)
    codes[empty // PANEL, :, empty % PANEL] = 0


def _aligned_empty(shape, dtype):
    """An array that starts at a multiple of a cache line.

    A vector of 64 bytes that straddles two cache lines costs two reads.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    # Not zeros: the threads that fill it share the page faults.
    buffer = np.empty(size + _CACHE_LINE, np.uint8)
    start = -buffer.ctypes.data % _CACHE_LINE
    return buffer[start : start + size].view(dtype).reshape(shape)
