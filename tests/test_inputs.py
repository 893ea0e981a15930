"""The same numbers give the same answers, however they are stored."""

import copy
import inspect
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import reference
from numpy.testing import assert_array_equal

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors
from sklearn_ann._cpu import _ivf_flat, _kmeans, _knn, _radius


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


def memory_map(X, folder):
    path = folder / f"{len(list(folder.iterdir()))}.npy"
    np.save(path, X)
    return np.load(path, mmap_mode="r")


def unaligned(X):
    buffer = np.zeros(X.nbytes + 1, np.uint8)
    view = np.ndarray(X.shape, X.dtype, buffer, offset=1)
    view[:] = X
    assert not view.flags.aligned
    return view


FORMS = {
    "C order": lambda X: X.copy(),
    "F order": np.asfortranarray,
    "every second column": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "every second row": lambda X: np.repeat(X, 2, axis=0)[::2],
    "backwards": lambda X: X[::-1].copy()[::-1],
    "read-only": read_only,
    "list": lambda X: X.tolist(),
    "list of arrays": list,
    "data frame": lambda X: pd.DataFrame(X),
    "data frame of two dtypes": lambda X: pd.DataFrame(X).astype({0: np.float32}),
    "other byte order": lambda X: X.astype(X.dtype.newbyteorder()),
    "not aligned": unaligned,
    "objects": lambda X: X.astype(object),
    "long double": lambda X: X.astype(np.longdouble),
    "subclass": lambda X: X.view(type("Subclass", (np.ndarray,), {})),
}


@pytest.fixture
def X(rng):
    # Exact in float32 and float64.
    return rng.integers(-500, 500, (150, 6)).astype(np.float64)


@pytest.fixture
def Q(rng):
    return rng.integers(-500, 500, (10, 6)).astype(np.float64)


@pytest.fixture
def assert_expected(X, Q):
    sqdists, expected_ids = reference.knn(Q, X, 5)

    def check(index, queries):
        distances, ids = index.kneighbors(queries)
        assert_array_equal(ids, expected_ids, strict=True)
        assert_array_equal(distances, np.sqrt(sqdists), strict=True)
        within = index.radius_neighbors(queries, 2 * distances.max(), True, True)
        for found, expected in zip(within[1], expected_ids, strict=True):
            assert_array_equal(found[:5], expected)

    return check


def fit_flat(X):
    return FlatL2Neighbors().fit(X)


def fit_lists(X):
    """All lists but one, which is empty: the exact answer, from the lists."""
    centroids = np.random.default_rng(0).integers(-500, 500, (5, 6)).astype(np.float64)
    centroids[2] = 1e5
    index = IVFFlatNeighbors(nprobe=4, init=centroids, max_iter=0).fit(X)
    assert (index.list_sizes_ > 0).tolist() == [True, True, False, True, True]
    return index


FITS = pytest.mark.parametrize("fit", [fit_flat, fit_lists], ids=["flat", "lists"])


@FITS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_the_form_of_the_array_does_not_matter(form, dtype, fit, X, Q, assert_expected):
    X, Q = X.astype(dtype), Q.astype(dtype)
    assert_expected(fit(form(X)), Q)
    assert_expected(fit(X), form(Q))
    assert_expected(fit(X[:90]).partial_fit(form(X[90:])), Q)


@FITS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_memory_maps(dtype, fit, X, Q, assert_expected, tmp_path):
    index = fit(memory_map(X.astype(dtype), tmp_path))
    assert_expected(index, memory_map(Q.astype(dtype), tmp_path))


@FITS
@pytest.mark.parametrize(
    "dtype", [np.float16, np.int16, np.int32, np.int64, np.float32, object], ids=str
)
def test_any_real_numbers(dtype, fit, X, Q, assert_expected):
    assert_expected(fit(X.astype(dtype)), Q.astype(dtype))
    assert_expected(fit(X), Q.astype(dtype))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, bool])
