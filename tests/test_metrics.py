"""Cosine distances keep their range and zero rows their place, whatever rounds."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors

ESTIMATORS = {
    "flat": lambda: FlatL2Neighbors(metric="cosine"),
    "ivf_flat": lambda: IVFFlatNeighbors(
        nlist=3, nprobe=3, metric="cosine", random_state=0
    ),
    "ivf_pq": lambda: IVFPQNeighbors(
        nlist=3,
        nprobe=3,
        m=3,
        nbits=4,
        refine_factor=400,
        store_vectors=True,
        metric="cosine",
        random_state=0,
    ),
    "codes": lambda: IVFPQNeighbors(
        nlist=3, nprobe=3, m=3, nbits=4, metric="cosine", random_state=0
    ),
}
EACH = pytest.mark.parametrize("make", ESTIMATORS.values(), ids=ESTIMATORS)
MEASURED = pytest.mark.parametrize(
    "make", list(ESTIMATORS.values())[:3], ids=list(ESTIMATORS)[:3]
)
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.fixture
def rows(rng):
    return rng.standard_normal((400, 24))


def assert_in_order(distances, ids):
    for row_distances, row_ids in zip(distances, ids, strict=True):
        assert_array_equal(np.lexsort((row_ids, row_distances)), range(len(row_ids)))


@EACH
@DTYPES
def test_no_distance_is_larger_than_2(make, dtype, rows):
    X = np.vstack([rows, rows[:200]]).astype(dtype)
    # Each query has two opposites, which are tied.
    distances, ids = make().fit(X).kneighbors(-X, len(X))
    assert distances.min() >= 0
    assert distances.max() <= 2
    assert not np.isnan(np.arccos(1 - distances)).any()
    assert_in_order(distances, ids)


@EACH
@DTYPES
def test_radius_2_holds_every_row(make, dtype, rows):
    X = rows.astype(dtype)
    index = make().fit(X)
    for radius in (2.0, 2.5, np.inf):
        distances, ids = index.radius_neighbors(-X, radius, sort_results=True)
        assert_in_order(distances, ids)
        for row_distances, row_ids in zip(distances, ids, strict=True):
            assert_array_equal(np.sort(row_ids), np.arange(400))
            assert row_distances.max() <= 2
        graph = index.radius_neighbors_graph(-X, radius)
        assert graph.nnz == 400 * 400


@MEASURED
@DTYPES
def test_a_zero_row_is_at_exactly_1_from_the_others(make, dtype, rows):
    X = rows.astype(dtype)
    X[[7, 250]] = 0
    index = make().fit(X)
    is_zero = np.arange(400) % 243 == 7
    distances, ids = index.kneighbors(X, 400)
    assert_in_order(distances, ids)
    differ = is_zero[ids] != is_zero[:, None]
    assert (distances[differ] == 1).all()
    assert_array_equal(distances[7, :2], 0)
    assert_array_equal(ids[250], np.r_[7, 250, np.flatnonzero(~is_zero)])
    others, other_ids = index.kneighbors()
    assert_array_equal(other_ids[7, 0], 250)
    assert_array_equal(others[7, 1:], 1)


@pytest.mark.parametrize("make", list(ESTIMATORS.values())[:2], ids=["flat", "ivf"])
@DTYPES
def test_radius_1_holds_zero_rows_and_a_smaller_one_does_not(make, dtype, rows):
    X = rows.astype(dtype)
    X[[7, 250]] = 0
    index = make().fit(X)
    for radius, n_of_zero in ((1.0, 400), (np.nextafter(1, 0), 2), (1 - 1e-7, 2)):
        found = index.radius_neighbors(X, radius)
        assert len(found[1][7]) == len(found[1][250]) == n_of_zero
        for i in np.delete(np.arange(400), [7, 250]):
            assert np.isin([7, 250], found[1][i]).all() == (radius == 1)
            assert (found[0][i] <= radius).all()
    assert [len(ids) for ids in index.radius_neighbors(radius=1.0)[1][[7, 250]]] == [
        399,
        399,
    ]


@pytest.mark.parametrize("make", list(ESTIMATORS.values())[:2], ids=["flat", "ivf"])
@DTYPES
def test_a_radius_holds_the_rows_whose_distance_does_not_exceed_it(make, dtype, rows):
    X = rows.astype(dtype)
    X[::100] = 0
    X[1::100] = -X[2::100]
    index = make().fit(X)
    all_distances, all_ids = index.kneighbors(X[:4], 400)
    for query, distances, ids in zip(X[:4], all_distances, all_ids, strict=True):
        near_1 = distances[np.abs(distances - 1) < 1e-3]
        for radius in {*distances[::40], *near_1, 1.0, 2.0, 1 - 1e-7, 1 + 1e-7}:
            n_hits = np.count_nonzero(distances <= radius)
            found = index.radius_neighbors(query[None], radius, sort_results=True)
            assert_array_equal(found[0][0], distances[:n_hits])
            assert_array_equal(found[1][0], ids[:n_hits])


@pytest.mark.parametrize("dtype", [np.float32, np.int8])
def test_distances_do_not_depend_on_the_dtype_of_queries(dtype, rng):
    X = rng.integers(-9, 9, (200, 5)).astype(np.float64)
    index = FlatL2Neighbors(metric="cosine").fit(X)
    expected = index.kneighbors(X[:20])
    for found, wanted in zip(
        index.kneighbors(X[:20].astype(dtype)), expected, strict=True
    ):
        assert_array_equal(found, wanted)
