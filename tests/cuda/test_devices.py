"""Two GPUs at once: one search at a time on each; settings that stay as they were."""

import gc
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from types import SimpleNamespace

import cuda_lane
import numpy as np
import pytest

from sklearn_ann import FlatL2Neighbors, _cuda
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


class FakeImage:
    """Notes where it dies: the GPUs of which a lock is held, and the one in use."""

    def __init__(self, died):
        self._died = died

    def __del__(self):
        held = [number for number, lock in _cuda._locks.items() if lock.locked()]
        self._died.append((held, _compat.device_in_use()))


def test_images_die_in_an_operation_on_their_gpu(two_gpus, backends_of):
    def knn(owner):
        if owner is not None:
            _image.remember(owner, lambda: FakeImage(died))

    died, owner = [], np.zeros(1)
    first, second = backends_of(knn, (0, 1))
    first.knn(owner)
    second.knn(owner)
    del owner
    gc.collect()
    assert died == []
    second.knn(None)
    assert died == [([1], 1)]
    first.knn(None)
    assert died == [([1], 1), ([0], 0)]


def test_images_that_die_in_many_threads_are_all_freed(backends_of):
    def knn(owner):
        if owner is not None:
            _image.remember(owner, lambda: FakeImage(died))

    died = []
    (backend,) = backends_of(knn, [0])

    def search_some():
        for _ in range(50):
            backend.knn(np.zeros(1))

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(search_some) for _ in range(4)]:
            done.result(SECONDS)
    backend.knn(None)
    assert died == [([0], 0)] * 200


def test_arrays_of_a_search_that_fails_die_with_it(backends_of):
    def fail(step):
        image = FakeImage(died)
        assert image is not None
        raise ValueError(step)

    def knn():
        try:
            fail("first")
        except ValueError as error:
            raise RuntimeError("second") from error

    died = []
    (backend,) = backends_of(knn, [0])
    with pytest.raises(RuntimeError, match="second") as info:
        backend.knn()
    assert died == [([0], 0)]
    # The error is still there, and where it came from.
    assert info.traceback[-1].name == "knn"


def test_the_frames_of_an_error_that_the_caller_handles_stay(backends_of):
    def fail(local):
        raise ValueError(local)

    def knn():
        raise RuntimeError("ours")

    (backend,) = backends_of(knn, [0])
    try:
        fail("theirs")
    except ValueError as error:
        frame = error.__traceback__.tb_next.tb_frame
        with pytest.raises(RuntimeError, match="ours"):
            backend.knn()
    assert frame.f_locals == {"local": "theirs"}


@pytest.mark.parametrize("make", ["device_array", "to_device"])
def test_a_full_gpu_is_a_memory_error_that_says_how_much_was_asked_for(
    make, monkeypatch
):
    def full(*_):
        raise _compat.CudaAPIError(2, "Call to cuMemAlloc results in OUT_OF_MEMORY")

    monkeypatch.setattr(_compat.cuda, make, full)
    with pytest.raises(MemoryError, match="an array of 12,000 bytes"):
        if make == "to_device":
            _compat.to_device(np.zeros((1000, 3), np.float32))
        else:
            _compat.empty((1000, 3), np.float32)


def test_other_errors_of_the_driver_stay_what_they_are(monkeypatch):
    def broken(*_):
        raise _compat.CudaAPIError(700, "Call to cuMemAlloc: illegal address")

    monkeypatch.setattr(_compat.cuda, "device_array", broken)
    with pytest.raises(_compat.CudaAPIError, match="700"):
        _compat.empty(3, np.float32)


def test_freed_memory_is_free_at_once(monkeypatch):
    context = SimpleNamespace(
        memory_manager=SimpleNamespace(deallocations=[100, 200]),
        get_memory_info=lambda: SimpleNamespace(
            free=1000 - sum(context.memory_manager.deallocations)
        ),
    )
    monkeypatch.setattr(_compat, "IS_SIMULATED", False)
    monkeypatch.setattr(_compat.cuda, "current_context", lambda: context)
    assert _compat.free_memory() == 1000


@IN_THE_SIMULATOR
def test_fits_and_searches_leave_no_array_on_the_gpu():
    rng = np.random.default_rng(0)
    X, Q = rng.random((20, 4), np.float32), rng.random((1, 4), np.float32)

    def fit_and_search(n_times):
        for _ in range(n_times):
            FlatL2Neighbors(2, device="cuda").fit(X).kneighbors(Q)
        return sum(type(item).__name__ == "FakeCUDAArray" for item in gc.get_objects())

    gc.collect()
    # Arrays must not wait for the collector, which may run in any thread.
    gc.disable()
    try:
        n_before = fit_and_search(3)
        assert n_before > 0
        assert [fit_and_search(5) for _ in range(3)] == [n_before] * 3
    finally:
        gc.enable()


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


_WITH_IMAGES = """
import os
import numpy as np
import sklearn_ann._cuda
from sklearn_ann._cuda import _image

class Image:
    def __del__(self):
        os.write(1, b"freed ")

alive, dead = np.zeros(1), np.zeros(1)
_image.remember(alive, Image)
_image.remember(dead, Image)
del dead
child = os.fork()
if child == 0:
    _image.drop_dead_images()
    made = []
    _image.remember(alive, lambda: made.append(1))
    assert made == [1]
    del alive
    _image.drop_dead_images()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
os.write(1, b"parent: ")
_image.drop_dead_images()
del alive
_image.drop_dead_images()
"""


@IN_THE_SIMULATOR
def test_the_child_of_a_fork_forgets_images_and_frees_none(run_script):
    assert run_script(_WITH_IMAGES) == "parent: freed freed"
