"""The sparse graphs have the structure that scikit-learn's estimators rely on."""

import numpy as np
import pytest
import sklearn
import vector_kinds
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array, csr_matrix
from sklearn.base import clone
from sklearn.neighbors import (
    KNeighborsTransformer,
    NearestNeighbors,
    sort_graph_by_row_values,
)

from sklearn_ann import (
    FlatL2Neighbors,
    IVFFlatNeighbors,
    IVFPQNeighbors,
    _blocks,
)

MODES = pytest.mark.parametrize("mode", ["distance", "connectivity"])


@pytest.fixture
def X(rng):
    return rng.standard_normal((120, 5))


@pytest.fixture
def Q(rng):
    return rng.standard_normal((20, 5))


def assert_same_graph(graph, expected):
    """Same entries in the same order: neither graph is brought into another form."""
    assert type(graph) is type(expected)
    assert graph.shape == expected.shape
    assert graph.data.dtype == expected.data.dtype == np.float64
    assert_array_equal(graph.indptr, expected.indptr)
    assert_array_equal(graph.indices, expected.indices)
    assert_allclose(graph.data, expected.data, rtol=1e-7, atol=1e-7)


@MODES
@pytest.mark.parametrize("with_queries", [True, False])
@pytest.mark.parametrize("n_neighbors", [None, 1, 20])
def test_kneighbors_graph_equals_scikit_learn(mode, with_queries, n_neighbors, X, Q):
    queries = Q if with_queries else None
    peer = NearestNeighbors(algorithm="brute").fit(X)
    assert_same_graph(
        FlatL2Neighbors().fit(X).kneighbors_graph(queries, n_neighbors, mode),
        peer.kneighbors_graph(queries, n_neighbors, mode),
    )


@MODES
@pytest.mark.parametrize("with_queries", [True, False])
@pytest.mark.parametrize("radius", [None, 1.9])
def test_radius_neighbors_graph_equals_scikit_learn(mode, with_queries, radius, X, Q):
    queries = Q if with_queries else None
    ours, peer = FlatL2Neighbors(), NearestNeighbors(algorithm="brute")
    for sort_results in {False, mode == "distance"}:
        assert_same_graph(
            ours.fit(X).radius_neighbors_graph(queries, radius, mode, sort_results),
            peer.fit(X).radius_neighbors_graph(queries, radius, mode, sort_results),
        )


def test_sorting_a_radius_graph_is_the_same_in_both_modes(X, Q):
    index = FlatL2Neighbors(radius=1.9).fit(X)
    weighted = index.radius_neighbors_graph(Q, mode="distance", sort_results=True)
    ones = index.radius_neighbors_graph(Q, mode="connectivity", sort_results=True)
    assert (ones.indices == weighted.indices).all()
    assert (ones.data == 1).all()


@MODES
@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "cosine"])
@pytest.mark.parametrize("n_neighbors", [1, 5, 118])
def test_transform_equals_kneighbors_transformer(mode, metric, n_neighbors, X, Q):
    parameters = {"mode": mode, "metric": metric, "n_neighbors": n_neighbors}
    ours = FlatL2Neighbors(**parameters)
    peer = KNeighborsTransformer(algorithm="brute", **parameters)
    assert_same_graph(ours.fit_transform(X), peer.fit_transform(X))
    assert_same_graph(ours.transform(Q), peer.transform(Q))
    assert_same_graph(ours.transform(None), peer.transform(None))


@MODES
def test_fit_transform_is_fit_then_transform(mode, X):
    ours = FlatL2Neighbors(mode=mode)
    assert_same_graph(ours.fit_transform(X), ours.transform(X))


@MODES
def test_rows_have_one_length_and_ascend_by_distance(mode, X):
    n_neighbors = 7
    index = FlatL2Neighbors(n_neighbors, mode=mode)
    graph = index.fit_transform(X)
    k = n_neighbors + (mode == "distance")
    assert_array_equal(graph.indptr, np.arange(0, 120 * k + 1, k))
    distances, ids = index.kneighbors(X, k)
    assert_array_equal(graph.indices.reshape(120, k), ids)
    expected = distances if mode == "distance" else np.ones((120, k))
    assert_array_equal(graph.data.reshape(120, k), expected)


def test_consumers_find_the_rows_sorted_already(X):
    graph = FlatL2Neighbors().fit_transform(X)
    # Warns, which is an error here, if it has to sort.
    again = sort_graph_by_row_values(graph, warn_when_not_sorted=True)
    assert again is graph


@MODES
@pytest.mark.parametrize("n_neighbors", [1, 4, 29])
@pytest.mark.parametrize(
    "kind",
    [vector_kinds.all_equal, vector_kinds.bits, vector_kinds.duplicates],
    ids=vector_kinds.name,
)
def test_every_row_is_its_own_first_neighbor(kind, n_neighbors, mode, rng):
    X, _ = vector_kinds.make(kind, np.float32, rng, 30, 1, 2)
    graph = FlatL2Neighbors(n_neighbors, mode=mode).fit_transform(X)
    k = n_neighbors + (mode == "distance")
    ids = graph.indices.reshape(30, k)
    assert_array_equal(ids[:, 0], np.arange(30))
    assert all(len(set(row)) == k for row in ids)
    if mode == "distance":
        distances = graph.data.reshape(30, k)
        assert_array_equal(distances[:, 0], 0.0)
        assert (np.diff(distances, axis=1) >= 0).all()


