"""Two GPUs at once: one search at a time on each; settings that stay as they were."""

import gc
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext

import cuda_lane
import numpy as np
import pytest

from sklearn_ann import _cuda
from sklearn_ann._cuda import _compat, _image

SECONDS = 20

IN_THE_SIMULATOR = pytest.mark.skipif(
    not cuda_lane.SIMULATED, reason="a GPU does not work in the child of a fork"
)


@pytest.fixture
def two_gpus(monkeypatch):
    if cuda_lane.SIMULATED:
        # The simulator has one.
        monkeypatch.setattr(_compat.cuda, "gpus", [nullcontext(), nullcontext()])
    elif len(_compat.cuda.gpus) < 2:
        pytest.skip("no second GPU")


@pytest.fixture
def backends_of(monkeypatch):
    """Backends of some GPUs that have one operation, as long as the test runs."""

    def bind(operation, numbers):
        monkeypatch.setattr(_cuda, "_ON_DEVICE", (operation,))
        _cuda.on_device.cache_clear()
        return [_cuda.on_device(number) for number in numbers]

    yield bind
    _cuda.on_device.cache_clear()


def test_two_gpus_search_at_the_same_time(two_gpus, backends_of):
    both = threading.Barrier(2)

    def knn():
        before = _compat.device_in_use()
        both.wait(SECONDS)
        after = _compat.device_in_use()
        both.wait(SECONDS)
        return before, after

    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda backend: backend.knn(), backends_of(knn, (0, 1)))
        assert list(found) == [(0, 0), (1, 1)]


def test_searches_on_one_gpu_wait_for_each_other(backends_of):
    is_in, may_end, searching, most = threading.Event(), threading.Event(), [], []

    def knn():
        searching.append(1)
        most.append(len(searching))
        is_in.set()
        may_end.wait(SECONDS)
        searching.pop()

    (first,) = backends_of(knn, [0])
    # Two threads that ask for a GPU at the same time may be given a backend each.
    (second,) = backends_of(knn, [0])
    assert first is not second
    with ThreadPoolExecutor(2) as pool:
        pool.submit(first.knn)
        assert is_in.wait(SECONDS)
        other = pool.submit(second.knn)
        assert not wait([other], 0.5).done
        may_end.set()
        other.result(SECONDS)
    assert most == [1, 1]


def test_after_an_operation_the_gpu_before_it_is_in_use(two_gpus, backends_of):
    def knn():
        return _compat.device_in_use()

    before = _compat.device_in_use()
    (backend,) = backends_of(knn, [1])
    assert backend.knn() == 1
    assert _compat.device_in_use() == before


def test_each_gpu_has_an_image_of_its_own(two_gpus):
    owner, n_before = np.zeros(1), len(_image._images)
    images = []
    for number in (0, 1, 0, 1):
        with _compat.use_device(number):
            images.append(_image.remember(owner, object))
    first, second, *again = images
    assert first is not second
    assert again == [first, second]
    del owner
    gc.collect()
    assert len(_image._images) == n_before


def test_launches_in_two_threads_leave_the_warnings_as_they_were(monkeypatch):
    monkeypatch.setattr(_compat.config, "CUDA_LOW_OCCUPANCY_WARNINGS", 1)
    is_configured, has_ended = threading.Event(), threading.Event()

    class Kernel:
        """Its configuration in one thread lasts until that in the other has begun."""

        def __init__(self, tell, wait, seconds):
            self._tell, self._wait, self._seconds = tell, wait, seconds

        def __getitem__(self, grid_and_block):
            self._tell()
            self._wait(self._seconds)
            assert not _compat.config.CUDA_LOW_OCCUPANCY_WARNINGS
            return lambda: None

    with ThreadPoolExecutor(1) as pool:
        other = Kernel(is_configured.set, has_ended.wait, SECONDS)

        def start_other():
            started.append(pool.submit(_compat.launch, other, 1, 32))

        started = []
        _compat.launch(Kernel(start_other, is_configured.wait, 0.5), 1, 32)
        has_ended.set()
        started[0].result(SECONDS)
    assert _compat.config.CUDA_LOW_OCCUPANCY_WARNINGS == 1


_WHILE_SEARCHING = """
import os
import signal
import threading
from sklearn_ann import _cuda

is_searching, may_end = threading.Event(), threading.Event()

def knn():
    is_searching.set()
    may_end.wait(30)

_cuda._ON_DEVICE = (knn,)
backend = _cuda.on_device(0)
thread = threading.Thread(target=backend.knn)
thread.start()
assert is_searching.wait(30)
child = os.fork()
if child == 0:
    # An alarm ends a child that waits.
    signal.alarm(20)
    may_end.set()
    backend.knn()
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
may_end.set()
thread.join()
"""


@IN_THE_SIMULATOR
def test_the_child_of_a_fork_does_not_wait_for_a_thread_it_does_not_have(run_script):
    assert run_script(_WHILE_SEARCHING) == "0"
