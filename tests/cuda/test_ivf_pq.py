"""Search among codes: the same bits as from the CPU, whatever the codes."""

import gc
import pickle

import cuda_lane
import numpy as np
import pytest
import vector_kinds
from numpy.testing import assert_array_equal

from sklearn_ann import IVFPQNeighbors, _cpu
from sklearn_ann._cuda import _image, _knn, _memory, _pq_routes

# Those of tests/test_ivf_pq.py: of these, codes in float32 can say something.
KINDS = [
    vector_kinds.normal,
    vector_kinds.bytes_,
    vector_kinds.bits,
    vector_kinds.all_equal,
    vector_kinds.far_from_origin,
    vector_kinds.one_huge_feature,
    vector_kinds.constant_columns,
    vector_kinds.outlier_row,
]

# scikit-learn's validation adds all numbers up; too few rows are meant.
pytestmark = pytest.mark.filterwarnings(
    "ignore:overflow", "ignore::sklearn_ann.exceptions.FewTrainingRowsWarning"
)


def make(n_neighbors=5, **parameters):
    parameters = {"nlist": 4, "m": 3, "nbits": 4, "random_state": 0, **parameters}
    return IVFPQNeighbors(n_neighbors, **{"max_iter": 1, "n_jobs": 1, **parameters})


def fitted(X, **parameters):
    return make(**parameters).fit(X)._index


def assert_same(found, expected):
    for found_array, expected_array in zip(found, expected, strict=True):
        assert_array_equal(found_array, expected_array, strict=True)


def assert_same_as_cpu(backend, index, Q, k, nprobe=2, alone=None):
    """Of query `alone` only the first probe is left."""
    probe_sqdists, probes = _cpu.knn(Q, index.centroids, nprobe, 1)
    if alone is not None:
        probe_sqdists[alone, 1:], probes[alone, 1:] = np.inf, -1
    found = backend.scan_ivf_pq(Q, index, probes, probe_sqdists, k, 1)
    assert_same(found, _cpu.scan_ivf_pq(Q, index, probes, probe_sqdists, k, 1))
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS, ids=vector_kinds.name)
def test_neighbors_are_those_of_the_cpu(kind, dtype, backend, table_dtype, rng):
    cuda_lane.set_order(cuda_lane.ORDERS[-1])
    X, Q = vector_kinds.make(kind, dtype, rng, 260, 3, 5)
    assert_same_as_cpu(backend, fitted(X), Q, 4, alone=1)


# (rows, features, parts, bits, neighbours): around a warp (32 features), pairs of codes
# without a second one, empty positions.
SIZES = [
    (70, 1, 1, 8, 1),
    (300, 7, 3, 5, 10),
    (100, 33, 4, 6, 7),
    (90, 40, 17, 8, 70),
    (90, 20, 20, 4, 5),
    (200, 70, 35, 7, 3),
]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_size(size, backend, rng):
    n, d, m, nbits, k = size
    X, Q = vector_kinds.make(vector_kinds.normal, np.float32, rng, n, 3, d)
    assert_same_as_cpu(backend, fitted(X, m=m, nbits=nbits), Q, k)


# Around the parts that fit into shared memory at a time, of float32 and of float16.
@pytest.mark.parametrize("m", [16, 17, 32, 33])
@pytest.mark.parametrize("nbits", [4, 8])
def test_parts_around_those_in_shared_memory(nbits, m, backend, table_dtype, rng):
    m *= 2 if nbits == 4 else 1
    X, Q = vector_kinds.make(vector_kinds.normal, np.float32, rng, 90, 3, m)
    assert_same_as_cpu(backend, fitted(X, m=m, nbits=nbits), Q, 5)


@pytest.fixture
def little_room(monkeypatch):
    """Room for so few that a chain of some panels has rounds, and that it overflows."""
    monkeypatch.setattr(_knn, "_LEAST_CAPACITY", 128)


