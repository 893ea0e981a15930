"""Arrays on a GPU at the door, with stand-ins for the libraries that make them.

The stand-ins have the few names that are used of torch and CuPy, over memory of the
host. They show which library is asked for what, not that it does it: that is for
``tests/cuda/test_arrays.py`` on a GPU.
"""

import sys
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors
from sklearn_ann._interchange import Call, as_host_array, library_of

IVF = {"nlist": 2, "nprobe": 1, "random_state": 0}
ESTIMATORS = pytest.mark.parametrize(
    "estimator",
    [
        FlatL2Neighbors(3, device="cpu"),
        IVFFlatNeighbors(3, device="cpu", **IVF),
        IVFPQNeighbors(3, device="cpu", **IVF),
    ],
    ids=lambda estimator: type(estimator).__name__,
)


class TorchTensor:
    def __init__(self, array, number=1, is_cuda=True):
        self.array, self.is_cuda, self.n_copies = array, is_cuda, 0
        self.dtype, self.device = array.dtype, SimpleNamespace(index=number)

    def __array__(self, dtype=None, copy=None):
        if self.is_cuda:
            raise TypeError("can't convert cuda:1 device type tensor to numpy.")
        return np.asarray(self.array, dtype)

    def cpu(self):
        self.n_copies += 1
        return SimpleNamespace(numpy=self._numpy)

    def _numpy(self):
        if self.dtype == "bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.array.copy()

    def to(self, device):
        return TorchTensor(self.array, device.index)


class CupyArray:
    in_use = 0

    def __init__(self, array, number=1):
        self.array, self.number, self.n_copies = array, number, 0
        self.__cuda_array_interface__ = array.__array_interface__

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def get(self):
        self.n_copies += 1
        return self.array.copy()

    @property
    def device(self):
        @contextmanager
        def use(number):
            CupyArray.in_use = number
            yield
            CupyArray.in_use = 0

        device = use(self.number)
        device.id = self.number
        return device


@pytest.fixture(params=[TorchTensor, CupyArray], ids=["torch", "cupy"])
def on_gpu(request, monkeypatch):
    """What puts a NumPy array on GPU number 1, as one of a library."""
    torch = SimpleNamespace(Tensor=TorchTensor)
    torch.from_numpy = lambda array: TorchTensor(array, None, is_cuda=False)
    cupy = SimpleNamespace(ndarray=CupyArray)
    cupy.asarray = lambda array: CupyArray(array, CupyArray.in_use)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return request.param


@pytest.fixture
def devices(monkeypatch):
    """The devices that calls are made on from now on; no backend is looked for."""
    devices = []
    monkeypatch.setattr("sklearn_ann._interchange.get_backend", devices.append)
    return devices


def number_of(array):
    """The GPU of one of the stand-ins."""
    is_torch = isinstance(array, TorchTensor)
    return array.device.index if is_torch else array.device.id


@pytest.fixture
def X(rng):
    return rng.standard_normal((100, 8))


pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn_ann.exceptions.FewTrainingRowsWarning"
)


@ESTIMATORS
def test_neighbors_come_back_to_the_gpu_of_the_queries(estimator, on_gpu, X):
    expected = estimator.fit(X).kneighbors(X[:7])
    estimator.fit(on_gpu(X))
    queries = on_gpu(X[:7])
    found = estimator.kneighbors(queries)
    only_ids = estimator.kneighbors(queries, return_distance=False)
    assert queries.n_copies == 2
    for array, wanted in zip((*found, only_ids), (*expected, expected[1]), strict=True):
        assert type(array) is on_gpu
        assert number_of(array) == 1
        assert_array_equal(array.array, wanted, strict=True)


@ESTIMATORS
def test_radius_neighbors_and_graphs_stay_on_the_host(estimator, on_gpu, X):
    estimator.fit(X)
    queries = on_gpu(X[:7])
    found, expected = (estimator.radius_neighbors(Q, 2.0) for Q in (queries, X[:7]))
    assert sum(map(len, expected[1])) > 7
    for parts, wanted_parts in zip(found, expected, strict=True):
        for part, wanted in zip(parts, wanted_parts, strict=True):
            assert_array_equal(part, wanted, strict=True)
    for graph, wanted in (
        (estimator.transform(queries), estimator.transform(X[:7])),
        (estimator.kneighbors_graph(queries), estimator.kneighbors_graph(X[:7])),
        (estimator.fit_transform(on_gpu(X)), estimator.fit_transform(X)),
        (
            estimator.radius_neighbors_graph(queries, 2.0),
            estimator.radius_neighbors_graph(X[:7], 2.0),
        ),
    ):
        assert type(graph) is type(wanted)
        assert (graph != wanted).nnz == 0


@ESTIMATORS
def test_rows_on_a_gpu_are_added(estimator, on_gpu, X):
    expected = estimator.fit(X).partial_fit(X[:20]).kneighbors(X[:7])
    found = estimator.fit(X).partial_fit(on_gpu(X[:20])).kneighbors(X[:7])
    for array, wanted in zip(found, expected, strict=True):
        assert_array_equal(array, wanted)


@ESTIMATORS
def test_a_fit_on_a_gpu_leaves_nothing_of_it_behind(estimator, on_gpu, X):
    estimator.fit(on_gpu(X))
    for call in (lambda: estimator.kneighbors(X), estimator.kneighbors):
        distances, ids = call()
        assert type(distances) is type(ids) is np.ndarray
    assert type(estimator.reconstruct(0)) is np.ndarray


