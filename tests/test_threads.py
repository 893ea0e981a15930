"""Threads, forks and interruptions change no answer, and nothing waits for ever."""

import functools
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors, _parallel
from sklearn_ann._backend import get_backend
from sklearn_ann._cpu import _ivf_flat, _ivf_pq, _knn, _threads
from sklearn_ann._cpu._threads import run_blocks

ESTIMATORS = {
    "flat": FlatL2Neighbors,
    "lists": functools.partial(IVFFlatNeighbors, nlist=20, nprobe=3, random_state=0),
}

EACH = pytest.mark.parametrize("make", ESTIMATORS.values(), ids=ESTIMATORS.keys())


@pytest.fixture
def X(rng):
    return rng.standard_normal((1000, 8)).astype(np.float32)


@pytest.fixture
def threads_at_work(monkeypatch):
    """The threads that a search calls its kernel on."""
    found, kernel = set(), _knn.search_lists

    def record(*args):
        found.add(threading.get_ident())
        kernel(*args)

    monkeypatch.setattr(_knn, "search_lists", record)
    return found


# -- n_jobs --------------------------------------------------------------------------


@pytest.mark.parametrize("n_queries", [2, 1000])
def test_n_jobs_threads_share_a_search(n_queries, X, split_work, monkeypatch):
    index = FlatL2Neighbors(n_jobs=3).fit(X)
    expected = index.kneighbors(X[:n_queries])
    meeting, kernel = threading.Barrier(3), _knn.search_lists

    def meet(*args):
        # Fails unless three threads are here at the same time.
        meeting.wait(30)
        kernel(*args)

    monkeypatch.setattr(_knn, "search_lists", meet)
    for found, wanted in zip(index.kneighbors(X[:n_queries]), expected, strict=True):
        assert_array_equal(found, wanted)


@pytest.mark.parametrize("n_queries", [9, 1000])
def test_n_jobs_threads_share_a_search_of_lists(n_queries, X, split_work, monkeypatch):
    index = ESTIMATORS["lists"](n_jobs=3).fit(X)
    expected = index.kneighbors(X[:n_queries])
    meeting, kernel = threading.Barrier(3), _ivf_flat.search_lists

    def meet(*args):
        meeting.wait(30)
        kernel(*args)

    monkeypatch.setattr(_ivf_flat, "search_lists", meet)
    for found, wanted in zip(index.kneighbors(X[:n_queries]), expected, strict=True):
        assert_array_equal(found, wanted)


@pytest.mark.parametrize(("n_queries", "n_threads"), [(1, 1), (1000, 2)])
def test_a_batch_among_codes_uses_its_threads(n_queries, n_threads, X, monkeypatch):
    index = IVFPQNeighbors(nlist=20, nprobe=3, m=8, random_state=0, n_jobs=2).fit(X)
    threads_of = []

    def record(kernel, blocks, n_threads):
        threads_of.append(n_threads)
        run_blocks(kernel, blocks, n_threads)

    monkeypatch.setattr(_ivf_pq, "run_blocks", record)
    index.kneighbors(X[:n_queries])
    assert threads_of == [n_threads]


@pytest.mark.parametrize("n_queries", [1, 1000])
def test_one_job_is_the_calling_thread(n_queries, X, threads_at_work, split_work):
    FlatL2Neighbors(n_jobs=1).fit(X).kneighbors(X[:n_queries])
    assert threads_at_work == {threading.get_ident()}


def test_a_small_search_stays_on_the_calling_thread(X, threads_at_work):
    FlatL2Neighbors(n_jobs=3).fit(X).kneighbors(X[:3])
    assert threads_at_work == {threading.get_ident()}


@pytest.mark.parametrize("n_jobs", [None, -1, 3])
def test_the_environment_bounds_the_threads(
    n_jobs, X, threads_at_work, split_work, monkeypatch
):
    # joblib's worker processes are told their share of the machine so.
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    FlatL2Neighbors(n_jobs=n_jobs).fit(X).kneighbors(X)
    assert threads_at_work == {threading.get_ident()}


@pytest.fixture
def clock(monkeypatch):
    """The time in seconds, as a list of one number, by which answers are remembered."""
    seconds = [100.0]
    clock = SimpleNamespace(monotonic=lambda: seconds[0])
    monkeypatch.setattr(_parallel, "time", clock)
    return seconds


@pytest.fixture
def joblib_is_asked(clock, monkeypatch):
    """How often joblib says how many threads there may be; nothing is remembered."""
    asked, ask = [], joblib.effective_n_jobs
    monkeypatch.setattr(_parallel, "_answers", {})
    monkeypatch.setattr(
        joblib, "effective_n_jobs", lambda n_jobs: asked.append(n_jobs) or ask(n_jobs)
    )
    return asked


