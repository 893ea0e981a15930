"""A fit that fails changes nothing, and a search sees one fitted estimator."""

import copy
import functools
import gc
import itertools
import os
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import reference
from numpy.testing import assert_array_equal

import sklearn_ann
from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors, _state
from sklearn_ann._state import lock_of

_LISTS = {"nlist": 2, "nprobe": 1, "max_iter": 2, "random_state": 0}
ESTIMATORS = {
    "flat": FlatL2Neighbors,
    "lists": functools.partial(IVFFlatNeighbors, **_LISTS),
    "codes": functools.partial(IVFPQNeighbors, m=2, nbits=4, **_LISTS),
    "stored": functools.partial(
        IVFPQNeighbors, m=2, store_vectors=True, refine_factor=2, nbits=4, **_LISTS
    ),
}
EACH = pytest.mark.parametrize("make", ESTIMATORS.values(), ids=ESTIMATORS.keys())


@pytest.fixture
def X(rng):
    return rng.standard_normal((100, 5)).astype(np.float32)


def answers(index, Q):
    """Everything an estimator answers, as plain lists that compare to the bit."""
    found = [*index.kneighbors(Q), *index.kneighbors(), index.reconstruct(range(7))]
    found += [
        index.transform(Q).toarray(),
        *map(np.concatenate, index.radius_neighbors(Q)),
    ]
    learned = {
        name: np.asarray(value).tolist()
        for name, value in vars(index).items()
        if name.endswith("_")
    }
    return [array.tolist() for array in found], learned, index.ntotal


# -- a fit that fails ----------------------------------------------------------------


class FailAt:
    """Raise an error at the nth call or return of a function of the package."""

    _folder = str(Path(sklearn_ann.__file__).parent)
    _last = "_take_over", "_fit_in_one_step", "fit", "partial_fit"

    def __init__(self, nth, error):
        self.nth, self.error, self.has_failed = nth, error, False

    def __call__(self, frame, event, _):
        code = frame.f_code
        if event not in ("call", "return") or not code.co_filename.startswith(
            self._folder
        ):
            return
        if event == "return" and code.co_name in self._last:
            return  # all is done
        self.nth -= 1
        if self.nth == 0:
            self.has_failed = True
            raise self.error("injected")

    def __enter__(self):
        sys.setprofile(self)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)


CHANGES = {
    "wider": ({}, lambda rng: rng.standard_normal((80, 9)).astype(np.float32)),
    "narrower": ({}, lambda rng: rng.standard_normal((150, 3)).astype(np.float32)),
    "cosine": (
        {"metric": "cosine"},
        lambda rng: rng.standard_normal((90, 5)).astype(np.float32),
    ),
    "float64": ({"metric": "sqeuclidean"}, lambda rng: rng.standard_normal((90, 5))),
}


def fail_everywhere(index, method, X, Q, first=1, step=1):
    """Interrupt a method at one place after another, until it succeeds; the last."""
    before, expected = vars(index).copy(), answers(index, Q)
    for n_failures in itertools.count():
        place = first + n_failures * step
        error = (ValueError, MemoryError, KeyboardInterrupt)[n_failures % 3]
        with FailAt(place, error) as failure:
            try:
                getattr(index, method)(X)
            except error:
                assert failure.has_failed
        if not failure.has_failed:
            return place - step
        assert vars(index).keys() == before.keys()
        assert all(vars(index)[name] is value for name, value in before.items())
        if n_failures % 8 == 0:
            assert answers(index, Q) == expected
            assert answers(pickle.loads(pickle.dumps(index)), Q) == expected


@EACH
@pytest.mark.parametrize("change", CHANGES)
def test_a_fit_that_fails_anywhere_changes_nothing(make, change, X, rng):
    parameters, make_vectors = CHANGES[change]
    others = make_vectors(rng)
    expected = answers(make(**parameters).fit(others), others[:9])
    index = make().fit(X).set_params(**parameters)
    # Each change fails at other places: all of them together at each.
    first, step = 1 + list(CHANGES).index(change), len(CHANGES)
    assert fail_everywhere(index, "fit", others, X[:9], first, step) > 25
    assert answers(index, others[:9]) == expected


@EACH
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_partial_fit_that_fails_anywhere_changes_nothing(make, dtype, X):
    more = (3 * X[:40]).astype(dtype)
    expected = make().fit(X[:80]).partial_fit(X[80:]).partial_fit(more)
    index = make().fit(X[:80]).partial_fit(X[80:])
    assert fail_everywhere(index, "partial_fit", more, X[:9]) > 15
    assert answers(index, X[:9]) == answers(expected, X[:9])


