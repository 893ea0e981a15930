"""Tuples of arrays that kernels share by pointer, and how long these are there."""

from typing import NamedTuple

import numpy as np
from numpy.testing import assert_array_equal

from sklearn_ann._cpu._borrow import borrowed, keep
from sklearn_ann._cpu._jit import jit
from sklearn_ann._layout import read_only

_SCRIPT = """
import sys
import numpy as np
from sklearn_ann import (
    FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors, _scalar_quantizer
)
from sklearn_ann._principal_axes import (
    _principal_directions, _projection, _sample, no_projection
)


def project(X, center, unit, searches):
    if searches is None:
        return no_projection(X.shape[1])
    sample = _sample(X, center, unit)
    return _projection(sample, _principal_directions(sample, 32), 32)


rng = np.random.default_rng(0)
X, Q = rng.standard_normal((2000, 70)), rng.standard_normal((150, 70))
indexes = [
    FlatL2Neighbors(9, n_jobs=1).fit(X),
    IVFFlatNeighbors(9, nlist=5, nprobe=3, random_state=0, n_jobs=1).fit(X),
    IVFPQNeighbors(9, nlist=5, nprobe=3, m=7, random_state=0, n_jobs=1).fit(X),
]
_scalar_quantizer.choose_projection = project
indexes += [
    FlatL2Neighbors(9, n_jobs=1).fit(X),
    IVFFlatNeighbors(9, nlist=5, nprobe=3, random_state=0, n_jobs=1).fit(X),
]
answers = []
for index in indexes:
    for queries in (Q[:1], Q):
        answers += index.kneighbors(queries)
        answers += map(np.concatenate, index.radius_neighbors(queries, 10.0))
np.savez(sys.argv[1], *answers)
"""


class _Inner(NamedTuple):
    length: int
    values: np.ndarray


class _Outer(NamedTuple):
    values: np.ndarray
    inner: _Inner


@jit
def _scale(outer, factor):
    """Writes to the arrays of a tuple that it has by pointer."""
    values = outer.inner.values
    for i in range(outer.inner.length):
        values[i] *= factor
        outer.values[i] += values[i]


@jit
def _scale_twice(outer, factor):
    shared = borrowed(outer)
    _scale(shared, factor)
    _scale(shared, 2)
    return shared.values.sum() + len(shared.inner.values)


@jit
def _scale_own(n, factor):
    owned = _Outer(np.zeros(n), _Inner(n, np.ones(n)))
    shared = borrowed(owned)
    _scale(shared, factor)
    inner = shared.inner
    keep(owned)
    return inner.values[0] + shared.values.sum()


@jit
def _total(array):
    return array.sum()


@jit
def _total_of_read_only(array):
    return _total(read_only(array))


def test_fields_of_a_borrowed_tuple_are_those_of_the_tuple():
    outer = _Outer(np.zeros(3), _Inner(2, np.arange(1.0, 4.0)))
    assert _scale_twice(outer, 3.0) == 3 + 6 + 6 + 12 + 3
    assert_array_equal(outer.inner.values, [6, 12, 3])
    assert_array_equal(outer.values, [9, 18, 0])


def test_a_tuple_that_a_kernel_made_can_be_borrowed():
    assert _scale_own(1000, 2.0) == 2 + 2000


def test_constants_are_not_compiled_apart():
    outer = _Outer(np.zeros(3), _Inner(2, np.ones(3)))
    _scale_twice(outer, 3)
    assert not any("Literal" in str(factor) for _, factor in _scale.signatures)


def test_a_read_only_array_is_compiled_once():
    array = np.arange(3.0)
    for given in (array, read_only(array)):
        assert _total_of_read_only(given) == 3
    assert len(_total.signatures) == 1


def test_memory_that_is_free_is_not_read(run_script, tmp_path):
    found = []
    # The C library fills memory that is given back with these, if it is glibc.
    for value in ("0", "90", "165"):
        path = tmp_path / f"{value}.npz"
        run_script(_SCRIPT, path, MALLOC_PERTURB_=value)
        found.append(path)
    expected, *others = map(np.load, found)
    for other in others:
        for name in expected:
            assert_array_equal(other[name], expected[name])
