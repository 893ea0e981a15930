"""The same numbers give the same answers, however they are stored."""

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
    index = IVFFlatNeighbors(nprobe=4)._fit_lists(X, centroids)
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
def test_float_vectors_are_kept_by_reference_and_others_become_float64(dtype, X):
    X = X.astype(dtype)
    assert np.shares_memory(FlatL2Neighbors().fit(X)._index.X, X)
    assert FlatL2Neighbors().fit(X).reconstruct(0).dtype == dtype
    assert FlatL2Neighbors().fit(X.astype(int)).reconstruct(0).dtype == np.float64


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
    for kernel in (_knn.knn_block, _radius._radius):
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
    for kernel in (_ivf_flat._scan_queries, _ivf_flat._scan_lists):
        assert_compiled_once_for_each_pair(kernel, "Q", "rows")
    assert_compiled_once_for_each_pair(_kmeans._assign, "X", "index")