@EACH
def test_fewer_rows_are_added_after_a_failure(make, X, rng):
    index, unharmed = make().fit(X), make().fit(X)
    for n in (700, 300, 29, 1, 127):
        more = rng.standard_normal((n, 5)).astype(np.float32)
        for n_events in (5, 12, 15, 18, 21, 25, 30):
            with FailAt(n_events, MemoryError) as failure:
                try:
                    index.partial_fit(more)
                except MemoryError:
                    assert failure.has_failed
            assert failure.has_failed
        fewer = more[: n // 2 + 1]
        index.partial_fit(fewer)
        unharmed.partial_fit(fewer)
        restored = pickle.loads(pickle.dumps(index))
        assert answers(index, X[:9]) == answers(unharmed, X[:9])
        assert answers(restored, X[:9]) == answers(unharmed, X[:9])


@EACH
def test_a_copy_does_not_see_rows_that_are_added(make, X):
    index = make().fit(X)
    copied, expected = copy.copy(index), answers(index, X[:9])
    index.partial_fit(X[:3])
    assert answers(pickle.loads(pickle.dumps(copied)), X[:9]) == expected
    assert answers(copied.partial_fit(X[:3]), X[:9]) == answers(index, X[:9])


@EACH
def test_a_first_fit_that_fails_leaves_an_unfitted_estimator(make, X):
    index = make()
    before = vars(index).copy()
    for method in (index.fit, index.partial_fit):
        with pytest.raises(ValueError, match="NaN"):
            method(np.full((9, 4), np.nan))
        assert vars(index) == before
        assert not index.is_trained
    assert index.partial_fit(X).n_features_in_ == 5


def test_queries_of_the_width_of_a_fit_that_failed_are_refused(rng):
    index = IVFFlatNeighbors(nlist=10, random_state=0)
    with pytest.warns(UserWarning, match="nlist=10 leaves"):
        index.fit(rng.standard_normal((50, 4)))
    with pytest.raises(ValueError, match="n_samples=5 should be >= nlist=10"):
        index.fit(rng.standard_normal((5, 4000)))
    with pytest.raises(ValueError, match=r"X has 4000 features.* is expecting 4"):
        index.kneighbors(rng.standard_normal((3, 4000)))
    assert index.kneighbors(rng.standard_normal((3, 4)))[1].shape == (3, 5)


@EACH
def test_nothing_is_left_of_an_earlier_fit(make, X):
    pandas = pytest.importorskip("pandas")
    index = make().fit(pandas.DataFrame(X, columns=list("abcde")))
    index.note = "mine"
    index.fit(X)
    assert not hasattr(index, "feature_names_in_")
    assert index.note == "mine"
    assert vars(index).keys() == {*vars(make().fit(X)), "note"}


def test_what_is_set_during_a_fit_stays(X, monkeypatch):
    index = IVFFlatNeighbors(nlist=2, nprobe=1, random_state=0).fit(X)
    fill = IVFFlatNeighbors._fill

    def fill_late(self, *args):
        index.set_params(nprobe=2)
        index.note = "mine"
        return fill(self, *args)

    monkeypatch.setattr(IVFFlatNeighbors, "_fill", fill_late)
    assert index.fit(X).nprobe == 2
    assert index.note == "mine"


# -- several threads -----------------------------------------------------------------


_REFIT = """
import sys, threading, time
import numpy as np
import test_state

rng = np.random.default_rng(0)
make = test_state.ESTIMATORS[sys.argv[1]]
data = [rng.standard_normal(shape, np.float32) for shape in [(150, 4), (90, 700)]]
fitted = [make().fit(X) for X in data]
expected = [index.kneighbors(X) for index, X in zip(fitted, data)]
index, is_done, n_found = make().fit(data[0]), threading.Event(), [0, 0]

def search(number):
    X, (distances, ids) = data[number], expected[number]
    while not is_done.is_set():
        try:
            found = index.kneighbors(X)
        except ValueError as error:
            assert "features" in str(error), error
            time.sleep(0.001)  # or the fit waits for the interpreter at each step
            continue
        n_found[number] += 1
        assert (found[0] == distances).all() and (found[1] == ids).all()

failures = []
threading.excepthook = lambda args: failures.append(args.exc_value)
threads = [threading.Thread(target=search, args=(number,)) for number in (0, 1)]
for thread in threads:
    thread.start()
n_fits = 0
while not failures and (n_fits < 20 or min(n_found) < 3) and n_fits < 500:
    n_fits += 1
    index.fit(data[n_fits % 2])
is_done.set()
for thread in threads:
    thread.join()
assert not failures, failures
assert min(n_found) >= 3, n_found
print("done")
"""


@pytest.mark.parametrize("name", ["flat", "lists", "codes"])
def test_a_fit_to_another_width_while_others_search(name, run_script):
    tests = str(Path(__file__).parent)
    paths = os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])
    package = str(Path(sklearn_ann.__file__).parents[1])
    assert (
        run_script(_REFIT, name, PYTHONPATH=f"{package}{os.pathsep}{paths}") == "done"
    )


