"""Arrays that grow at their end without being copied each time."""

from __future__ import annotations

import math

import numpy as np

_CACHE_LINE = 64


class GrowingArrays:
    """Named arrays with spare room behind them, an eighth more at each move.

    A longer array shares its beginning with the shorter one that it came from, so an
    index that is being searched meanwhile sees nothing of what is written behind its
    end. Only one index may be extended in one storage: copies of an estimator start
    with a storage of their own.
    """

    def __init__(self):
        self._buffers = {}

    def resize(self, name, array, length):
        """`array`, by the name it always has, with zeros behind it up to `length`."""
        buffer = self._buffers.get(name)
        if buffer is None or len(buffer) < length or buffer.dtype != array.dtype:
            shape = (length + len(array) // 8, *array.shape[1:])
            buffer = _aligned_zeros(shape, array.dtype)
            buffer[: len(array)] = array
            self._buffers[name] = buffer
        return buffer[:length]


def append_rows(X, more, storage):
    """X with more rows, in the dtype that holds all; `more` itself if X has none."""
    if len(X) == 0:
        return more
    X = X.astype(np.result_type(X, more), copy=False)
    longer = storage.resize("X", X, len(X) + len(more))
    longer[len(X) :] = more
    return longer


def _aligned_zeros(shape, dtype):
    """Zeros that start at a multiple of a cache line.

    A vector of 64 bytes that straddles two cache lines costs two reads.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    # Unlike `zeros`, `empty` asks for huge pages: fewer faults when it is filled.
    buffer = np.empty(size + _CACHE_LINE, np.uint8)
    buffer.fill(0)
    start = -buffer.ctypes.data % _CACHE_LINE
    return buffer[start : start + size].view(dtype).reshape(shape)
