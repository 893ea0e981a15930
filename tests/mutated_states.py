"""Damaged states of estimators: what loading and searching them does to a process.

``python tests/mutated_states.py 10000`` tries so many, each in a process of its own,
and counts how they end. None may crash or hang, and no answer may name a row that does
not exist.
"""

import copy
import functools
import io
import os
import pickle
import signal
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import joblib
import numpy as np

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors

_LISTS = {"nlist": 5, "nprobe": 2, "random_state": 0}
MAKERS = [
    FlatL2Neighbors,
    functools.partial(FlatL2Neighbors, metric="cosine"),
    functools.partial(IVFFlatNeighbors, **_LISTS),
    functools.partial(IVFPQNeighbors, m=3, **_LISTS),
    functools.partial(
        IVFPQNeighbors, m=5, nbits=4, store_vectors=True, refine_factor=2, **_LISTS
    ),
]

# How a child ends, as its exit code. It gets `_SECONDS` for it.
ENDS = {0: "answered", 10: "refused", 11: "search raised", 12: "id out of range"}
_SECONDS = 60


def make_estimators(rng):
    """Fitted estimators of every kind and both dtypes, and queries."""
    X = rng.standard_normal((400, 9))
    estimators = []
    for make in MAKERS:
        for dtype in (np.float32, np.float64):
            estimator = make().fit(X[:300].astype(dtype))
            estimators.append(estimator.partial_fit(X[300:].astype(dtype)))
    return estimators, X[:20]


# -- ways to store -------------------------------------------------------------------


def _as_pickle(estimator, folder):
    return pickle.dumps(estimator), pickle.loads


def _as_joblib(estimator, folder, mmap_mode=None):
    file = io.BytesIO()
    joblib.dump(estimator, file)

    def load(data):
        path = folder / f"{os.getpid()}.joblib"
        path.write_bytes(data)
        return joblib.load(path, mmap_mode=mmap_mode)

    return file.getvalue(), load


def _as_skops(estimator, folder):
    import skops.io

    data = skops.io.dumps(estimator)

    def load(data):
        trusted = skops.io.get_untrusted_types(data=data)
        return skops.io.loads(data, trusted=trusted)

    return data, load


STORES = {
    "pickle": _as_pickle,
    "joblib": _as_joblib,
    "joblib mmap": functools.partial(_as_joblib, mmap_mode="r"),
    "skops": _as_skops,
}


class _Stored:
    """Stands for an estimator in a file: any state, put into it as loading does."""

    def __init__(self, cls, state):
        self.cls, self.state = cls, state

    def __reduce__(self):
        return _set_state, (self.cls, self.state)


def _set_state(cls, state):
    estimator = cls.__new__(cls)
    estimator.__setstate__(state)
    return estimator


# -- mutations -----------------------------------------------------------------------


def _number(array, rng):
    """A value that an index must not hold, or that changes what it says."""
    n = array.size
    values = [0, 1, -1, 63, 64, n - 1, n, n + 1, 255, 2**31 - 1, 2**31, 2**62, -(2**62)]
    if array.dtype.kind == "f":
        values += [np.nan, np.inf, -np.inf, 1e-40, -0.5, 3e38, 1e300]
    return np.array(values[rng.integers(len(values))]).astype(array.dtype)


def _set_elements(array, rng):
    array = array.copy()
    for _ in range(rng.integers(1, 4)):
        if array.size:
            array.flat[rng.integers(array.size)] = _number(array, rng)
    return array


def _set_all(array, rng):
    return np.full(array.shape, _number(array, rng))


def _flip_bit(array, rng):
    array = np.array(array, order="C")
    if array.size:
        array.reshape(-1).view(np.uint8)[rng.integers(array.nbytes)] ^= np.uint8(
            1 << rng.integers(8)
        )
    return array


def _permute(array, rng):
    array = array.copy()
    if array.size:
        flat = array.reshape(-1)
        a, b = rng.integers(flat.size, size=2)
        flat[a], flat[b] = flat[b].copy(), flat[a].copy()
    return array


def _other_dtype(array, rng):
    dtypes = [
        "u1",
        "i2",
        "<i4",
        "<i8",
        ">i8",
        ">f4",
        "<f4",
        "<f8",
        "O",
        "U3",
        "?",
        "c8",
    ]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return array.astype(dtypes[rng.integers(len(dtypes))])


ARRAY_MUTATIONS = [
    _set_elements,
    _flip_bit,
    _permute,
    _other_dtype,
    lambda array, rng: array[: rng.integers(len(array) + 1)] if array.ndim else array,
    lambda array, rng: np.concatenate([array, array[:1]]) if array.ndim else array,
    lambda array, rng: np.asfortranarray(array),
    lambda array, rng: np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array,
    lambda array, rng: array.reshape(-1),
    lambda array, rng: array[..., None],
    lambda array, rng: array[:0] if array.ndim else array,
    lambda array, rng: array[::-1] if array.ndim else array,
    _set_all,
    lambda array, rng: array.tolist(),
    lambda array, rng: np.ma.array(array),
    lambda array, rng: None,
    lambda array, rng: 3,
]