@pytest.mark.parametrize("order", cuda_lane.ORDERS)
def test_every_order_gives_the_same(order, backend, little_room, table_dtype, rng):
    cuda_lane.set_order(order)
    X, Q = vector_kinds.make(vector_kinds.bits, np.float32, rng, 400, 2, 5)
    index = fitted(X, nlist=2, m=2)
    assert_same_as_cpu(backend, index, Q, 3)
    _, probes = _cpu.knn(Q, index.centroids, 2, 1)
    args = Q, index, probes, 1.0, True, 1
    assert_same(backend.radius_ivf_pq(*args), _cpu.radius_ivf_pq(*args))


def test_chains_longer_than_a_block_visits(backend, rng):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float32, rng, 5000, 1, 2)
    assert_same_as_cpu(backend, fitted(X, nlist=2, m=1), Q, 40)


@pytest.mark.parametrize("n_bytes", [10**9, 50_000], ids=["at once", "in parts"])
def test_candidates_that_overflow_lose_no_neighbor(
    n_bytes, backend, little_room, table_dtype, rng, monkeypatch
):
    X = np.full((400, 3), 3.7)
    X[::7] += 1e-3 * rng.standard_normal((58, 3))
    index, measured, rows = fitted(X, nlist=2), [], _pq_routes.ProbedCodes.rows

    def spy(route):
        for part in rows(route):
            measured.append(part[:2])
            yield part

    monkeypatch.setattr(_pq_routes.ProbedCodes, "rows", spy)
    assert_same_as_cpu(backend, index, X[1:4], 2, 1)
    measured.clear()
    monkeypatch.setattr(_memory, "free_memory", lambda: n_bytes)
    monkeypatch.setattr(_memory, "kept_bytes", lambda: 0)
    assert_same_as_cpu(backend, index, X[1:4], 2)
    assert len(measured) == (1 if n_bytes == 10**9 else 3)


def test_lists_that_hold_too_few_rows_leave_places_empty(backend, rng):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float64, rng, 60, 3, 3)
    index = fitted(X)
    Q[2, 1] = np.nan
    _, ids = assert_same_as_cpu(backend, index, Q, 50, alone=1)
    assert_array_equal(ids[2], -1)
    assert ids[1, 0] >= 0 > ids[1, -1]


@pytest.mark.parametrize("dtypes", [(np.float32, np.float64), (np.float64, np.float32)])
def test_queries_of_the_other_dtype_are_not_rounded(dtypes, backend, rng):
    X = rng.standard_normal((100, 4)).astype(dtypes[0])
    Q = rng.standard_normal((3, 4)).astype(dtypes[1])
    assert_same_as_cpu(backend, fitted(X), Q, 5)


def assert_exact(backend, index, Q, k):
    """The CPU measures every row when it searches within a radius."""
    nlist = len(index.lists.sizes)
    probe_sqdists, probes = _cpu.knn(Q, index.centroids, nlist, 1)
    sqdists, ids = backend.scan_ivf_pq(Q, index, probes, probe_sqdists, k, 1)
    all_sqdists, all_ids, offsets = _cpu.radius_ivf_pq(
        Q, index, probes, np.inf, True, 1
    )
    for i in range(len(Q)):
        part = slice(offsets[i], offsets[i + 1])
        order = np.lexsort((all_ids[part], all_sqdists[part]))[:k]
        assert_array_equal(ids[i], all_ids[part][order])
        assert_array_equal(sqdists[i], all_sqdists[part][order])


@pytest.mark.parametrize("scale", [1e3, 1e15, 1e36, 1e40, 1e160])
def test_answers_are_exact_for_queries_far_away(scale, backend, table_dtype, rng):
    index = fitted(rng.standard_normal((200, 4)))
    assert_exact(backend, index, scale * rng.standard_normal((3, 4)), 5)


@pytest.mark.parametrize("scale", [1e-40, 1e-25, 1e-15, 1e-7, 1e7, 1e14])
def test_answers_are_exact_for_data_of_any_scale(scale, backend, table_dtype, rng):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float64, rng, 200, 3, 4)
    assert_exact(backend, fitted(scale * X), scale * Q, 5)


