"""radius_neighbors against the oracle."""

import numpy as np
import pytest
import reference
import vector_kinds
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, _cpu
from sklearn_ann._scalar_quantizer import build_flat_index

KINDS = pytest.mark.parametrize(
    ("kind", "dtype"), vector_kinds.KINDS, ids=vector_kinds.name
)


def assert_same_hits(found, expected):
    """`expected`: for each query, squared distances and row numbers."""
    for sqdists, ids, (expected_sqdists, expected_ids) in zip(
        *found, expected, strict=True
    ):
        assert (ids.dtype, sqdists.dtype) == (np.int64, np.float64)
        assert_array_equal(ids, expected_ids)
        assert_allclose(sqdists, expected_sqdists, rtol=1e-12)


@KINDS
@pytest.mark.parametrize("share", [0.003, 0.1, 0.7])
def test_hits_are_those_of_the_oracle(kind, dtype, share, rng):
    X, Q = vector_kinds.make(kind, dtype, rng, 1000, 20, 9)
    # Between two distances that differ, so that no rounding decides.
    distances = np.sort([reference.sqdists(q, X) for q in Q], axis=None)
    low = distances[int(share * len(distances))]
    above = distances[distances > low * (1 + 1e-9)]
    radius = (low + above[0]) / 2 if len(above) else low
    index = FlatL2Neighbors(metric="sqeuclidean").fit(X)
    found = index.radius_neighbors(Q, radius)
    assert_same_hits(found, reference.radius(Q, X, radius))


@KINDS
def test_radius_zero_finds_the_rows_that_equal_the_query(kind, dtype, rng):
    X, Q = vector_kinds.make(kind, dtype, rng, 300, 20, 9)
    found = FlatL2Neighbors().fit(X).radius_neighbors(Q, 0)
    assert_same_hits(found, reference.radius(Q, X, 0.0))


@pytest.mark.parametrize("radius", [1e300, np.inf, np.float32(1e30)], ids=repr)
def test_a_huge_radius_finds_every_row(radius, rng):
    X = rng.standard_normal((130, 5))
    ids = FlatL2Neighbors().fit(X).radius_neighbors(X[:2], radius, False)
    assert_array_equal(np.stack(ids), [np.arange(130)] * 2)


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "cosine"])
def test_the_distance_of_a_neighbor_is_a_radius_that_includes_it(metric, rng):
    X = rng.standard_normal((200, 5))
    index = FlatL2Neighbors(10, metric=metric).fit(X)
    distances, ids = index.kneighbors(X)
    for query, row_distances, row_ids in zip(X, distances, ids, strict=True):
        hits = index.radius_neighbors(query[None], row_distances[-1], False)
        assert_array_equal(np.sort(row_ids), hits[0])


def test_the_boundary_is_inside_and_the_next_number_below_is_not():
    index = FlatL2Neighbors().fit([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])
    for radius, n_hits in [(5, 2), (np.nextafter(5, 0), 1), (10, 3), (9.999999999, 2)]:
        ids = index.radius_neighbors([[0.0, 0.0]], radius, return_distance=False)
        assert len(ids[0]) == n_hits


def test_more_hits_than_fit_into_the_buffer_of_a_block(rng):
    X, Q = vector_kinds.make(vector_kinds.bits, np.float32, rng, 3000, 200, 8)
    found = FlatL2Neighbors(metric="sqeuclidean").fit(X).radius_neighbors(Q, 8.0)
    assert sum(map(len, found[1])) == 200 * 3000
    assert_same_hits(found, reference.radius(Q, X, 8.0))


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_hits_do_not_depend_on_batch_or_threads(n_jobs, rng, split_work):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float32, rng, 1000, 150, 8)
    index = FlatL2Neighbors(metric="sqeuclidean", n_jobs=n_jobs).fit(X)
    together = index.radius_neighbors(Q, 9.0)
    one_by_one = [index.radius_neighbors(q[None], 9.0) for q in Q]
    for kind_together, kind_alone in zip(
        together, zip(*one_by_one, strict=True), strict=True
    ):
        for expected, (alone,) in zip(kind_together, kind_alone, strict=True):
            assert_array_equal(alone, expected)


def test_sorted_results_ascend_by_distance_then_row(rng):
    X, Q = vector_kinds.make(vector_kinds.bits, np.float32, rng, 500, 5, 8)
    index = FlatL2Neighbors().fit(X)
    for distances, ids in zip(
        *index.radius_neighbors(Q, 2.0, sort_results=True), strict=True
    ):
        assert_array_equal(np.lexsort((ids, distances)), np.arange(len(ids)))
        assert len(ids) > 10


