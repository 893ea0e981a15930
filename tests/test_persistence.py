"""Saving and loading change nothing."""

import copy
import functools
import pickle

import joblib
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, __version__

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def joblib_copy(index, folder, mmap_mode=None):
    joblib.dump(index, folder / "index.joblib")
    return joblib.load(folder / "index.joblib", mmap_mode=mmap_mode)


COPIES = {
    "deepcopy": lambda index, folder: copy.deepcopy(index),
    "copy": lambda index, folder: copy.copy(index),
    "joblib": joblib_copy,
    "joblib mmap": lambda index, folder: joblib_copy(index, folder, "r"),
} | {
    f"pickle {protocol}": (
        lambda index, folder, protocol=protocol: pickle.loads(
            pickle.dumps(index, protocol)
        )
    )
    for protocol in PROTOCOLS
}

# 78 rows are enough for two lists.
ESTIMATORS = {
    "flat": FlatL2Neighbors,
    "lists": functools.partial(IVFFlatNeighbors, nlist=2, nprobe=1, random_state=0),
}

EACH = pytest.mark.parametrize("make", ESTIMATORS.values(), ids=ESTIMATORS.keys())
WAYS = pytest.mark.parametrize("make_copy", COPIES.values(), ids=COPIES.keys())


def answers(index, Q):
    yield from index.kneighbors(Q)
    yield from index.kneighbors()
    for arrays in index.radius_neighbors(Q, 2.0):
        yield np.concatenate(arrays)
    yield index.transform(Q).toarray()
    yield index.reconstruct(range(index.n_samples_fit_))
    yield index.get_feature_names_out()


def assert_same_answers(index, expected, Q):
    for found, wanted in zip(answers(index, Q), answers(expected, Q), strict=True):
        assert_array_equal(found, wanted, strict=True)


@EACH
@WAYS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_copy_answers_alike(make_copy, make, dtype, metric, rng, tmp_path):
    X, Q = rng.standard_normal((150, 7)).astype(dtype), rng.standard_normal((9, 7))
    index = make(radius=2.0, metric=metric, n_jobs=1).fit(X)
    copied = make_copy(index, tmp_path)
    assert copied.get_params() == index.get_params()
    assert vars(copied).keys() == vars(index).keys()
    assert_same_answers(copied, index, Q.astype(dtype))
    assert_same_answers(copied, index, Q)


@EACH
@WAYS
def test_a_copy_takes_more_rows(make_copy, make, rng, tmp_path):
    X, Q = rng.standard_normal((150, 7)), rng.standard_normal((9, 7))
    index = make().fit(X[:100])
    copied = make_copy(index, tmp_path).partial_fit(X[100:])
    assert index.n_samples_fit_ == 100
    assert copied.n_samples_fit_ == 150
    assert_same_answers(copied, index.partial_fit(X[100:]), Q)


@EACH
@WAYS
def test_a_copy_of_an_unfitted_estimator_can_be_fitted(make_copy, make, rng, tmp_path):
    X = rng.standard_normal((80, 7))
    copied = make_copy(make(3), tmp_path)
    assert not copied.is_trained
    assert_same_answers(copied.fit(X), make(3).fit(X), X)


@EACH
def test_a_deep_copy_does_not_see_changes_of_the_caller_s_array(make, rng):
    X = rng.standard_normal((80, 4))
    before = X.copy()
    copied = copy.deepcopy(make().fit(X))
    X[:] = 0
    assert_array_equal(copied.reconstruct(range(80)), before)


@EACH
def test_a_memory_mapped_index_stays_on_disk(make, rng, tmp_path):
    index = make().fit(rng.standard_normal((150, 7)))
    loaded = joblib_copy(index, tmp_path, mmap_mode="r")
    rows = getattr(loaded._index, "rows", loaded._index)
    for field in (rows.X, rows.codes):
        while isinstance(field.base, np.ndarray):
            field = field.base
        assert isinstance(field, np.memmap)


@EACH
def test_room_for_more_rows_is_not_saved(make, rng):
    X = rng.standard_normal((4000, 7))
    index = make().fit(X[:3000]).partial_fit(X[3000:3001]).partial_fit(X[3001:])
    longer = pickle.dumps(index.partial_fit(X[:1]))
    # Panels that are not full are, and 1 to 3 of these may be more.
    fewer = pickle.dumps(make().fit(np.vstack([X, X[:1]])))
    assert len(longer) < 1.05 * len(fewer)


@EACH
def test_saving_what_was_loaded_gives_the_same_bytes(make, rng):
    index = make().fit(rng.standard_normal((150, 7)))
    saved = pickle.dumps(pickle.loads(pickle.dumps(index)))
    assert pickle.dumps(pickle.loads(saved)) == saved


_SCRIPT = """
import pickle, sys
import numpy as np
with open(sys.argv[1], "rb") as file:
    index, Q = pickle.load(file)
np.savez(sys.argv[2], *index.kneighbors(Q))
"""


@EACH
def test_another_process_answers_alike(make, rng, tmp_path, run_script):
    X, Q = rng.standard_normal((150, 7)), rng.standard_normal((9, 7))
    index = make().fit(X)
    (tmp_path / "index.pickle").write_bytes(pickle.dumps((index, Q)))
    run_script(_SCRIPT, tmp_path / "index.pickle", tmp_path / "found.npz")
    with np.load(tmp_path / "found.npz") as found:
        for name, expected in zip(found, index.kneighbors(Q), strict=True):
            assert_array_equal(found[name], expected, strict=True)


@pytest.mark.parametrize("is_fitted", [False, True])
def test_another_version_warns(is_fitted, rng, monkeypatch):
    index = FlatL2Neighbors()
    if is_fitted:
        index.fit(rng.standard_normal((20, 3)))
    with monkeypatch.context() as patch:
        patch.setattr("sklearn_ann._state.__version__", "0.0.1")
        saved = pickle.dumps(index)
    message = f"saved by sklearn_ann 0.0.1 and is loaded by {__version__}"
    with pytest.warns(UserWarning, match=message):
        loaded = pickle.loads(saved)
    assert vars(loaded).keys() == vars(index).keys()