def test_joblib_is_asked_once_a_second(joblib_is_asked, clock):
    for _ in range(5):
        assert _parallel.count_threads(3, 2**30) == 3
    assert joblib_is_asked == [3]
    _parallel.count_threads(2, 2**30)
    clock[0] += 0.9
    _parallel.count_threads(3, 2**30)
    assert joblib_is_asked == [3, 2]
    clock[0] += 0.2
    _parallel.count_threads(3, 2**30)
    assert joblib_is_asked == [3, 2, 3]


def test_what_joblib_says_holds_for_its_context(joblib_is_asked):
    for _ in range(2):
        assert _parallel.count_threads(3, 2**30) == 3
        with joblib.parallel_config("sequential"):
            assert _parallel.count_threads(3, 2**30) == 1
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(_parallel.count_threads, 3, 2**30).result() >= 1
    assert len(joblib_is_asked) == 3


# -- many callers --------------------------------------------------------------------


@EACH
def test_eight_threads_search_one_estimator(make, X, rng, split_work):
    index = make(n_jobs=3).fit(X)
    expected_distances, expected_ids = index.kneighbors(X)

    def search(seed):
        choose = np.random.default_rng(seed)
        for size in choose.choice([1, 2, 3, 4, 7, 50], 1000):
            start = choose.integers(0, len(X) - size)
            batch = slice(start, start + size)
            distances, ids = index.kneighbors(X[batch])
            assert_array_equal(ids, expected_ids[batch])
            assert_array_equal(distances, expected_distances[batch])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(search, range(8)))


@EACH
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_joblib_around_an_estimator_with_jobs_of_its_own(backend, make, rng):
    # Large enough for threads without any constant patched: workers are new processes.
    X = rng.standard_normal((16384, 64)).astype(np.float32)
    index = make(n_jobs=2).fit(X)
    expected = index.kneighbors(X[:400])
    parallel = joblib.Parallel(n_jobs=2, backend=backend)
    for found in parallel(joblib.delayed(index.kneighbors)(X[:400]) for _ in range(4)):
        assert_array_equal(found[0], expected[0])
        assert_array_equal(found[1], expected[1])


_POOL = """
import multiprocessing, warnings
import numpy as np
from sklearn_ann import FlatL2Neighbors

X = np.random.default_rng(0).standard_normal((16384, 64)).astype(np.float32)
indexes = [FlatL2Neighbors(n_jobs=n_jobs).fit(X) for n_jobs in (None, -1, 1, 2)]

def search(number):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return indexes[number].kneighbors(X[:400])[1]

if __name__ == "__main__":
    expected = indexes[0].kneighbors(X[:400])[1]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.map(search, range(4))
    assert all((ids == expected).all() for ids in found)
    print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_worker_of_a_pool_searches_without_a_warning(run_script):
    assert run_script(_POOL) == "done"


_FORK = """
import os
import signal
import sys
import threading
import numpy as np
import sklearn_ann._parallel
from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors
from sklearn_ann._cpu import _schedule
from sklearn_ann._cpu._threads import run_blocks

sklearn_ann._parallel._ONE_THREAD_WORK, _schedule._MIN_WORK = 0, 1
X = np.random.default_rng(0).standard_normal((1000, 8)).astype(np.float32)
indexes = {
    "flat": FlatL2Neighbors(n_jobs=3),
    "lists": IVFFlatNeighbors(nlist=20, nprobe=3, random_state=0, n_jobs=3),
}
index = indexes[sys.argv[1]].fit(X)
expected = index.kneighbors(X)[1]
child = os.fork()
if child == 0:
    signal.alarm(60)
    code = 1
    try:
        for _ in range(3):
            assert (index.kneighbors(X)[1] == expected).all()
        assert (index.fit(X).kneighbors(X)[1] == expected).all()
        # Fails unless three threads are there at the same time.
        meeting = threading.Barrier(3)
        run_blocks(meeting.wait, [(30,)] * 3, 3)
        code = 0
    finally:
        os._exit(code)
