"""Where the tests of CUDA run: in the simulator, on a GPU, or nowhere.

Importing this module skips the tests of the module that does, where there is neither.
"""

import pytest

_HOW = (
    "run NUMBA_ENABLE_CUDASIM=1 python -m pytest tests/cuda, with "
    'pip install -e ".[cuda-test]"'
)

pytest.importorskip("numba_cuda", reason=f"numba-cuda is not installed: {_HOW}")

from numba import config, cuda

from sklearn_ann._cpu._target import target_features

SIMULATED = bool(config.ENABLE_CUDASIM)


def _spoil_scratch():
    """Nobody reads what the search before has left behind."""
    from sklearn_ann._cuda._scratch import _Stack

    new = _Stack.new
    _Stack.new = lambda *args: cuda_simulator.spoil(new(*args))


if SIMULATED:
    import cuda_simulator

    cuda_simulator.install()
    _spoil_scratch()
elif not cuda.is_available():
    pytest.skip(f"no GPU: {_HOW}", allow_module_level=True)

# For codes, which have the bits of a CPU with fused multiply-adds.
has_fma = pytest.mark.skipif(
    "fma" not in target_features(), reason="the CPU rounds products on their own"
)

# Orders in which the simulator lets threads and blocks take turns.
ORDERS = cuda_simulator.ORDERS if SIMULATED else ["hardware"]


def set_order(order):
    if SIMULATED:
        cuda_simulator.set_order(order)
