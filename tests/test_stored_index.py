"""Whatever a file says, what reaches a kernel fits together."""

import copy
import functools
import os

import mutated_states
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors
from sklearn_ann._stored_index import pack

_LISTS = {"nlist": 5, "nprobe": 2, "random_state": 0}
ESTIMATORS = {
    "flat": FlatL2Neighbors,
    "lists": functools.partial(IVFFlatNeighbors, **_LISTS),
    "codes": functools.partial(IVFPQNeighbors, m=3, **_LISTS),
    "pairs": functools.partial(
        IVFPQNeighbors, m=5, nbits=4, store_vectors=True, **_LISTS
    ),
}


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).standard_normal((400, 9)).astype(np.float32)


@pytest.fixture(scope="module")
def fitted(X):
    return {
        name: make().fit(X[:350]).partial_fit(X[350:])
        for name, make in ESTIMATORS.items()
    }


def restore(estimator, state):
    restored = type(estimator).__new__(type(estimator))
    restored.__setstate__(state)
    return restored


@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_is_not_stored_is_the_same_again(name, fitted):
    index = fitted[name]._index
    restored = restore(fitted[name], fitted[name].__getstate__())._index
    assert type(restored) is type(index)

    def compare(found, expected):
        for one_found, one_expected in zip(found, expected, strict=True):
            if isinstance(one_expected, tuple):
                compare(one_found, one_expected)
            elif isinstance(one_expected, np.ndarray):
                assert_array_equal(one_found, one_expected, strict=True)
                assert not one_found.flags.writeable
            else:
                assert one_found == one_expected
                assert type(one_found) is type(one_expected)

    compare(restored, index)


def test_nothing_is_stored_twice(fitted):
    for estimator in fitted.values():
        derived = {
            "offsets",
            "owners",
            "codebooks",
            "codebooks_t",
            "half_sqnorms",
            "radii",
        }
        assert not derived & {
            path[-1] for path in mutated_states._paths(pack(estimator._index))
        }
        assert (
            not {"n_samples_fit_", "cluster_centers_"} & estimator.__getstate__().keys()
        )