_, status = os.waitpid(child, 0)
assert (index.kneighbors(X)[1] == expected).all()
print(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_a_forked_child_searches_with_threads_of_its_own(kind, run_script):
    assert run_script(_FORK, kind) == "0"


# -- run_blocks ----------------------------------------------------------------------


@pytest.mark.parametrize("n_threads", [1, 2, 3, 50])
@pytest.mark.parametrize("n_blocks", [0, 1, 2, 30])
def test_every_block_is_worked_once(n_threads, n_blocks):
    done = []
    run_blocks(
        lambda *block: done.append(block), ((i, -i) for i in range(n_blocks)), n_threads
    )
    assert sorted(done) == [(i, -i) for i in range(n_blocks)]


def test_where_no_thread_can_be_started_the_caller_works(monkeypatch):
    def fail(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_threads, "_pool", None)
    monkeypatch.setattr(threading.Thread, "start", fail)
    test_every_block_is_worked_once(3, 30)


def test_work_that_the_pool_kept_although_it_failed_is_waited_for(monkeypatch):
    pool, done, is_late = ThreadPoolExecutor(1), [], threading.Event()
    started = threading.Event()

    class KeepsAndFails:
        def submit(self, work):
            pool.submit(work)
            started.wait(10)
            raise RuntimeError("can't start new thread")

    def kernel(number):
        # The helper takes the first block, and is not done when the caller is.
        if threading.current_thread() is not threading.main_thread():
            started.set()
            is_late.wait(0.2)
        done.append(number)

    monkeypatch.setattr(_threads, "_pool", KeepsAndFails())
    run_blocks(kernel, ((number,) for number in range(5)), 2)
    assert sorted(done) == list(range(5))
    pool.shutdown()


_AT_THE_END = """
import atexit
import sys
import threading
import time
import numpy as np
import sklearn_ann._parallel
from sklearn_ann import FlatL2Neighbors
from sklearn_ann._cpu import _schedule

sklearn_ann._parallel._ONE_THREAD_WORK, _schedule._MIN_WORK = 0, 1
X = np.random.default_rng(0).standard_normal((1000, 8)).astype(np.float32)
index = FlatL2Neighbors(n_jobs=3).fit(X)
expected = index.kneighbors(X)[1]

def search():
    # After the main thread has ended, and its pool with it.
    if threading.current_thread() is not threading.main_thread():
        threading.main_thread().join()
        time.sleep(0.2)
    for _ in range(3):
        assert (index.kneighbors(X)[1] == expected).all()
    assert (index.fit(X).kneighbors(X)[1] == expected).all()
    print("done")

if sys.argv[1] == "atexit":
    atexit.register(search)
else:
    threading.Thread(target=search).start()
"""


@pytest.mark.parametrize("when", ["atexit", "thread"])
def test_a_search_at_the_end_of_the_process(when, run_script):
    assert run_script(_AT_THE_END, when) == "done"


def test_a_kernel_may_hand_out_blocks_itself():
    done = []
    run_blocks(
        lambda i: run_blocks(
            lambda j: done.append((i, j)), ((j,) for j in range(5)), 3
        ),
        ((i,) for i in range(5)),
        3,
    )
    assert sorted(done) == [(i, j) for i in range(5) for j in range(5)]


@pytest.mark.parametrize(
    "error", [ValueError, IndexError, KeyboardInterrupt, SystemExit, MemoryError]
)
@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("place", [0, 5, 99])
def test_an_exception_stops_the_work_and_is_raised(error, n_threads, place):
    started = []

    def kernel(i):
        started.append(i)
        time.sleep(0.001)
        if i == place:
            raise error("mine")

    with pytest.raises(error, match="mine"):
        run_blocks(kernel, ((i,) for i in range(1000)), n_threads)
    assert len(started) < 1000


def test_an_exception_of_a_helper_is_raised_by_the_caller():
    caller = threading.get_ident()
    helper_failed = threading.Event()

    def kernel(i):
        if threading.get_ident() != caller:
            helper_failed.set()
            raise ValueError("of a helper")
        helper_failed.wait(10)

    with pytest.raises(ValueError, match="of a helper"):
        run_blocks(kernel, ((i,) for i in range(10)), 2)


def test_after_an_exception_the_work_goes_on():
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            run_blocks(lambda i: 1 // i, ((i,) for i in range(10)), 3)
        test_every_block_is_worked_once(3, 30)


@pytest.mark.parametrize(
    "make",
    [
        FlatL2Neighbors,
        functools.partial(IVFFlatNeighbors, nlist=5, nprobe=1, random_state=0),
        functools.partial(IVFPQNeighbors, nlist=5, nprobe=1, nbits=4, random_state=0),
    ],
    ids=["flat", "lists", "codes"],
)
def test_searches_while_rows_are_added_see_one_index(make, rng):
    X = rng.standard_normal((2000, 6)).astype(np.float32)
    index = make(n_neighbors=50).fit(X[:300])
    is_done = threading.Event()

    def search():
        n_searches = 0
        while not is_done.is_set() or n_searches < 3:
            before = index.ntotal
            ids = index.kneighbors(X[:20], return_distance=False)
            assert ids.min() >= 0 and ids.max() < index.ntotal
            assert all(len(np.unique(row)) == 50 for row in ids)
            graph = index.kneighbors_graph()
            assert graph.shape[0] <= graph.shape[1] and graph.shape[1] >= before
            n_searches += 1

    with ThreadPoolExecutor(3) as pool:
        searches = [pool.submit(search) for _ in range(2)]
        try:
            for at in range(300, 2000, 5):
                index.partial_fit(X[at : at + 5])
        finally:
            is_done.set()
        for done in searches:
            done.result()
    assert index.ntotal == 2000


def test_a_search_for_more_rows_than_the_lists_hold_ends(X):
    index = IVFFlatNeighbors(nlist=2, nprobe=1, random_state=0).fit(X[:100])
    backend, found = get_backend(None), []
    search = threading.Thread(
        target=lambda: found.append(index._search(X[:3], 150, backend)), daemon=True
    )
    search.start()
    search.join(60)
    assert found, "the search goes on for ever"
    _, ids = found[0]
    assert_array_equal((ids >= 0).sum(axis=1), 100)