@pytest.mark.parametrize(
    ("make_bad", "message"),
    [
        (lambda X: X + np.where(X > 1, np.nan, 0), "NaN"),
        (lambda X: X[:, :5], "5 features"),
        (lambda X: X[0], "2D array"),
        (lambda X: X[:0], "0 sample"),
        (lambda X: X + 1j, "Complex"),
    ],
    ids=["NaN", "width", "one dimension", "empty", "complex"],
)
def test_the_errors_are_those_of_arrays_on_the_host(make_bad, message, on_gpu, X):
    index = FlatL2Neighbors(device="cpu").fit(X)
    for call in (index.kneighbors, index.radius_neighbors, index.partial_fit):
        with pytest.raises(ValueError, match=message):
            call(on_gpu(make_bad(X)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int32, np.uint8, bool])
def test_dtypes_are_converted_as_on_the_host(dtype, on_gpu, X):
    X = (10 * X).astype(dtype)
    on_host = FlatL2Neighbors(device="cpu").fit(X)
    index = FlatL2Neighbors(device="cpu").fit(on_gpu(X))
    assert index.reconstruct(0).dtype == on_host.reconstruct(0).dtype
    expected = on_host.kneighbors(X[:7])
    for array, wanted in zip(index.kneighbors(on_gpu(X[:7])), expected, strict=True):
        assert_array_equal(array.array, wanted, strict=True)


def test_a_tensor_that_numpy_cannot_hold_is_an_error_that_says_what_to_do(on_gpu, X):
    tensor = TorchTensor(X)
    tensor.dtype = "bfloat16"
    with pytest.raises(TypeError, match=r"tensor of bfloat16 .*BFloat16.*X\.float\(\)"):
        FlatL2Neighbors(device="cpu").fit(tensor)


def test_none_is_the_gpu_of_the_array_and_another_device_wins(on_gpu, devices, X):
    for device in (None, "cpu", "cuda", "cuda:0"):
        Call(on_gpu(X), device)
    assert devices == ["cuda:1", "cpu", "cuda", "cuda:0"]


def test_a_call_copies_its_input_once_and_only_its_input(on_gpu, devices, X):
    given = on_gpu(X)
    call = Call(given, None)
    assert_array_equal(call.X, X, strict=True)
    assert not np.shares_memory(call.X, X)
    answer = call.give_back(X[:3])
    assert (type(answer), number_of(answer)) == (on_gpu, 1)
    assert given.n_copies == 1


def test_centroids_and_codebooks_may_be_on_a_gpu(on_gpu, X):
    index = IVFPQNeighbors(3, device="cpu", m=2, **IVF).fit(X)
    given = IVFPQNeighbors(
        3,
        device="cpu",
        nprobe=1,
        init=on_gpu(index.cluster_centers_),
        max_iter=0,
        codebooks=on_gpu(index.codebooks_),
    ).fit(X)
    for array, wanted in zip(given.kneighbors(X), index.kneighbors(X), strict=True):
        assert_array_equal(array, wanted)


def test_a_tensor_on_the_host_is_like_any_array_there(on_gpu, X):
    tensor = TorchTensor(X, None, is_cuda=False)
    assert library_of(tensor) is None
    distances, ids = FlatL2Neighbors(3).fit(tensor).kneighbors(tensor)
    assert type(distances) is type(ids) is np.ndarray


@pytest.mark.parametrize(
    "X", [None, np.eye(2), [[1.0]], "text", np.matrix([[1.0]])], ids=type
)
def test_what_is_on_the_host_is_left_as_it_is(devices, X):
    assert library_of(X) is None
    assert as_host_array(X) is X
    for device in (None, "cuda:1"):
        call = Call(X, device)
        assert call.X is X
        assert call.give_back("answer") == "answer"
    assert devices == [None, "cuda:1"]


def test_real_tensors_on_the_host():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    X = torch.arange(12.0).reshape(6, 2)
    index = FlatL2Neighbors(1).fit(X)
    assert index.reconstruct(0).dtype == np.float32
    distances, ids = index.kneighbors(X)
    assert type(distances) is np.ndarray
    assert_array_equal(ids.ravel(), np.arange(6))
    # What is done with answers for a tensor on a GPU.
    assert_array_equal(torch.from_numpy(distances).to(X.device).cpu().numpy(), 0)


def test_libraries_are_not_imported_and_a_missing_one_is_named(run_script):
    source = """
import sys
sys.modules["numba_cuda"] = None  # not installed
import numpy as np
from sklearn_ann import FlatL2Neighbors

class OnGpu:
    __cuda_array_interface__ = {"shape": (3, 3), "typestr": "<f8", "data": (16, False)}

index = FlatL2Neighbors(1).fit(np.eye(3))
index.kneighbors(np.eye(3))
assert not {"torch", "cupy", "sklearn_ann._cuda"} & {*sys.modules}
for call in (FlatL2Neighbors().fit, index.kneighbors):
    try:
        call(OnGpu())
    except ImportError as error:
        assert "sklearn-ann-numba[cuda13]" in str(error), error
        assert "device='cpu'" in str(error), error
        print("named")
"""
    assert run_script(source, NUMBA_ENABLE_CUDASIM="0").split() == ["named"] * 2