def test_answers_are_exact_for_codewords_with_squares_below_float32(
    backend, table_dtype, rng
):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float64, rng, 200, 3, 4)
    X[:, :2] *= 1e-26
    index = fitted(X, m=2, nbits=5)
    # Such rows all get the first code. The terms are those of any other one, too.
    codes = index.codes.copy()
    codes[:, 0] = rng.integers(0, 32, codes[:, 0].shape)
    # The entries of the second part are even smaller than those of the first.
    Q[:, 2:] = index.centroids.center[2:]
    assert_exact(backend, index._replace(codes=codes), Q, 20)


def test_answers_are_exact_for_lists_farther_apart_than_float32_tells(
    backend, table_dtype, rng
):
    X = rng.standard_normal((120, 4))
    X[60:] += 1e25
    index = fitted(X, nlist=2)
    assert_array_equal(index.lists.sizes, 60)
    assert_exact(backend, index, X[[0, 70]], 100)


@pytest.mark.parametrize("offset", [1e13, 1e15])
def test_answers_are_exact_where_decoding_rounds(offset, backend, table_dtype, rng):
    X, Q = (offset + rng.standard_normal((n, 8)) for n in (400, 20))
    assert_exact(backend, fitted(X, nlist=2, m=4), Q, 10)


@pytest.mark.parametrize("sqradius", [0.0, 2.0, np.inf])
def test_hits_within_a_radius(sqradius, backend, table_dtype, rng):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float32, rng, 140, 3, 3)
    index = fitted(X)
    _, probes = _cpu.knn(Q, index.centroids, 3, 1)
    # On what a row decodes to, and on the distance of another one.
    Q[0] = _cpu.decode_rows(np.array([3]), index)
    probes[2, 1:] = -1
    args = Q, index, probes, sqradius, True, 1
    assert_same(backend.radius_ivf_pq(*args), _cpu.radius_ivf_pq(*args))


def test_hits_are_those_at_the_distance_itself(backend, table_dtype, rng):
    X, Q = vector_kinds.make(vector_kinds.far_from_origin, np.float64, rng, 140, 2, 3)
    index = fitted(X)
    probe_sqdists, probes = _cpu.knn(Q, index.centroids, 2, 1)
    sqdists, _ = _cpu.scan_ivf_pq(Q, index, probes, probe_sqdists, 20, 1)
    args = Q, index, probes, float(sqdists[0, 12]), True, 1
    found = backend.radius_ivf_pq(*args)
    assert_same(found, _cpu.radius_ivf_pq(*args))
    assert found[2][1] >= 13


# -- refinement ----------------------------------------------------------------------


def test_candidates_to_refine_are_those_of_the_cpu(backend, rng):
    X, Q = vector_kinds.make(vector_kinds.duplicates, np.float32, rng, 260, 3, 5)
    index = fitted(X)
    probe_sqdists, probes = _cpu.knn(Q, index.centroids, 2, 1)
    args = Q, index, probes, probe_sqdists, 7, 1
    found, expected = backend.candidates_ivf_pq(*args), _cpu.candidates_ivf_pq(*args)
    assert_array_equal(np.sort(found), np.sort(expected), strict=True)


