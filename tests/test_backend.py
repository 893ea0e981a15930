"""The seam: what every backend offers."""

import inspect

import pytest

from sklearn_ann._backend import Backend, get_backend

OPERATIONS = [name for name in vars(Backend) if not name.startswith("_")]


def test_the_default_device_is_the_cpu():
    assert get_backend(None) is get_backend("cpu")
    assert get_backend("cpu").__name__ == "sklearn_ann._cpu"


@pytest.mark.parametrize(
    "device", ["gpu", "CPU", "", 0, "cuda:", "cuda:x", "cuda:-1", "cudas"]
)
def test_another_device_is_an_error_that_says_what_to_use(device):
    with pytest.raises(ValueError, match="Use device=None or device='cpu'") as info:
        get_backend(device)
    assert repr(device) in str(info.value)


def test_cuda_without_a_gpu_is_an_error_that_says_what_to_install(run_script):
    source = """
try:
    import numba_cuda
except ImportError:
    expected = ImportError
else:
    from numba import cuda
    expected = None if cuda.is_available() else RuntimeError
import numpy as np
from sklearn_ann import FlatL2Neighbors
try:
    FlatL2Neighbors(device="cuda").fit(np.eye(3))
except (ImportError, RuntimeError) as error:
    assert type(error) is expected, error
    assert "sklearn-ann-numba[cuda13]" in str(error) and "driver" in str(error)
    print("refused")
else:
    assert expected is None
    print("there is a GPU")
"""
    assert run_script(source, NUMBA_ENABLE_CUDASIM="0") in ("refused", "there is a GPU")


_WITHOUT_CUDA = """
import sys
sys.modules["numba_cuda"] = None  # not installed
import numpy as np
from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors

X = np.random.default_rng(0).standard_normal((80, 4))
lists = {"init": X[:2], "max_iter": 0, "device": "cpu"}
codebooks = X[None, 2:18].astype(np.float32)
for index in (
    FlatL2Neighbors(device="cpu"),
    IVFFlatNeighbors(**lists),
    IVFPQNeighbors(codebooks=codebooks, **lists),
):
    expected = index.fit(X).reconstruct(range(80))
    index.set_params(device="cuda")
    found = index.reconstruct(range(80))
    assert (found == expected).all() and (index.reconstruct(3) == expected[3]).all()
    for call in (index.fit, index.partial_fit, index.kneighbors):
        try:
            call(X)
        except ImportError as error:
            assert "sklearn-ann-numba[cuda13]" in str(error), error
            print("refused")
"""


def test_only_reconstruct_does_without_the_gpu_that_is_asked_for(run_script):
    found = run_script(_WITHOUT_CUDA, NUMBA_ENABLE_CUDASIM="0")
    assert found.split() == ["refused"] * 9


def test_the_cpu_does_not_import_cuda(run_script):
    source = """
import sys, numpy as np
from sklearn_ann import FlatL2Neighbors
FlatL2Neighbors(1).fit(np.eye(3)).kneighbors(np.eye(3))
print(any(name.startswith(("numba.cuda", "numba_cuda")) for name in sys.modules))
print("sklearn_ann._cuda" in sys.modules)
"""
    assert run_script(source).split() == ["False", "False"]


def test_without_the_compiler_a_fit_says_so(run_script):
    source = """
import numpy as np
from sklearn_ann import FlatL2Neighbors
for _ in range(2):
    try:
        FlatL2Neighbors().fit(np.eye(3))
    except RuntimeError as error:
        print(error)
"""
    first, second = run_script(source, NUMBA_DISABLE_JIT="1").splitlines()
    assert first == second
    assert "Unset the environment variable NUMBA_DISABLE_JIT" in first


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_cpu_has_the_operation_with_its_signature(operation):
    backend = get_backend("cpu")
    assert operation in backend.__all__
    _, *expected = inspect.signature(getattr(Backend, operation)).parameters.values()
    found = inspect.signature(getattr(backend, operation)).parameters.values()
    assert list(found) == expected


def test_the_seam_has_a_search_an_encoder_and_a_radius():
    assert {"knn", "radius", "encode_sq8"} <= set(OPERATIONS)
