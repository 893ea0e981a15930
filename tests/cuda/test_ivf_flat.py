"""Search in inverted lists: the same bits as from the CPU, by either kernel."""

import cuda_lane
import numpy as np
import pytest
import vector_kinds
from numpy.testing import assert_array_equal

from sklearn_ann import IVFFlatNeighbors, _cpu
from sklearn_ann._cuda import _fp32_routes, _knn

KINDS = pytest.mark.parametrize(
    ("kind", "dtype"), vector_kinds.KINDS[::3], ids=vector_kinds.name
)
# scikit-learn's validation adds all numbers up; too few rows are meant.
pytestmark = pytest.mark.filterwarnings(
    "ignore:overflow", "ignore::sklearn_ann.exceptions.FewTrainingRowsWarning"
)


@pytest.fixture(params=["query by query", "list by list"])
def way(request, monkeypatch):
    """Both kernels, however many queries probe a list."""
    shared = 0 if request.param == "list by list" else 10**6
    monkeypatch.setattr(_fp32_routes, "_SHARED", shared)
    # So that a chain of some panels has rounds.
    monkeypatch.setattr(_knn, "_LEAST_CAPACITY", 128)
    return request.param


def fitted(X, nlist=6):
    return IVFFlatNeighbors(nlist=nlist, random_state=0, n_jobs=1).fit(X)._index


def assert_same_as_cpu(backend, index, Q, probes, k):
    found = backend.scan_ivf_flat(Q, index, probes, k, 1)
    expected = _cpu.scan_ivf_flat(Q, index, probes, k, 1)
    assert_array_equal(found[1], expected[1], strict=True)
    assert_array_equal(found[0], expected[0], strict=True)


@KINDS
def test_neighbors_are_those_of_the_cpu(kind, dtype, way, backend, rng):
    cuda_lane.set_order(cuda_lane.ORDERS[-1])
    X, Q = vector_kinds.make(kind, dtype, rng, 260, 3, 3)
    index = fitted(X)
    _, probes = _cpu.knn(Q, index.centroids, 3, 1)
    probes[1, 1:] = -1
    assert_same_as_cpu(backend, index, Q, probes, 4)


@pytest.mark.parametrize("order", cuda_lane.ORDERS)
def test_every_order_gives_the_same(order, way, backend, rng):
    cuda_lane.set_order(order)
    X, Q = vector_kinds.make(vector_kinds.bits, np.float32, rng, 600, 4, 5)
    index = fitted(X, 3)
    _, probes = _cpu.knn(Q, index.centroids, 2, 1)
    assert_same_as_cpu(backend, index, Q, probes, 3)


@pytest.mark.parametrize("nq", [1, 140])
def test_more_queries_than_a_block_takes(nq, way, backend, rng):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float32, rng, 90, nq, 2)
    index = fitted(X, 2)
    _, probes = _cpu.knn(Q, index.centroids, 1, 1)
    assert_same_as_cpu(backend, index, Q, probes, 1)


def test_lists_that_hold_too_few_rows_leave_places_empty(way, backend, rng):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float64, rng, 60, 3, 3)
    index = fitted(X)
    _, probes = _cpu.knn(Q, index.centroids, 2, 1)
    probes[1] = -1
    assert_same_as_cpu(backend, index, Q, probes, 50)


def test_hits_within_a_radius(way, backend, rng):
    X, Q = vector_kinds.make(vector_kinds.bits, np.float32, rng, 260, 4, 6)
    index = fitted(X)
    _, probes = _cpu.knn(Q, index.centroids, 3, 1)
    probes[2, 1:] = -1
    found = backend.radius_ivf_flat(Q, index, probes, 2.0, True, 1)
    expected = _cpu.radius_ivf_flat(Q, index, probes, 2.0, True, 1)
    for found_array, expected_array in zip(found, expected, strict=True):
        assert_array_equal(found_array, expected_array, strict=True)


def test_rows_that_were_added_are_in_their_lists(way, backend, rng):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float32, rng, 300, 3, 3)
    estimator = IVFFlatNeighbors(nlist=3, random_state=0, n_jobs=1).fit(X[:150])
    index = estimator.partial_fit(X[150:])._index
    _, probes = _cpu.knn(Q, index.centroids, 2, 1)
    assert_same_as_cpu(backend, index, Q, probes, 7)


@pytest.mark.parametrize("seen", [0, 1, 3, 100])
def test_items_cover_what_is_unseen_once(seen, rng):
    X = rng.standard_normal((900, 2)).astype(np.float32)
    index = fitted(X, 5)
    probes = np.argsort(rng.random((300, 5)), axis=1)[:, :3]
    probes[7, 1:] = -1
    lists = index.lists
    route = _fp32_routes.ProbedLists(None, lists, probes)
    members, unseen, items = route._work_items(seen)
    found = []
    for first, end, first_panel, end_panel in items:
        assert 0 < end - first <= 128
        assert 0 < end_panel - first_panel <= 2
        for member in range(first, end):
            for at in range(max(first_panel, unseen[member]), end_panel):
                found.append((members[member], lists.panels[at]))
    expected = []
    for i, row in enumerate(probes):
        chain = [
            lists.panels[lists.offsets[p] : lists.offsets[p + 1]] for p in row if p >= 0
        ]
        expected += [(i, panel) for panel in np.hstack(chain)[seen:]]
    assert sorted(found) == sorted(expected)


def test_the_estimator_trains_and_finds_the_same(rng):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float32, rng, 120, 3, 4)
    params = {"nlist": 4, "max_iter": 2, "random_state": 0}
    on_cpu = IVFFlatNeighbors(40, **params).fit(X)
    on_gpu = IVFFlatNeighbors(40, device="cuda", **params).fit(X)
    assert_array_equal(on_gpu.cluster_centers_, on_cpu.cluster_centers_)
    for nprobe in (1, 2, 4):
        answers = [
            estimator.set_params(nprobe=nprobe).kneighbors(Q)
            for estimator in (on_cpu, on_gpu)
        ]
        for found, expected in zip(*answers, strict=True):
            assert_array_equal(found, expected)
    _, found = on_gpu.radius_neighbors(Q, 1.0)
    _, expected = on_cpu.radius_neighbors(Q, 1.0)
    assert list(map(list, found)) == list(map(list, expected))
