"""All rows of an index as queries, some at a time, and arrays of what they find."""

from __future__ import annotations

import itertools

import numpy as np

# Bytes of the vectors of a block in float64, as codes decode to: little beside an index
# of any size, and enough queries (32768 of 128 features) to share the lists they probe.
_BLOCK_BYTES = 2**25


def row_blocks(n, d, most=None):
    """Cut n rows of d features into blocks, of `most` rows at most: start and stop."""
    length = max(1, _BLOCK_BYTES // (8 * d))
    if most is not None:
        length = min(length, most)
    return itertools.pairwise([*range(0, n, length), n])


class Joined:
    """An array that grows by what is appended, without a list of all parts beside it.

    Its memory is grown in place where the system can, by an eighth at least: cheaper
    than a move of `GrowingArrays`, and impossible there, where a shorter array shares
    the memory.
    """

    def __init__(self, dtype):
        self._array, self._length = np.empty(0, dtype), 0

    def append(self, part):
        """Add values behind the others, in the dtype of the array."""
        length = self._length + len(part)
        if length > len(self._array):
            self._array.resize(length + length // 8, refcheck=False)
        self._array[self._length : length] = part
        self._length = length

    def array(self):
        """All values; nothing is appended any more."""
        self._array.resize(self._length, refcheck=False)
        return self._array
