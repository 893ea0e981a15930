"""Graphs with ``connected=True``: a minimum spanning tree joins their components."""

import numpy as np
import pytest
import reference
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse.csgraph import connected_components
from sklearn.utils.graph import _fix_connected_components

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors
from sklearn_ann.exceptions import DisconnectedGraphWarning

MODES = pytest.mark.parametrize("mode", ["distance", "connectivity"])

# More lists than such few rows should have.
pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn_ann.exceptions.FewTrainingRowsWarning"
)


def groups(rng, sizes=(40, 25, 12, 7, 4), d=4):
    """Rows of some groups far apart, in no order."""
    X = [20 * rng.standard_normal(d) + rng.standard_normal((n, d)) for n in sizes]
    return rng.permutation(np.concatenate(X))


def small_integers(rng):
    """Many rows are equal, and as far from several others."""
    return 10 * rng.integers(0, 2, (90, 4)) + rng.integers(0, 2, (90, 4)) + 0.0


def all_sqdists(X):
    return np.array([reference.sqdists(x, X) for x in X])


def spanning_edges(labels, sqdists):
    """Kruskal's algorithm on all pairs of rows, ties by row numbers."""
    rows, others = np.triu_indices(len(labels), 1)
    labels, edges = labels.copy(), []
    for pair in np.lexsort((others, rows, sqdists[rows, others])):
        i, j = rows[pair], others[pair]
        if labels[i] != labels[j]:
            labels[labels == labels[j]] = labels[i]
            edges.append((i, j))
    return edges


def connected(search):
    """The graph, and the message of its warning."""
    with pytest.warns(DisconnectedGraphWarning) as caught:
        graph = search(connected=True)
    assert [warning.filename for warning in caught] == [__file__]
    return graph, str(caught[0].message)


def rows_of(graph):
    """Pairs of column and value of each row, in their order."""
    columns, values = (
        np.split(array, graph.indptr[1:-1]) for array in (graph.indices, graph.data)
    )
    return [
        list(zip(*map(np.ndarray.tolist, row), strict=True))
        for row in zip(columns, values, strict=True)
    ]


def assert_joined(search, sqdists, distances, mode, is_sorted=True):
    """As without, and the right edges at their places."""
    before = search(mode="distance")
    n_components, labels = connected_components(before, directed=False)
    assert n_components > 1
    edges = spanning_edges(labels, sqdists)
    assert len(edges) == n_components - 1
    graph, message = connected(lambda connected: search(mode=mode, connected=connected))
    assert f"has {n_components} connected components" in message
    assert connected_components(graph, directed=False)[0] == 1
    assert type(graph) is type(before)
    assert graph.indices.dtype == before.indices.dtype
    assert graph.indptr.dtype == before.indptr.dtype
    expected = rows_of(before)
    for i, j in edges:
        expected[i].append((j, distances[i, j]))
        expected[j].append((i, distances[j, i]))
    if is_sorted:
        expected = [sorted(row, key=lambda entry: entry[::-1]) for row in expected]
    else:
        expected = [sorted(row) for row in expected]
    found = rows_of(graph)
    for row, expected_row in zip(found, expected, strict=True):
        columns, values = zip(*row, strict=True)
        expected_columns, expected_values = zip(*expected_row, strict=True)
        assert columns == expected_columns
        if mode == "connectivity":
            expected_values = np.ones(len(values))
        assert_allclose(values, expected_values, rtol=1e-6)


# -- which edges ---------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", [groups, small_integers])
@pytest.mark.parametrize("n_neighbors", [1, 3])
def test_kneighbors_graph(make, n_neighbors, dtype, mode, rng):
    X = make(rng).astype(dtype)
    sqdists = all_sqdists(X)
    index = FlatL2Neighbors(n_neighbors).fit(X)
    assert_joined(index.kneighbors_graph, sqdists, np.sqrt(sqdists), mode)


@MODES
@pytest.mark.parametrize("sort_results", [True, False])
@pytest.mark.parametrize("make", [groups, small_integers])
def test_radius_neighbors_graph(make, sort_results, mode, rng):
    X = make(rng)
    sqdists = all_sqdists(X)
    index = FlatL2Neighbors(radius=1.1).fit(X)

    def search(mode, connected=False):
        return index.radius_neighbors_graph(
            mode=mode, sort_results=sort_results, connected=connected
        )

    # Some rows have no neighbor within it.
    if make is groups:
        assert (np.diff(search("distance").indptr) == 0).sum() > 3
    assert_joined(search, sqdists, np.sqrt(sqdists), mode, sort_results)


@pytest.mark.parametrize("metric", ["sqeuclidean", "cosine"])
def test_units_of_the_metric(metric, rng):
    X = groups(rng)
    sqdists = all_sqdists(X)
    if metric == "cosine":
        sqdists = reference.cosine_distances(X, X)
    index = FlatL2Neighbors(2, metric=metric).fit(X)
    assert_joined(index.kneighbors_graph, sqdists, sqdists, "distance")