@EACH
def test_threads_that_add_rows_take_turns(make, rng):
    X = rng.standard_normal((1600, 5)).astype(np.float32)
    index = make()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(index.partial_fit, np.split(X, 16)))
    assert index.ntotal == 1600
    assert_array_equal(np.sort(index.kneighbors(X[:3], 1600, False)), [range(1600)] * 3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_can_fit_what_another_thread_was_fitting(X, run_script):
    script = """
import os, threading, numpy as np
from sklearn_ann import FlatL2Neighbors
from sklearn_ann._state import lock_of

index, X = FlatL2Neighbors(2), np.eye(9, dtype=np.float32)
index.fit(X)
is_held, is_done = threading.Event(), threading.Event()

def hold():
    with lock_of(index):
        is_held.set()
        is_done.wait(60)

thread = threading.Thread(target=hold)
thread.start()
is_held.wait(60)
child = os.fork()
if child == 0:
    import signal
    signal.alarm(30)
    index.partial_fit(X)
    os._exit(index.ntotal)
_, status = os.waitpid(child, 0)
is_done.set()
thread.join()
print(os.waitstatus_to_exitcode(status))
"""
    assert run_script(script) == "18"


class Comparable(FlatL2Neighbors):
    """Has no hash."""

    def __eq__(self, other):
        return True


def test_an_estimator_needs_no_hash(X):
    assert Comparable().fit(X).partial_fit(X).ntotal == 200


def test_a_state_that_is_refused_changes_nothing(X):
    index = FlatL2Neighbors().fit(X)
    before = vars(index).copy()
    with pytest.raises(ValueError, match="n_features_in_ must be 5"):
        index.__setstate__({**index.__getstate__(), "n_features_in_": 4})
    assert all(vars(index)[name] is value for name, value in before.items())


def test_locks_are_those_of_living_estimators():
    index, other = FlatL2Neighbors(), FlatL2Neighbors()
    assert lock_of(index) is lock_of(index)
    assert lock_of(index) is not lock_of(other)
    gc.collect()  # estimators of other tests, too
    n_before = len(_state._locks)
    del other
    gc.collect()
    assert len(_state._locks) == n_before - 1


# -- the caller's array --------------------------------------------------------------


@EACH
def test_partial_fit_copies_a_buffer_that_is_used_again(make, rng):
    pieces = rng.standard_normal((3, 200, 5)).astype(np.float32)
    buffer, index = np.empty_like(pieces[0]), make()
    for piece in pieces:
        buffer[:] = piece
        index.partial_fit(buffer)
    expected = make()
    for piece in pieces:
        expected.partial_fit(piece.copy())
    assert answers(index, pieces[0]) == answers(expected, pieces[0])


def test_a_fit_refers_to_the_caller_s_array(X):
    index = FlatL2Neighbors().fit(X)
    assert np.shares_memory(index._index.X, X)
    assert not np.shares_memory(FlatL2Neighbors().partial_fit(X)._index.X, X)
    expected = reference.knn(X[:3], X, 4)[1]
    assert_array_equal(index.kneighbors(X[:3], 4)[1], expected)


# -- a search changes nothing --------------------------------------------------------


@EACH
def test_a_search_changes_no_attribute(make, X):
    index = make().fit(X)
    before = vars(index).copy()
    answers(index, X[:5])
    assert vars(index).keys() == before.keys()
    assert all(vars(index)[name] is value for name, value in before.items())


@EACH
def test_a_metric_that_is_set_after_fit_waits_for_the_next_fit(make, X):
    index = make().fit(X)
    expected = answers(index, X[:5])
    index.set_params(metric="cosine")
    assert answers(index, X[:5]) == expected
    index.set_params(metric="manhattan")
    for search in (index.kneighbors, index.radius_neighbors, index.transform):
        with pytest.raises(
            ValueError, match=r"metric must be one of .* Got 'manhattan'"
        ):
            search(X[:5])


def test_fits_in_two_threads_do_not_mix(X):
    index, is_inside = FlatL2Neighbors(), threading.Event()
    with lock_of(index):
        thread = threading.Thread(target=lambda: (is_inside.set(), index.fit(X)))
        thread.start()
        is_inside.wait(10)
        thread.join(0.05)
        assert thread.is_alive() and not index.is_trained
    thread.join(30)
    assert index.is_trained