@pytest.mark.parametrize("memory", [10**9, 3000], ids=["at once", "in parts"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_candidates_are_measured_and_sorted(dtype, memory, backend, rng, monkeypatch):
    X, Q = vector_kinds.make(vector_kinds.duplicates, dtype, rng, 60, 4, 35)
    candidates = np.stack([rng.permutation(60)[:13] for _ in Q])
    candidates[1, 5:] = -1
    candidates[2, ::2] = -1
    candidates[3] = -1
    backend.refine(Q, X, candidates, 1, 1)
    monkeypatch.setattr(_memory, "free_memory", lambda: memory)
    for k in (1, 7, 13):
        args = Q, X, candidates, k, 1
        assert_same(backend.refine(*args), _cpu.refine(*args))


def test_an_infinite_distance_is_one_of_a_row(backend):
    X = np.array([[0.0], [1e200], [1.0]])
    args = np.array([[-1e200]]), X, np.array([[0, -1, 1, 2]]), 4, 1
    assert_same(backend.refine(*args), _cpu.refine(*args))


# -- memory --------------------------------------------------------------------------


def test_queries_are_searched_in_parts_that_fit_into_memory(backend, rng, monkeypatch):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float32, rng, 100, 5, 3)
    index, searched, search = fitted(X), [], _knn.search
    assert_same_as_cpu(backend, index, Q[:1], 3)
    monkeypatch.setattr(_memory, "free_memory", lambda: 40_000)
    monkeypatch.setattr(
        _knn, "search", lambda *args: searched.append(args[0].n) or search(*args)
    )
    assert_same_as_cpu(backend, index, Q, 3)
    assert searched == [2, 2, 1]


def test_what_does_not_fit_is_an_error_that_says_how_large_it_is(
    backend, rng, monkeypatch
):
    X = rng.standard_normal((4000, 3)).astype(np.float32)
    index = make(nlist=2, store_vectors=True, refine_factor=2).fit(X)
    index.set_params(device="cuda")
    monkeypatch.setattr(_memory, "free_memory", lambda: 20_000)
    with pytest.raises(MemoryError, match=r"index of codes of 4000 rows needs 0\.00"):
        index.kneighbors(X[:1], 1)
    monkeypatch.setattr(_memory, "free_memory", lambda: 45_000)
    with pytest.raises(MemoryError, match=r"vectors of 4000 rows needs 0\.00 GiB"):
        index.kneighbors(X[:1], 1)
    assert_array_equal(index.set_params(device="cpu").kneighbors(X[:1], 1)[1], 0)


def test_images_are_forgotten_with_the_estimator(rng):
    X = rng.standard_normal((80, 3)).astype(np.float32)
    gc.collect()
    n_before = len(_image._images)
    index = make(store_vectors=True, refine_factor=2).fit(X).set_params(device="cuda")
    for _ in range(2):
        index.kneighbors(X[:1])
    # Of the codes, the centroids, the lists and the vectors.
    assert len(_image._images) == n_before + 4
    assert b"Image" not in pickle.dumps(index)
    del index
    gc.collect()
    assert len(_image._images) == n_before


# -- the estimator -------------------------------------------------------------------


@cuda_lane.has_fma
@pytest.mark.parametrize(("nbits", "n"), [(4, 30), (5, 10)])
def test_fitted_here_and_searched_there(nbits, n, rng):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float32, rng, n, 3, 3)
    params = {"nlist": 2, "m": 2, "nbits": nbits, "store_vectors": True}
    on_cpu = make(2, **params).fit(X[:-4]).partial_fit(X[-4:])
    on_gpu = make(2, device="cuda", **params).fit(X[:-4]).partial_fit(X[-4:])
    for name in ("cluster_centers_", "codebooks_", "reconstruction_error_"):
        assert_array_equal(getattr(on_gpu, name), getattr(on_cpu, name))
    assert_array_equal(on_gpu._index.codes, on_cpu._index.codes)
    assert_array_equal(on_gpu._index.row_terms, on_cpu._index.row_terms)
    loaded = pickle.loads(pickle.dumps(on_gpu))
    there = pickle.loads(pickle.dumps(on_gpu)).set_params(device="cpu")
    for factor in (1, 3):
        on_cpu.set_params(refine_factor=factor)
        for other in (on_gpu, loaded, there, on_cpu.set_params(device="cuda:0")):
            other.set_params(refine_factor=factor)
            found = other.kneighbors(Q)
            assert_same(found, on_cpu.set_params(device=None).kneighbors(Q))


def test_the_rows_themselves_are_not_their_neighbors(rng):
    X = rng.standard_normal((12, 4)).astype(np.float32)
    index = make(3, nlist=2, nprobe=2).fit(X)
    expected = index.kneighbors(), index.radius_neighbors(radius=1.5)
    index.set_params(device="cuda")
    assert_same(index.kneighbors(), expected[0])
    for found, arrays in zip(
        index.radius_neighbors(radius=1.5), expected[1], strict=True
    ):
        assert list(map(list, found)) == list(map(list, arrays))