def test_small_numbers_do_not_overflow(dtype, rng):
    X = rng.integers(0, 255, (150, 6)).astype(np.uint8).astype(dtype)
    found = FlatL2Neighbors(metric="sqeuclidean").fit(X).kneighbors(X, 7)
    wide = X.astype(np.float64)
    reference.assert_same_neighbors(found, reference.knn(wide, wide, 7), wide, wide)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_vectors_are_kept_by_reference(dtype, X):
    X = X.astype(dtype)
    assert np.shares_memory(FlatL2Neighbors().fit(X)._index.X, X)
    assert FlatL2Neighbors().fit(X).reconstruct(0).dtype == dtype


# As many lists as are probed: the answers are exact.
ALL = pytest.mark.parametrize(
    "fit",
    [fit_flat, IVFFlatNeighbors(nlist=2, nprobe=2, random_state=0).fit],
    ids=["flat", "lists"],
)


@ALL
@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        ("float16 int8 uint8 int16 uint16 bool float32", np.float32),
        ("int32 uint32 int64 uint64 float64 object", np.float64),
    ],
)
def test_numbers_become_the_narrowest_floats_that_hold_them(dtypes, expected, fit, X):
    for dtype in dtypes.split():
        Y = np.abs(X).astype(dtype)
        index = fit(Y)
        assert index.reconstruct(0).dtype == expected, dtype
        assert_array_equal(index.reconstruct(range(len(Y))), Y.astype(expected))
        assert fit(Y[:90]).partial_fit(Y[90:]).reconstruct(0).dtype == expected


class Wrapped:
    """An array that says something else of its shape, as a Series of arrays does."""

    def __init__(self, array):
        self.array, self.shape = array, (len(array),)

    def __len__(self):
        return len(self.array)

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.array, dtype)


class WrappedTable(Wrapped):
    """A table that does the same."""

    def __init__(self, array):
        super().__init__(array)
        self.columns, self.shape = ["a"] * 6, (len(array), 6)

    def __getitem__(self, rows):
        return WrappedTable(self.array[rows])


def polars_frame(X):
    polars = pytest.importorskip("polars")
    return polars.DataFrame(X, schema=[f"x{i}" for i in range(X.shape[1])])


NULLABLE = {"uint8": "UInt8", "float32": "Float32", "float64": "Float64"}
CONTAINERS = {
    "pandas": lambda X: pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])]),
    "polars": polars_frame,
    "rows": list,
    "nullable": lambda X: pd.DataFrame(X).astype(NULLABLE[X.dtype.name]),
    "wrapped": Wrapped,
}


@ALL
@pytest.mark.parametrize("contain", CONTAINERS.values(), ids=CONTAINERS.keys())
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_containers_keep_the_dtype_of_their_numbers(contain, dtype, fit, X, Q):
    X, Q = np.abs(10 * X).astype(dtype), np.abs(10 * Q).astype(dtype)
    index, expected = copy.deepcopy(fit(contain(X))), fit(X)
    assert index.n_features_in_ == X.shape[1]
    assert_array_equal(index.reconstruct(3), expected.reconstruct(3), strict=True)
    for found, wanted in zip(
        index.kneighbors(contain(Q)), expected.kneighbors(Q), strict=True
    ):
        assert_array_equal(found, wanted, strict=True)


@FITS
def test_the_width_is_that_of_the_array_not_what_its_container_says(fit, X):
    index = fit(Wrapped(X))
    for wrong in (X[:5, :-1], np.hstack([X, X])[:5], np.tile(X[:5], 5000)):
        for form in (np.asarray, Wrapped, WrappedTable, list):
            with pytest.raises(ValueError, match=f"X has {wrong.shape[1]} features"):
                index.kneighbors(form(wrong))
            with pytest.raises(ValueError, match=f"X has {wrong.shape[1]} features"):
                index.partial_fit(form(wrong))


