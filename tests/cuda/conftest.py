"""Fixtures of the CUDA tests. One process has one backend: see ``cuda_lane``."""

import pytest


@pytest.fixture(autouse=True)
def forward_order():
    yield
    # Imported late: importing it skips where CUDA cannot run.
    import cuda_lane

    cuda_lane.set_order("forward")