@pytest.mark.parametrize(
    ("queries", "radius", "sizes"),
    [
        ([[0.0]], 0.5, [1]),
        ([[9.0]], 0.5, [0]),
        ([[0.0], [1.0]], 0.5, [1, 1]),
        ([[0.0], [1.0]], 1.0, [2, 2]),
        ([[9.0], [0.0], [9.0]], 0.5, [0, 1, 0]),
    ],
)
def test_results_are_object_arrays_of_typed_arrays(queries, radius, sizes):
    index = FlatL2Neighbors().fit([[0.0], [1.0]])
    distances, ids = index.radius_neighbors(queries, radius)
    for arrays, dtype in [(distances, np.float64), (ids, np.int64)]:
        assert arrays.dtype == object
        assert arrays.shape == (len(queries),)
        assert [array.shape for array in arrays] == [(size,) for size in sizes]
        assert all(array.dtype == dtype for array in arrays)


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean"])
def test_rows_at_infinite_distances_are_within_no_finite_radius(metric):
    index = FlatL2Neighbors(metric=metric).fit([[0.0], [1e100], [1e170]])
    radius = 1e160 if metric == "euclidean" else 1e300
    distances, ids = index.radius_neighbors([[0.0]], radius)
    assert ids[0].tolist() == [0, 1]
    assert np.isfinite(distances[0]).all()
    assert index.radius_neighbors([[0.0]], np.inf)[1][0].tolist() == [0, 1, 2]


def test_an_infinite_radius_finds_all_rows(rng):
    X = rng.standard_normal((100, 6))
    index = FlatL2Neighbors(radius=np.inf).fit(X)
    assert_array_equal(index.radius_neighbors(X[:1])[1][0], np.arange(100))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("with_queries", [True, False])
@pytest.mark.parametrize("sort_results", [False, True])
def test_blocks_of_queries_are_joined(
    metric, with_queries, sort_results, rng, monkeypatch
):
    X, Q = vector_kinds.make(vector_kinds.duplicates, np.float32, rng, 300, 50, 4)
    X[100:110] *= 20
    radius = {"euclidean": 1.0, "cosine": 0.1}[metric]
    index = FlatL2Neighbors(radius=radius, metric=metric).fit(X)
    queries = Q if with_queries else None

    def search():
        graphs = [
            index.radius_neighbors_graph(queries, None, mode, sort_results)
            for mode in ("distance", "connectivity")
        ]
        return index.radius_neighbors(queries, None, True, sort_results), graphs

    expected, expected_graphs = search()
    monkeypatch.setattr("sklearn_ann._radius._QUERIES", 7)
    found, graphs = search()
    for kind, expected_kind in zip(found, expected, strict=True):
        for array, expected_array in zip(kind, expected_kind, strict=True):
            assert_array_equal(array, expected_array, strict=True)
    distances, ids = map(np.concatenate, found)
    for graph, expected_graph in zip(graphs, expected_graphs, strict=True):
        assert_array_equal(graph.indptr, expected_graph.indptr)
        assert_array_equal(graph.indices, ids)
    assert_array_equal(graphs[0].data, distances)
    assert (graphs[1].data == 1).all()
    assert 300 < len(ids) < 50_000


@KINDS
@pytest.mark.parametrize("share", [0.003, 0.1, 0.7])
def test_rows_are_the_same_without_distances(kind, dtype, share, rng):
    X, Q = vector_kinds.make(kind, dtype, rng, 1000, 20, 9)
    index = build_flat_index(X, _cpu, 1)
    distances = np.sort([reference.sqdists(q, X) for q in Q], axis=None)
    # On the distance of a row, so that ties are inside.
    sqradius = float(distances[int(share * len(distances))])
    _, ids, offsets = _cpu.radius(Q, index, sqradius, True, 1)
    none, found_ids, found_offsets = _cpu.radius(Q, index, sqradius, False, 1)
    assert none.shape == (0,)
    assert_array_equal(found_ids, ids, strict=True)
    assert_array_equal(found_offsets, offsets, strict=True)


def test_ids_of_lists_ascend(rng):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float32, rng, 3000, 40, 4)
    for nprobe in (5, 20):
        index = IVFFlatNeighbors(nlist=20, nprobe=nprobe, random_state=0).fit(X)
        for ids in index.radius_neighbors(Q, 2.0)[1]:
            assert (np.diff(ids) > 0).all()
        for distances, ids in zip(
            *index.radius_neighbors(Q, 2.0, sort_results=True), strict=True
        ):
            assert (np.diff(distances) >= 0).all()
            assert len(ids) > 10


_PEAK = """
import sys, tracemalloc
import numpy as np
from sklearn_ann import FlatL2Neighbors

rng = np.random.default_rng(0)
X = rng.standard_normal((9000, 4)).astype(np.float32)
index = FlatL2Neighbors(radius=2.0, n_jobs=1).fit(X)
search = {
    "radius_neighbors": lambda Q: index.radius_neighbors(Q),
    "ids": lambda Q: index.radius_neighbors(Q, return_distance=False),
    "distance": lambda Q: index.radius_neighbors_graph(Q, mode="distance"),
    "connectivity": lambda Q: index.radius_neighbors_graph(Q),
}[sys.argv[1]]
search(X[:100])
tracemalloc.start()
found = search(X)
peak = tracemalloc.get_traced_memory()[1]
ids = found[1] if isinstance(found, tuple) else found
n = ids.nnz if hasattr(ids, "nnz") else sum(map(len, ids))
print(peak / n, n)
"""


@pytest.mark.parametrize(
    ("search", "most"),
    # Of a result: 16, 8, 12 and 12 bytes. The rest is a block, and blocks to be joined.
    [("radius_neighbors", 26), ("ids", 14), ("distance", 26), ("connectivity", 18)],
)
def test_bytes_of_a_pair(search, most, run_script):
    n_bytes, n_pairs = map(float, run_script(_PEAK, search).split())
    assert n_pairs > 1e7
    assert n_bytes < most
