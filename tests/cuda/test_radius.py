"""All rows within a radius: the same bits as from the CPU."""

import cuda_lane
import numpy as np
import pytest
import vector_kinds
from numpy.testing import assert_array_equal

from sklearn_ann import _cpu
from sklearn_ann._cuda import _image, _memory
from sklearn_ann._scalar_quantizer import build_flat_index

KINDS = pytest.mark.parametrize(
    ("kind", "dtype"), vector_kinds.KINDS[1::2], ids=vector_kinds.name
)


def assert_same_as_cpu(backend, X, Q, sqradius):
    index = build_flat_index(X, _cpu, 1)
    found = backend.radius(Q, index, sqradius, True, 1)
    expected = _cpu.radius(Q, index, sqradius, True, 1)
    for found_array, expected_array in zip(found, expected, strict=True):
        assert_array_equal(found_array, expected_array, strict=True)
    return found


@KINDS
def test_hits_are_those_of_the_cpu(kind, dtype, backend, rng):
    cuda_lane.set_order(cuda_lane.ORDERS[-1])
    X, Q = vector_kinds.make(kind, dtype, rng, 140, 3, 5)
    index = build_flat_index(X, _cpu, 1)
    sqdists, _ = _cpu.knn(Q, index, 20, 1)
    # On the distance of a row, so that ties are inside.
    assert_same_as_cpu(backend, X, Q, float(sqdists[0, 12]))


@pytest.mark.parametrize("order", cuda_lane.ORDERS)
def test_every_order_gives_the_same(order, backend, n_at_once, rng):
    cuda_lane.set_order(order)
    X, Q = vector_kinds.make(vector_kinds.bits, np.float32, rng, 300, 4, 6)
    assert_same_as_cpu(backend, X, Q, 2.0)


@pytest.mark.parametrize("sqradius", [0.0, 1e-300, 1e300, np.inf])
def test_nothing_and_everything(sqradius, backend, rng):
    X = rng.standard_normal((140, 3))
    assert_same_as_cpu(backend, X, np.vstack([X[:2], np.ones((1, 3))]), sqradius)


def test_hits_are_collected_in_parts_that_fit_into_memory(backend, rng, monkeypatch):
    X = rng.standard_normal((140, 3))
    _image.image_of(build_flat_index(X, _cpu, 1))
    index = build_flat_index(X, _cpu, 1)
    _image.image_of(index)
    monkeypatch.setattr(_memory, "free_memory", lambda: 10_000)
    assert _memory.split_counts(np.array([100, 100, 10, 500, 1])) == [
        (0, 2),
        (2, 3),
        (3, 4),
        (4, 5),
    ]
    expected = _cpu.radius(X[:10], index, 3.0, True, 1)
    found = backend.radius(X[:10], index, 3.0, True, 1)
    for found_array, expected_array in zip(found, expected, strict=True):
        assert_array_equal(found_array, expected_array)