VALUES = [
    *(None, True, -1, 0, 1, 2, 10**12, -(10**12), 0.5, np.nan, np.inf, 1e300, 2.0**300),
    *("", "cosine", "euclidean", "x", [], {}, (), np.zeros(3), np.int8(3), object),
]


def _paths(state, prefix=()):
    """The places of all values in nested dicts."""
    for name, value in state.items():
        yield (*prefix, name)
        if isinstance(value, dict):
            yield from _paths(value, (*prefix, name))


def mutate_state(state, rng):
    """A copy of a state with one value, or one array, changed."""
    state = copy.deepcopy(state)
    paths = list(_paths(state))
    *parents, name = paths[rng.integers(len(paths))]
    place = functools.reduce(dict.__getitem__, parents, state)
    value = place[name]
    if isinstance(value, np.ndarray) and rng.random() < 0.9:
        mutation = ARRAY_MUTATIONS[rng.integers(len(ARRAY_MUTATIONS))]
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            place[name] = mutation(value, rng)
    elif rng.random() < 0.1:
        del place[name]
    else:
        place[name] = VALUES[rng.integers(len(VALUES))]
    return state


def mutate_bytes(data, rng):
    """Flip bits of a file, cut it, or blank a part of it."""
    data, kind = bytearray(data), rng.random()
    if kind < 0.7:
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    elif kind < 0.8:
        del data[rng.integers(len(data)) :]
    else:
        start = rng.integers(len(data))
        stop = min(len(data), start + rng.integers(1, 200))
        data[start:stop] = bytes(stop - start)
    return bytes(data)


# -- a child -------------------------------------------------------------------------


def _use(estimator, Q):
    """Search in every way; whether all row numbers are those of rows."""
    n = estimator.n_samples_fit_
    found = [
        estimator.kneighbors(Q, 4, return_distance=False),
        estimator.kneighbors(Q[:1], 4, return_distance=False),
        estimator.kneighbors(n_neighbors=3, return_distance=False),
        np.concatenate(estimator.radius_neighbors(Q, 3.0, return_distance=False)),
        estimator.transform(Q).indices,
    ]
    estimator.reconstruct(range(n))
    estimator.partial_fit(Q)
    found.append(estimator.kneighbors(Q, 4, return_distance=False))
    return all(ids.min(initial=0) >= 0 for ids in found) and all(
        ids.max(initial=0) < n + len(Q) * (ids is found[-1]) for ids in found
    )


def _child(load, data, Q):
    """The exit code of a process that loads and searches; warnings are ignored."""
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    try:
        estimator = load(data)
    except BaseException:
        return 10
    try:
        return 0 if _use(estimator, Q) else 12
    except BaseException:
        return 11


def try_in_child(load, data, Q):
    """How a process ends that loads and searches this."""
    child = os.fork()
    if child == 0:
        code = 13
        try:
            signal.alarm(_SECONDS)
            # Whatever a damaged file says, no more memory than this.
            import resource

            resource.setrlimit(resource.RLIMIT_AS, (2**34, 2**34))
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 2)
                code = _child(load, data, Q)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return ENDS.get(code, f"crashed ({code})")


def campaign(n_mutations, seed, stores=tuple(STORES)):
    """Count how loading and searching mutated states ends."""
    rng = np.random.default_rng(seed)
    estimators, Q = make_estimators(rng)
    ends = Counter()
    with tempfile.TemporaryDirectory() as folder:
        ready = [
            (estimator, name, *STORES[name](estimator, Path(folder)))
            for estimator in estimators
            for name in stores
        ]
        for estimator, name, data, load in ready:
            # Everything is compiled before the first fork, and unharmed files answer.
            assert _use(copy.deepcopy(estimator), Q.astype(estimator._index_dtype))
            assert try_in_child(load, data, Q) == "answered", name
        for number in range(n_mutations):
            estimator, name, data, load = ready[rng.integers(len(ready))]
            if rng.random() < 0.6 and name != "skops":
                state = mutate_state(estimator.__getstate__(), rng)
                stored = _Stored(type(estimator), state)
                mutated, load = STORES[name](stored, Path(folder))
            elif name == "skops":
                clone = type(estimator).__new__(type(estimator))
                state = mutate_state(estimator.__getstate__(), rng)
                mutated = _skops_with_state(clone, state)
                if mutated is None:
                    continue
            else:
                mutated = mutate_bytes(data, rng)
            end = try_in_child(load, mutated, Q.astype(estimator._index_dtype))
            ends[f"{name}: {end}"] += 1
            if end not in ("answered", "refused", "search raised"):
                print(f"mutation {number} (seed {seed}), {name}: {end}", flush=True)
    return ends


def _skops_with_state(clone, state):
    """A file of skops with this state; None if skops has no form for it."""
    import skops.io

    cls = type(clone)
    cls.__getstate__ = lambda self: state
    try:
        return skops.io.dumps(clone)
    except Exception:
        return None
    finally:
        del cls.__getstate__  # the inherited one is back


if __name__ == "__main__":
    n_wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    chosen_seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    for end, count in sorted(campaign(n_wanted, chosen_seed).items()):
        print(f"{count:7} {end}")