@FITS
def test_masked_values_are_refused(fit, X):
    masked = np.ma.masked_greater(X, 0.5)
    unmasked = np.ma.array(X)
    with pytest.raises(ValueError, match="X has masked values"):
        fit(masked)
    with pytest.raises(ValueError, match="X has masked values"):
        fit(list(masked))
    index = fit(unmasked)
    with pytest.raises(ValueError, match="X has masked values"):
        index.kneighbors(masked)
    with pytest.raises(ValueError, match="X has masked values"):
        index.partial_fit(masked)
    assert_array_equal(index.kneighbors(unmasked)[1], fit(X).kneighbors(X)[1])


def test_inputs_are_not_changed(X, Q):
    for metric in ("euclidean", "cosine"):
        before = X.copy(), Q.copy()
        index = FlatL2Neighbors(metric=metric).fit(X)
        index.kneighbors(Q)
        index.radius_neighbors(Q)
        index.partial_fit(Q)
        assert_array_equal(X, before[0])
        assert_array_equal(Q, before[1])
        assert X.flags.writeable


def test_a_kernel_is_compiled_once_for_each_pair_of_dtypes(X, Q, tmp_path):
    X, Q = X.astype(np.float32), Q.astype(np.float32)
    index = FlatL2Neighbors().fit(X)
    path = tmp_path / "index.joblib"
    joblib.dump(index, path)
    indexes = [
        index,
        FlatL2Neighbors().fit(memory_map(X, tmp_path)),
        FlatL2Neighbors().fit(unaligned(X)),
        FlatL2Neighbors().fit(X[:80]).partial_fit(X[80:]),
        FlatL2Neighbors(metric="cosine").fit(X),
        pickle.loads(pickle.dumps(index, protocol=5)),
        pickle.loads(pickle.dumps(index, protocol=2)),
        joblib.load(path),
        joblib.load(path, mmap_mode="r"),
    ]
    forms = (Q, Q[:1], read_only(Q), memory_map(Q, tmp_path), unaligned(Q))
    for used in indexes:
        for queries in (*forms, None, np.asfortranarray(Q), pd.DataFrame(Q)):
            used.kneighbors(queries)
            used.radius_neighbors(queries)
    for kernel in (_knn.search_lists, _radius._radius):
        assert_compiled_once_for_each_pair(kernel, "Q", "index")


def assert_compiled_once_for_each_pair(kernel, vectors, index):
    names = list(inspect.signature(kernel.py_func).parameters)
    vectors_at, index_at = names.index(vectors), names.index(index)
    pairs = [
        (str(types[vectors_at].dtype), str(types[index_at].types[0].dtype))
        for types in kernel.signatures
    ]
    assert ("float32", "float32") in pairs
    assert len(pairs) == len(set(pairs))


def test_kernels_of_lists_are_compiled_once_for_each_pair_of_dtypes(
    X, Q, tmp_path, monkeypatch
):
    X, Q = X.astype(np.float32), Q.astype(np.float32)
    index = fit_lists(X)
    path = tmp_path / "index.joblib"
    joblib.dump(index, path)
    indexes = [
        index,
        fit_lists(memory_map(X, tmp_path)),
        fit_lists(X[:80]).partial_fit(X[80:]),
        IVFFlatNeighbors(nlist=2, nprobe=1).fit(memory_map(X, tmp_path)),
        pickle.loads(pickle.dumps(index)),
        joblib.load(path, mmap_mode="r"),
    ]
    for used in indexes:
        for shared in (0, np.inf):
            monkeypatch.setattr(_ivf_flat, "_SHARED", shared)
            for queries in (Q, Q[:1], memory_map(Q, tmp_path), unaligned(Q), None):
                used.kneighbors(queries)
                used.radius_neighbors(queries)
        used.partial_fit(memory_map(Q, tmp_path))
    assert_compiled_once_for_each_pair(_knn.search_lists, "Q", "index")
    assert_compiled_once_for_each_pair(_kmeans._assign, "X", "index")