def with_projection(index):
    """A stored FlatIndex whose codes are said to be of projections."""
    n, d = len(index["scales"]), index["X"].shape[1]
    full = {name: index[name] for name in ("scales", "sqnorms", "error_ratio")}
    return {
        **index,
        "codes": np.zeros((n // 64, 32, 64, 4), np.uint8),
        "projection": {"axes": np.zeros((d, 128), np.float32), "middle": np.zeros(128)},
        "full": {**full, "codes": np.zeros((n, -(-d // 64) * 64), np.uint8)},
    }


# Which array, and what is done to it: each of them would be read past its end, or its
# values would be places to read from.
DAMAGES = {
    "a panel twice": ("lists", "lists.panels", lambda a: np.r_[a[1], a[1:]]),
    "a panel too far": ("lists", "lists.panels", lambda a: np.r_[2**40, a[1:]]),
    "a panel before": ("codes", "lists.panels", lambda a: np.r_[-1, a[1:]]),
    "sizes moved": ("lists", "lists.sizes", lambda a: a + np.array([64, -64, 0, 0, 0])),
    "sizes negative": ("codes", "lists.sizes", lambda a: a - 500 * (a == a[0])),
    "sizes too large": ("codes", "lists.sizes", lambda a: a + 1),
    "sizes overflow": ("lists", "lists.sizes", lambda a: np.r_[2**62, 2**62, a[2:]]),
    "sizes short": ("lists", "lists.sizes", lambda a: a[:-1]),
    "ids twice": ("lists", "rows.ids", lambda a: np.where(a == 3, 4, a)),
    "ids too large": ("codes", "ids", lambda a: np.where(a == 3, 10**6, a)),
    "ids of nothing": ("codes", "ids", lambda a: np.where(a == -1, 5, a)),
    "ids of 64 bits": ("codes", "ids", lambda a: a.astype(np.int64)),
    "codes short": ("flat", "codes", lambda a: a[:-1]),
    "codes of others": ("pairs", "codes", lambda a: a[:, :-1].copy()),
    "codes in Fortran's order": ("flat", "codes", np.asfortranarray),
    "codes as floats": ("codes", "codes", lambda a: a.astype(np.float32)),
    "vectors short": ("flat", "X", lambda a: a[:-1]),
    "vectors narrow": ("flat", "X", lambda a: a[:, :-1].copy()),
    "vectors wide": ("lists", "rows.X", lambda a: np.hstack([a, a])),
    "vectors with gaps": ("flat", "X", lambda a: np.repeat(a, 2, axis=1)[:, ::2]),
    "vectors as objects": ("flat", "X", lambda a: a.astype(object)),
    "vectors of other bytes": ("flat", "X", lambda a: a.astype(">f4")),
    "vectors missing": ("pairs", "X", lambda a: a[:-1]),
    "scales short": ("flat", "scales", lambda a: a[:-1]),
    "a scale that is none": ("flat", "scales", lambda a: np.where(a > 0, np.nan, a)),
    "no row where one is": ("flat", "sqnorms", lambda a: np.full_like(a, np.inf)),
    "a row where none is": ("flat", "sqnorms", lambda a: np.zeros_like(a)),
    "NaN": ("lists", "rows.sqnorms", lambda a: np.where(a < 9, np.nan, a)),
    "terms negative": ("codes", "row_terms", lambda a: np.where(a < 9, -np.inf, a)),
    "center": ("flat", "center", lambda a: a * np.nan),
    "center short": ("lists", "centroids.center", lambda a: a[1:]),
    "unit": ("flat", "unit", lambda unit: 3.0),
    "unit of nothing": ("flat", "unit", lambda unit: 0.0),
    "unit far away": ("flat", "unit", lambda unit: 2.0**600),
    "marks of 32 bits": ("flat", "duplicates", lambda a: np.zeros((3, 9), np.uint32)),
    "marks in a row": ("lists", "rows.duplicates", lambda a: np.zeros(9, np.uint64)),
    "ratio": ("flat", "error_ratio", lambda ratio: np.nan),
    "pairs": ("codes", "is_paired", lambda is_paired: 1),
    "no pairs": ("pairs", "is_paired", lambda is_paired: False),
    "a list for an array": ("flat", "X", lambda a: a.tolist()),
    "nothing": ("lists", "rows", lambda rows: None),
    "centroids": ("codes", "centroids.X", lambda a: a * np.nan),
    "projected centroids": ("lists", "centroids", with_projection),
    "fewer centroids": ("lists", "centroids.X", lambda a: a[:-1]),
}


@pytest.mark.parametrize(
    ("name", "path", "damage"), DAMAGES.values(), ids=DAMAGES.keys()
)
def test_a_damaged_index_is_refused(name, path, damage, fitted):
    state = copy.deepcopy(fitted[name].__getstate__())
    *parents, last = path.split(".")
    place = functools.reduce(dict.__getitem__, parents, state["_stored_index"])
    place[last] = damage(place[last])
    cls = type(fitted[name]).__name__
    with pytest.raises(ValueError, match=f"This {cls} cannot be restored"):
        restore(fitted[name], state)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("n_features_in_", 8),
        ("n_features_in_", None),
        ("n_features_in_", 10**9),
        ("effective_metric_", "manhattan"),
        ("effective_metric_", "cosine"),
        ("effective_metric_", None),
        ("feature_names_in_", np.array(["a", "b"], object)),
        ("codebooks_", None),
        ("codebooks_", [[[0.0]]]),
        ("codebooks_", np.zeros((3, 256, 9), np.float32)),
        ("codebooks_", np.full((3, 256, 3), np.nan, np.float32)),
        ("codebooks_", np.zeros((3, 257, 3), np.float32)),
        ("codebooks_", np.zeros((3, 0, 3), np.float32)),
        ("_stored_index", {}),
        ("_stored_index", 3),
    ],
    ids=repr,
)
def test_an_attribute_that_contradicts_the_index_is_refused(attribute, value, fitted):
    state = fitted["codes"].__getstate__() | {attribute: value}
    with pytest.raises(ValueError, match="This IVFPQNeighbors cannot be restored"):
        restore(fitted["codes"], state)


def test_a_state_of_another_form_is_refused(fitted):
    state = fitted["flat"].__getstate__()
    state["_index"] = state.pop("_stored_index")
    with pytest.raises(ValueError, match="saved in a form that sklearn_ann"):
        restore(fitted["flat"], state)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_skops_stores_an_estimator(name, fitted, X):
    skops_io = pytest.importorskip("skops.io")
    data = skops_io.dumps(fitted[name])
    types = skops_io.get_untrusted_types(data=data)
    cls = type(fitted[name])
    assert types == [f"{cls.__module__}.{cls.__name__}"]
    loaded = skops_io.loads(data, trusted=types)
    for found, expected in zip(
        loaded.kneighbors(X[:20]), fitted[name].kneighbors(X[:20]), strict=True
    ):
        assert_array_equal(found, expected, strict=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_no_mutation_ends_the_process():
    ends = mutated_states.campaign(200, 5, stores=("pickle", "joblib", "joblib mmap"))
    assert sum(ends.values()) == 200
    kinds = {end.partition(": ")[2] for end in ends}
    assert kinds == {"answered", "refused", "search raised"}
