"""FlatL2Neighbors on a GPU: the same answers, and one image for as long as it lives."""

import gc
import pickle
from inspect import signature

import cuda_lane
import numpy as np
import pytest
import vector_kinds
from numpy.testing import assert_array_equal

from sklearn_ann import FlatL2Neighbors, _cuda
from sklearn_ann._backend import Backend
from sklearn_ann._cuda import _image, _memory


@pytest.fixture
def data(rng):
    cuda_lane.set_order(cuda_lane.ORDERS[-1])
    return vector_kinds.make(vector_kinds.normal, np.float32, rng, 140, 4, 5)


def on_both(method, *args, **params):
    X = args[0]
    for device in ("cpu", "cuda"):
        found = method(FlatL2Neighbors(3, device=device, **params).fit(X), *args[1:])
        yield found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "cosine"])
@pytest.mark.parametrize("others", [True, False])
def test_neighbors(metric, others, data):
    X, Q = data
    X, Q = (X[:20], None) if others else (X, Q)
    expected, found = on_both(FlatL2Neighbors.kneighbors, X, Q, metric=metric)
    for found_array, expected_array in zip(found, expected, strict=True):
        assert_array_equal(found_array, expected_array, strict=True)


def test_radius_neighbors(data):
    expected, found = on_both(FlatL2Neighbors.radius_neighbors, *data, 1.5)
    for found_arrays, expected_arrays in zip(found, expected, strict=True):
        assert sum(map(len, expected_arrays)) > 0
        for found_array, expected_array in zip(
            found_arrays, expected_arrays, strict=True
        ):
            assert_array_equal(found_array, expected_array, strict=True)


def test_graphs(data):
    (expected,), (found,) = on_both(FlatL2Neighbors.transform, *data)
    assert_array_equal(found.indices, expected.indices)
    assert_array_equal(found.data, expected.data)


@pytest.mark.filterwarnings("ignore::sklearn_ann.exceptions.DisconnectedGraphWarning")
def test_a_graph_in_one_piece(data):
    def connected_graph(index):
        return index.kneighbors_graph(n_neighbors=1, mode="distance", connected=True)

    (expected,), (found,) = on_both(connected_graph, data[0][:20])
    assert expected.nnz > 20
    assert_array_equal(found.indices, expected.indices)
    assert_array_equal(found.data, expected.data)


def test_fitted_here_and_searched_there(data, images):
    X, Q = data
    index = FlatL2Neighbors(3, device="cuda").fit(X)
    expected = index.kneighbors(Q)
    for other in (
        index.set_params(device="cpu"),
        pickle.loads(pickle.dumps(index)),
        pickle.loads(pickle.dumps(index)).set_params(device="cuda:0"),
    ):
        found = other.kneighbors(Q)
        assert_array_equal(found[0], expected[0])
        assert_array_equal(found[1], expected[1])
    # The last one has arrays of its own.
    assert len(images) == 2


def test_the_index_is_uploaded_once_and_forgotten_with_the_estimator(data, images):
    X, Q = data
    gc.collect()
    n_before = len(_image._images)
    index = FlatL2Neighbors(3, device="cuda").fit(X)
    assert not images
    for _ in range(3):
        index.kneighbors(Q[:1])
    index.radius_neighbors(Q[:1], 0.5)
    assert len(images) == 1
    assert len(_image._images) == n_before + 1
    assert b"Image" not in pickle.dumps(index)
    del index
    gc.collect()
    assert len(_image._images) == n_before


def test_rows_that_are_added_are_found(data, images):
    X, Q = data
    index = FlatL2Neighbors(3, device="cuda").fit(X[:100])
    index.kneighbors(Q[:1])
    index.partial_fit(X[100:])
    expected = FlatL2Neighbors(3).fit(X).kneighbors(Q)
    assert_array_equal(index.kneighbors(Q)[1], expected[1])
    assert len(images) == 2


def test_an_index_that_does_not_fit_is_an_error_that_says_how_large_it_is(
    data, monkeypatch
):
    X, Q = data
    index = FlatL2Neighbors(3, device="cuda").fit(X)
    monkeypatch.setattr(_memory, "free_memory", lambda: 2**13)
    message = r"140 rows and 5 features needs 0\.00 GiB on the GPU, of which 0\.00 GiB"
    with pytest.raises(MemoryError, match=message):
        index.kneighbors(Q)
    assert_array_equal(index.set_params(device="cpu").kneighbors(X[:1])[1][0, 0], 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_queries_that_are_not_finite_are_an_error(bad, data):
    X, Q = data
    Q[2, 1] = bad
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        FlatL2Neighbors(device="cuda").fit(X).kneighbors(Q)


def test_a_gpu_that_is_not_there_is_an_error(data):
    with pytest.raises(RuntimeError, match="numbered from 0"):
        FlatL2Neighbors(device="cuda:999").fit(data[0])


@pytest.mark.parametrize("operation", _cuda.OPERATIONS)
def test_operations_have_the_signatures_of_the_seam(operation, backend):
    _, *expected = signature(getattr(Backend, operation)).parameters.values()
    found = signature(getattr(backend, operation)).parameters.values()
    assert list(found) == expected


def test_every_operation_of_the_seam_is_there(backend):
    operations = [name for name in vars(Backend) if not name.startswith("_")]
    assert sorted(operations) == _cuda.OPERATIONS == sorted(vars(backend))
