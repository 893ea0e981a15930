"""The nearest rows: the same bits as from the CPU, whatever the data and the order."""

from itertools import pairwise

import cuda_lane
import numpy as np
import pytest
import reference
import vector_kinds
from numpy.testing import assert_array_equal

from sklearn_ann import _cpu
from sklearn_ann._cuda import _image, _knn, _memory, _queries
from sklearn_ann._scalar_quantizer import build_flat_index

KINDS = pytest.mark.parametrize(
    ("kind", "dtype"), vector_kinds.KINDS, ids=vector_kinds.name
)
EACH_ORDER = pytest.mark.parametrize("order", cuda_lane.ORDERS)


@pytest.fixture
def little_room(monkeypatch):
    """Room that overflows when many rows are equally near."""
    monkeypatch.setattr(_knn, "_LEAST_CAPACITY", 128)


def assert_same_as_cpu(backend, X, Q, k):
    index = build_flat_index(X, _cpu, 1)
    found, expected = backend.knn(Q, index, k, 1), _cpu.knn(Q, index, k, 1)
    assert_array_equal(found[1], expected[1], strict=True)
    assert_array_equal(found[0], expected[0], strict=True)
    return found


@KINDS
def test_neighbors_are_those_of_the_cpu_and_of_the_oracle(kind, dtype, backend, rng):
    cuda_lane.set_order(cuda_lane.ORDERS[-1])
    X, Q = vector_kinds.make(kind, dtype, rng, 150, 3, 7)
    found = assert_same_as_cpu(backend, X, Q, 10)
    reference.assert_same_neighbors(found, reference.knn(Q, X, 10), Q, X)


@EACH_ORDER
@pytest.mark.parametrize("kind", [vector_kinds.normal, vector_kinds.bits])
def test_every_order_gives_the_same(kind, order, backend, n_at_once, little_room, rng):
    cuda_lane.set_order(order)
    X, Q = vector_kinds.make(kind, np.float32, rng, 300, 4, 6)
    assert_same_as_cpu(backend, X, Q, 3)


# (rows, features, neighbours, queries): around the sizes of a tile (128 rows), a step
# of it (8 features), a warp (32 features) and the queries of a block (8 or 128).
SIZES = [
    (1, 1, 1, 1),
    (2, 2, 2, 2),
    (127, 3, 10, 3),
    (128, 8, 128, 1),
    (129, 9, 129, 2),
    (300, 31, 5, 9),
    (150, 32, 5, 2),
    (140, 33, 5, 2),
    (90, 300, 5, 9),
    (600, 1, 520, 1),
]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_size(size, backend, rng):
    n, d, k, nq = size
    X, Q = vector_kinds.make(vector_kinds.normal, np.float32, rng, n, nq, d)
    assert_same_as_cpu(backend, X, Q, k)


@pytest.mark.parametrize("nq", [1, 130])
def test_many_queries_at_once(nq, backend, n_at_once, rng):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float64, rng, 40, nq, 3)
    assert_same_as_cpu(backend, X, Q, 1)


@pytest.mark.parametrize(
    "kind",
    [
        vector_kinds.all_equal,
        vector_kinds.duplicates,
        vector_kinds.outlier_row,
        vector_kinds.outlier_queries,
        vector_kinds.vanishing_squares,
    ],
    ids=vector_kinds.name,
)
def test_candidates_that_overflow_lose_no_neighbor(kind, backend, little_room, rng):
    X, Q = vector_kinds.make(kind, np.float64, rng, 400, 4, 5)
    assert_same_as_cpu(backend, X, Q, 2)


def test_what_overflows_once_is_searched_from_a_better_threshold(
    backend, little_room, rng, monkeypatch
):
    # The first tile gives a threshold below which 200 others are, which overflow.
    distances = np.hstack(
        [rng.uniform(5, 6, 128), np.full(572, 10), rng.uniform(1, 2, 200)]
    )
    X = distances[:, None] * np.eye(3)[rng.integers(0, 3, 900)]
    monkeypatch.setattr(_image, "tile_stride", lambda n_tiles: 1)
    searched, search = [], _knn.search

    def spy(queries, k, route, thresholds, ends):
        found = search(queries, k, route, thresholds, ends)
        searched.append((queries.n, ends, found[2].tolist()))
        return found

    monkeypatch.setattr(_knn, "search", spy)
    assert_same_as_cpu(backend, X, np.zeros((2, 3)), 2)
    assert searched == [(2, [1, 8], [True, True]), (2, [8], [False, False])]


@pytest.mark.parametrize("dtypes", [(np.float32, np.float64), (np.float64, np.float32)])
def test_queries_of_the_other_dtype_are_not_rounded(dtypes, backend, rng):
    X = rng.standard_normal((200, 40)).astype(dtypes[0])
    Q = rng.standard_normal((3, 40)).astype(dtypes[1])
    assert_same_as_cpu(backend, X, Q, 5)


@pytest.mark.parametrize("size", [1e160, 1e308])
def test_distances_that_overflow(size, backend, rng):
    X = size * rng.uniform(-1, 1, (140, 3))
    assert_same_as_cpu(backend, X, np.vstack([X[:2], np.full((1, 3), 1.7e308)]), 10)


def test_queries_that_are_not_finite_have_no_neighbors(backend, rng):
    X = rng.standard_normal((140, 3))
    Q = np.array([[0, np.nan, 0], [0, 0, 0], [np.inf, 0, -np.inf]])
    _, ids = assert_same_as_cpu(backend, X, Q, 4)
    assert_array_equal(ids[[0, 2]], -1)


def test_queries_are_searched_in_parts_that_fit_into_memory(backend, rng, monkeypatch):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float32, rng, 140, 10, 3)
    index = build_flat_index(X, _cpu, 1)
    expected = backend.knn(Q, index, 5, 1)
    image = _image.image_of(index)
    monkeypatch.setattr(_memory, "free_memory", lambda: 150_000)
    n_bytes = _queries.bytes_of_query(Q, image)
    assert len(_memory.split_queries(10, n_bytes, _knn.capacity(5))) == 2
    found = backend.knn(Q, index, 5, 1)
    assert_array_equal(found[0], expected[0])
    assert_array_equal(found[1], expected[1])


def test_a_query_that_does_not_fit_is_an_error(backend, rng, monkeypatch):
    index = build_flat_index(rng.standard_normal((50, 3)), _cpu, 1)
    backend.knn(np.zeros((1, 3)), index, 5, 1)
    monkeypatch.setattr(_memory, "free_memory", lambda: 10_000)
    with pytest.raises(MemoryError, match="A query needs"):
        backend.knn(np.zeros((1, 3)), index, 5, 1)


@pytest.mark.parametrize("k", [1, 2, 10, 100, 2048])
@pytest.mark.parametrize("n_tiles", [1, 2, 10, 8000, 800_000])
def test_rounds_grow_and_end_with_all_tiles(k, n_tiles):
    ends = _knn.rounds(n_tiles, k)
    assert ends[-1] == n_tiles
    assert (np.diff(ends) > 0).all()
    # In random order four times as many rows are seen for each expected candidate.
    capacity = _knn.capacity(k)
    assert capacity >= 16 * k
    assert capacity.bit_count() == 1
    for seen, end in pairwise(ends):
        assert k * (end - seen) / seen <= capacity / 3
