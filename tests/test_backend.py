"""The seam: what every backend offers."""

import inspect

import pytest

from sklearn_ann._backend import Backend, get_backend

OPERATIONS = [name for name in vars(Backend) if not name.startswith("_")]


def test_the_default_device_is_the_cpu():
    assert get_backend(None) is get_backend("cpu")
    assert get_backend("cpu").__name__ == "sklearn_ann._cpu"


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "CPU", "", 0])
def test_another_device_is_an_error_that_says_what_to_use(device):
    with pytest.raises(ValueError, match="Use device=None or device='cpu'") as info:
        get_backend(device)
    assert repr(device) in str(info.value)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_cpu_has_the_operation_with_its_signature(operation):
    backend = get_backend("cpu")
    assert operation in backend.__all__
    _, *expected = inspect.signature(getattr(Backend, operation)).parameters.values()
    found = inspect.signature(getattr(backend, operation)).parameters.values()
    assert list(found) == expected


def test_the_seam_has_a_search_an_encoder_and_a_radius():
    assert {"knn", "radius", "encode_sq8"} <= set(OPERATIONS)