def test_zero_distances_are_stored():
    graph = FlatL2Neighbors(2).fit_transform(np.ones((3, 2)))
    assert graph.nnz == graph.data.size == 9
    assert_array_equal(graph.data, 0.0)
    within = (
        FlatL2Neighbors()
        .fit(np.ones((3, 2)))
        .radius_neighbors_graph(mode="distance", radius=0)
    )
    assert within.nnz == within.data.size == 6


def test_a_radius_without_any_row_gives_an_empty_graph(X):
    graph = FlatL2Neighbors().fit(X).radius_neighbors_graph(X[:3] + 100)
    assert graph.shape == (3, 120)
    assert graph.nnz == 0


@pytest.mark.parametrize(
    "search",
    ["transform", "fit_transform", "kneighbors_graph", "radius_neighbors_graph"],
)
def test_the_container_is_the_configured_one(search, X):
    index = FlatL2Neighbors().fit(X)
    assert type(getattr(index, search)(X)) is csr_matrix
    if "sparse_interface" in sklearn.get_config():
        with sklearn.config_context(sparse_interface="sparray"):
            assert type(getattr(index, search)(X)) is csr_array


def test_feature_names_are_numbered_after_the_class(X):
    index = FlatL2Neighbors().fit(X)
    names = index.get_feature_names_out()
    assert names.dtype == object
    assert_array_equal(names, [f"flatl2neighbors{i}" for i in range(120)])
    with pytest.raises(ValueError, match="number of features"):
        index.get_feature_names_out(["a", "b"])


@pytest.mark.parametrize("method", ["transform", "fit_transform"])
def test_a_graph_is_not_put_into_a_data_frame(method, X):
    index = FlatL2Neighbors().fit(X).set_output(transform="pandas")
    with pytest.raises(ValueError, match="scipy sparse matrix"):
        getattr(index, method)(X)


_PEAK = """
import sys, tracemalloc
import numpy as np
from sklearn_ann import FlatL2Neighbors, _blocks

_blocks._BLOCK_BYTES = 2**13
X = np.random.default_rng(0).standard_normal((12_000, 8)).astype(np.float32)
index = FlatL2Neighbors(100, mode=sys.argv[1], n_jobs=1)
index.fit(X[:500]).fit_transform(X[:500])
tracemalloc.start()
graph = index.fit_transform(X)
print(tracemalloc.get_traced_memory()[1] / graph.nnz, graph.nnz)
"""


@pytest.mark.parametrize("mode", ["distance", "connectivity"])
def test_bytes_of_an_edge(mode, run_script):
    n_bytes, n_edges = map(float, run_script(_PEAK, mode).split())
    assert n_edges >= 1.2e6
    # Twelve of them are the graph's.
    assert n_bytes < 15


@pytest.mark.parametrize("rows_of_a_block", [7, 300, 10**6])
@pytest.mark.parametrize(
    "index",
    [
        FlatL2Neighbors(),
        IVFFlatNeighbors(nlist=12, nprobe=8, random_state=0),
        IVFFlatNeighbors(nlist=12, nprobe=2, metric="cosine", random_state=0),
        IVFPQNeighbors(nlist=9, nprobe=8, m=3, random_state=0),
        IVFPQNeighbors(
            nlist=9, nprobe=3, m=3, store_vectors=True, refine_factor=4, random_state=0
        ),
    ],
    ids=["flat", "lists", "lists, cosine", "codes", "refined"],
)
def test_rows_find_what_they_find_as_queries(index, rows_of_a_block, monkeypatch, rng):
    X = rng.standard_normal((700, 6)).astype(np.float32)
    X[:20] = X[20:40]  # each row of a pair is the nearest of the other
    monkeypatch.setattr(_blocks, "_BLOCK_BYTES", 8 * 6 * rows_of_a_block)
    index = clone(index).fit(X)
    has_codes = isinstance(index, IVFPQNeighbors) and not index.store_vectors
    queries = index.reconstruct(range(700)) if has_codes else X
    distances, ids = index.kneighbors(queries, 6)
    is_other = ids != np.arange(700)[:, None]
    # Not among its own nearest: then one of the others goes.
    place = -1 if isinstance(index, IVFPQNeighbors) else 0
    is_other[:, place] &= ~is_other.all(axis=1)
    expected = distances[is_other].reshape(700, 5), ids[is_other].reshape(700, 5)
    for found, wanted in zip(index.kneighbors(), expected, strict=True):
        assert_array_equal(found, wanted, strict=True)
    graph = index.kneighbors_graph(mode="distance")
    assert_array_equal(graph.data, expected[0].ravel())
    assert_array_equal(graph.indices, expected[1].ravel())
