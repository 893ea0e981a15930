"""The two halves of a k-means step: the same bits as from the CPU."""

import cuda_lane
import numpy as np
import pytest
import vector_kinds
from numpy.testing import assert_array_equal

from sklearn_ann import _cpu
from sklearn_ann._coarse_quantizer import train_centroids
from sklearn_ann._cuda import _image, _kmeans, _memory
from sklearn_ann._scalar_quantizer import build_flat_index


@pytest.fixture(params=["all at once", "in parts"])
def memory(request, monkeypatch):
    if request.param == "in parts":
        monkeypatch.setattr(_memory, "free_memory", lambda: 4000)


@pytest.mark.parametrize(
    ("kind", "dtype"), vector_kinds.KINDS[::3], ids=vector_kinds.name
)
def test_rows_go_to_the_centroids_that_the_cpu_gives_them(kind, dtype, backend, rng):
    X, others = vector_kinds.make(kind, dtype, rng, 20, 4, 5)
    centroids = np.vstack([X[:15:3], others, X[:15]])
    index = build_flat_index(centroids, _cpu, 1)
    rows = rng.permutation(20)[:15]
    found, expected = (b.assign(X, rows, index, 1) for b in (backend, _cpu))
    assert_array_equal(found, expected, strict=True)


@pytest.mark.parametrize("order", cuda_lane.ORDERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_of_clusters(order, dtype, backend, memory, rng):
    cuda_lane.set_order(order)
    X, rows = rng.standard_normal((99, 67)).astype(dtype), rng.permutation(99)[:90]
    labels = np.append(rng.integers(0, 9, 60), np.full(30, 4))
    order = np.argsort(labels, kind="stable")
    # Cluster 9 is empty.
    args = X, rows, order, np.searchsorted(labels[order], np.arange(11)), 1
    found, expected = (b.accumulate_clusters(*args) for b in (backend, _cpu))
    assert_array_equal(found, expected, strict=True)


def test_k_means_uploads_its_rows_once(backend, monkeypatch, rng):
    shapes, upload = [], _kmeans.to_device
    monkeypatch.setattr(
        _kmeans, "to_device", lambda array: shapes.append(array.shape) or upload(array)
    )
    X, rows = rng.standard_normal((70, 3)), np.arange(0, 60, 2)
    n_before = len(_image._images)
    start = X[rows[:4]]
    found, n_iter = train_centroids(X, rows, start, 5, backend, 1, 0)
    assert n_iter > 1
    assert shapes.count((30, 3)) == 1
    expected, _ = train_centroids(X, rows, start, 5, _cpu, 1, 0)
    assert_array_equal(found, expected, strict=True)
    # Other vectors for the same rows are not taken for them.
    index = build_flat_index(found, _cpu, 1)
    moved = X[::-1] + 1
    labels = backend.assign(moved, rows, index, 1)
    assert_array_equal(labels, _cpu.assign(moved, rows, index, 1))
    assert (labels != backend.assign(X, rows, index, 1)).any()
    del rows, index
    assert len(_image._images) == n_before
