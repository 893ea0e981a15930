"""Fixtures of the CUDA tests. One process has one backend: see ``cuda_lane``."""

import numpy as np
import pytest


@pytest.fixture
def backend():
    """The operations on the first GPU, or on the simulated one."""
    from sklearn_ann import _cuda

    return _cuda.on_device(0)


@pytest.fixture(autouse=True)
def forward_order():
    yield
    # Imported late: importing it skips where CUDA cannot run.
    import cuda_lane

    cuda_lane.set_order("forward")


@pytest.fixture(autouse=True)
def few_calibration_queries(monkeypatch):
    """A simulated GPU takes seconds for what a thousand queries are."""
    import cuda_lane  # noqa: F401

    monkeypatch.setattr("sklearn_ann._calibration.MOST_QUERIES", 4)


@pytest.fixture(autouse=True)
def nothing_kept():
    """No test has the memory of the search before it."""
    import cuda_lane  # noqa: F401

    from sklearn_ann._cuda._compat import use_device
    from sklearn_ann._cuda._scratch import forget_scratch

    with use_device(0):
        forget_scratch()


@pytest.fixture(params=["few", "many"])
def n_at_once(request, monkeypatch):
    """Both kernels of the filter, however many queries there are."""
    most = 0 if request.param == "many" else 10**6
    monkeypatch.setattr("sklearn_ann._cuda._fp32_filter.MOST_FEW", most)
    return request.param


@pytest.fixture(params=["float32", "float16"])
def table_dtype(request, monkeypatch):
    """Both kernels of the filter of codes, however many parts there are."""
    most = 0 if request.param == "float16" else 10**6
    monkeypatch.setattr("sklearn_ann._cuda._pq_filter.MOST_FLOATS", most)
    return np.dtype(request.param)


@pytest.fixture
def images(monkeypatch):
    """Indexes that were uploaded, to be searched on the GPU."""
    from sklearn_ann._cuda import _image

    made, make = [], _image._make_image
    monkeypatch.setattr(
        _image, "_make_image", lambda index: made.append(1) or make(index)
    )
    return made