def test_rows_without_a_direction_are_at_the_cosine_distance_1(rng):
    X = np.abs(groups(rng)) * [1, 1, 1, 0]
    X[:5] = 0
    index = FlatL2Neighbors(2, metric="cosine").fit(X)
    graph, _ = connected(
        lambda connected: index.kneighbors_graph(
            None, 2, "distance", connected=connected
        )
    )
    assert connected_components(graph, directed=False)[0] == 1
    between = graph[:5, 5:]
    assert between.nnz == 1
    assert between.data == [1.0]


def test_many_components_of_all_sizes(rng):
    X = rng.uniform(0, 100, (400, 2))
    sqdists = all_sqdists(X)
    index = FlatL2Neighbors(radius=3.0).fit(X)

    def search(mode, connected=False):
        return index.radius_neighbors_graph(mode=mode, connected=connected)

    n_components, labels = connected_components(search("distance"), directed=False)
    assert n_components > 100
    assert set(np.bincount(labels)) >= {1, 2, 3, 4}
    assert_joined(search, sqdists, np.sqrt(sqdists), "distance", is_sorted=False)


def test_every_row_is_a_component(rng):
    X = rng.standard_normal((50, 3))
    index = FlatL2Neighbors(radius=0).fit(X)
    graph, message = connected(
        lambda connected: index.radius_neighbors_graph(connected=connected)
    )
    assert "has 50 connected components" in message
    assert graph.nnz == 98
    assert_array_equal(graph.toarray(), graph.toarray().T)


def test_blocks_of_rows_change_nothing(monkeypatch, rng):
    index = FlatL2Neighbors(1).fit(groups(rng))
    expected, _ = connected(index.kneighbors_graph)
    monkeypatch.setattr("sklearn_ann._recall._BLOCK_BYTES", 30)
    graph, _ = connected(index.kneighbors_graph)
    assert rows_of(graph) == rows_of(expected)


# -- what is measured ----------------------------------------------------------------


def test_lists_that_are_not_probed_hold_edges_too(rng):
    X = groups(rng)
    sqdists = all_sqdists(X)
    index = IVFFlatNeighbors(2, nlist=12, nprobe=1, random_state=0).fit(X)
    assert_joined(index.kneighbors_graph, sqdists, np.sqrt(sqdists), "distance")


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"store_vectors": True, "refine_factor": 1},
        {"store_vectors": True, "refine_factor": 4},
    ],
    ids=["codes", "vectors beside them", "vectors measured"],
)
def test_codes(parameters, rng):
    X = groups(rng)
    index = IVFPQNeighbors(
        2, nlist=5, nprobe=2, m=2, nbits=4, random_state=0, **parameters
    ).fit(X)
    is_refined = parameters.get("refine_factor") == 4
    measured = X if is_refined else index.reconstruct(np.arange(len(X)))
    sqdists = all_sqdists(measured)
    assert_joined(index.kneighbors_graph, sqdists, np.sqrt(sqdists), "distance")


# -- what stays ----------------------------------------------------------------------


@MODES
def test_a_connected_graph_stays_as_it_is(mode, rng):
    index = FlatL2Neighbors(15, radius=2.5).fit(rng.standard_normal((100, 3)))
    for search in index.kneighbors_graph, index.radius_neighbors_graph:
        expected, graph = search(mode=mode), search(mode=mode, connected=True)
        assert_array_equal(graph.indptr, expected.indptr)
        assert_array_equal(graph.indices, expected.indices)
        assert_array_equal(graph.data, expected.data)


def test_equal_rows_are_connected_by_zeros():
    index = FlatL2Neighbors(2).fit(np.ones((6, 2)))
    # Warnings are errors.
    assert index.kneighbors_graph(mode="distance", connected=True).nnz == 12


def test_a_graph_of_queries_has_no_components_to_join(rng):
    X = groups(rng)
    index = FlatL2Neighbors(2).fit(X)
    for search in index.kneighbors_graph, index.radius_neighbors_graph:
        with pytest.raises(ValueError, match="leave X out"):
            search(X, connected=True)


# -- who needs it --------------------------------------------------------------------


@MODES
@pytest.mark.filterwarnings("ignore:Changing the sparsity structure")
def test_the_edges_are_some_of_those_that_isomap_adds(mode, rng):
    X = groups(rng)
    index = FlatL2Neighbors(3).fit(X)
    graph, _ = connected(
        lambda connected: index.kneighbors_graph(mode=mode, connected=connected)
    )
    before = index.kneighbors_graph(mode=mode)
    components = connected_components(before, directed=False)
    theirs = _fix_connected_components(X, before, *components, mode=mode)
    assert theirs.nnz > graph.nnz
    ends = graph.nonzero()
    assert_allclose(theirs[ends], graph[ends])
