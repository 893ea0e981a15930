"""Arrays on the GPU, in and out: the answers are those for NumPy arrays.

In the simulator the memory of the GPU is that of the host, and a stand-in is all that
knows it by ``__cuda_array_interface__``: that shows which way arrays go. That torch and
CuPy take part is shown on a GPU only.
"""

import copy

import cuda_lane
import numpy as np
import pytest
import vector_kinds
from numpy.testing import assert_array_equal

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors
from sklearn_ann._cuda import _compat

ESTIMATORS = pytest.mark.parametrize(
    "estimator",
    [
        FlatL2Neighbors(3),
        IVFFlatNeighbors(3, nlist=2, nprobe=1, max_iter=1, random_state=0),
        IVFPQNeighbors(3, nbits=4, m=2, nlist=2, nprobe=1, max_iter=1, random_state=0),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn_ann.exceptions.FewTrainingRowsWarning"
)


class OnGpu:
    """An array of a library that nobody knows: an interface and nothing else."""

    def __init__(self, array):
        if cuda_lane.SIMULATED:
            self._owner = array
            self.__cuda_array_interface__ = array.__array_interface__
        else:
            # Strides are kept: what lies between the numbers is uploaded too.
            base = array if array.base is None else array.base
            self._owner = _compat.cuda.to_device(base)
            interface = dict(self._owner.__cuda_array_interface__)
            start = array.ctypes.data - base.ctypes.data
            interface["data"] = (interface["data"][0] + start, False)
            interface["shape"], interface["strides"] = array.shape, array.strides
            self.__cuda_array_interface__ = interface


@pytest.fixture
def data(rng):
    return vector_kinds.make(vector_kinds.normal, np.float32, rng, 60, 3, 5)


def assert_equal_on_gpu(found, expected):
    for array, wanted in zip(found, expected, strict=True):
        assert not isinstance(array, np.ndarray)
        assert_array_equal(array.copy_to_host(), wanted, strict=True)


@ESTIMATORS
@pytest.mark.parametrize("device", [None, "cpu", "cuda", "cuda:0"])
def test_neighbors(device, estimator, data, images):
    X, Q = data
    expected = estimator.set_params(device="cpu").fit(X).kneighbors(Q)
    # A copy has arrays that no search of the fit has uploaded.
    estimator = copy.deepcopy(estimator.set_params(device=device).fit(OnGpu(X)))
    images.clear()
    found = estimator.kneighbors(OnGpu(Q))
    assert_equal_on_gpu(found, expected)
    assert len(images) > 0 if device != "cpu" else not images
    only_ids = estimator.kneighbors(OnGpu(Q), return_distance=False)
    assert_equal_on_gpu([only_ids], expected[1:])


@ESTIMATORS
def test_none_searches_arrays_of_the_host_on_the_cpu(estimator, data, images):
    X, Q = data
    index = estimator.set_params(device=None).fit(OnGpu(X[:40]))
    index.partial_fit(OnGpu(X[40:]))
    images.clear()
    distances, ids = index.kneighbors(Q)
    index.radius_neighbors(Q, 1.0)
    index.kneighbors()
    index.transform(Q)
    assert type(distances) is type(ids) is np.ndarray
    assert not images
    assert_equal_on_gpu(index.kneighbors(OnGpu(Q)), (distances, ids))
    assert len(images) > 0


def test_radius_neighbors_and_graphs_are_found_on_the_gpu(data, images):
    X, Q = data
    index = FlatL2Neighbors(3).fit(X)
    found, expected = (index.radius_neighbors(q, 1.5) for q in (OnGpu(Q), Q))
    for parts, wanted in zip(found, expected, strict=True):
        for part, wanted_part in zip(parts, wanted, strict=True):
            assert_array_equal(part, wanted_part, strict=True)
    assert (index.transform(OnGpu(Q)) != index.transform(Q)).nnz == 0
    assert len(images) == 1
    graph = FlatL2Neighbors(3).fit_transform(OnGpu(X))
    assert (graph != FlatL2Neighbors(3).fit_transform(X)).nnz == 0
    assert len(images) == 2


FORMS = {
    "F order": np.asfortranarray,
    "every second column": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "every second row": lambda X: np.repeat(X, 2, axis=0)[::2],
    "float16": lambda X: X.astype(np.float16),
    "float64": lambda X: X.astype(np.float64),
    "int32": lambda X: (100 * X).astype(np.int32),
    "uint8": lambda X: (10 * X).astype(np.uint8),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_strides_and_dtypes(form, data):
    X, Q = map(form, data)
    expected = FlatL2Neighbors(3).fit(X).kneighbors(Q)
    index = FlatL2Neighbors(3).fit(OnGpu(X))
    assert_equal_on_gpu(index.kneighbors(OnGpu(Q)), expected)


def test_an_array_that_must_not_be_written_to(data):
    X, _ = data
    array = OnGpu(X)
    interface = array.__cuda_array_interface__
    array.__cuda_array_interface__ = {
        **interface,
        "data": (interface["data"][0], True),
        "strides": None,
    }
    index = FlatL2Neighbors(1).fit(array)
    _, ids = index.kneighbors(array)
    assert_array_equal(ids.copy_to_host().ravel(), np.arange(len(X)))
    # The index has a copy of its own.
    assert not np.shares_memory(index._index.X, X)


@pytest.mark.parametrize(
    ("make_bad", "message"),
    [
        (lambda Q: Q + np.where(Q > 0, np.float32(np.inf), 0), "infinity"),
        (lambda Q: Q[:, :3].copy(), "3 features"),
        (lambda Q: Q[0].copy(), "2D array"),
        (lambda Q: Q[:0], "0 sample"),
    ],
    ids=["infinite", "width", "one dimension", "empty"],
)
def test_the_errors_are_those_of_arrays_on_the_host(make_bad, message, data):
    X, Q = data
    index = FlatL2Neighbors(3).fit(X)
    for call in (index.kneighbors, index.radius_neighbors, index.partial_fit):
        with pytest.raises(ValueError, match=message):
            call(OnGpu(make_bad(Q)))


def test_none_is_the_gpu_of_the_array(data, monkeypatch):
    X, Q = data
    index = FlatL2Neighbors(3).fit(X)
    monkeypatch.setattr("sklearn_ann._cuda.gpu_of", lambda array: 999)
    with pytest.raises(RuntimeError, match="device='cuda:999' does not exist"):
        index.kneighbors(OnGpu(Q))


@pytest.fixture(params=["cupy", "torch"])
def library(request):
    """CuPy's asarray or torch's, for an array on the GPU, and its way back."""
    if cuda_lane.SIMULATED:
        pytest.skip("the simulator has no memory that CuPy and torch could use")
    module = pytest.importorskip(request.param, reason=f"no {request.param}")
    if request.param == "cupy":
        return module.asarray, module.asnumpy, module.ndarray
    if not module.cuda.is_available():
        pytest.skip("torch finds no GPU")
    return (
        lambda array: module.as_tensor(array, device="cuda"),
        lambda tensor: tensor.cpu().numpy(),
        module.Tensor,
    )


@ESTIMATORS
@pytest.mark.parametrize("device", [None, "cpu", "cuda"])
def test_libraries(device, estimator, library, data, images):
    on_gpu, on_host, kind = library
    X, Q = data
    expected = estimator.set_params(device="cpu").fit(X).kneighbors(Q)
    index = estimator.set_params(device=device).fit(on_gpu(X))
    queries = on_gpu(Q)
    # Strided, and made a moment ago on a stream of the library.
    strided = (2 * on_gpu(np.repeat(Q, 2, axis=1)) / 2)[:, ::2]
    images.clear()
    for given in (queries, strided):
        for array, wanted in zip(index.kneighbors(given), expected, strict=True):
            assert isinstance(array, kind)
            assert array.device == queries.device
            assert_array_equal(on_host(array), wanted, strict=True)
    assert len(images) > 0 if device != "cpu" else not images


def test_arrays_of_numba(data):
    if cuda_lane.SIMULATED:
        pytest.skip("arrays of the simulator have no __cuda_array_interface__")
    X, Q = data
    expected = FlatL2Neighbors(3).fit(X).kneighbors(Q)
    index = FlatL2Neighbors(3).fit(_compat.cuda.to_device(X))
    assert_equal_on_gpu(index.kneighbors(_compat.cuda.to_device(Q)), expected)
