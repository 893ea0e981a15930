"""Tables, and the bounds of what the filter of codes sums up."""

import cuda_lane
import numpy as np
import pytest
import vector_kinds
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_ann import IVFPQNeighbors, _cpu
from sklearn_ann._cuda import _candidates, _pq_codes, _pq_routes
from sklearn_ann._cuda._compat import to_device

KINDS = [
    vector_kinds.normal,
    vector_kinds.bytes_,
    vector_kinds.all_equal,
    vector_kinds.far_from_origin,
    vector_kinds.one_huge_feature,
    vector_kinds.outlier_row,
    vector_kinds.tiny,
]

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn_ann.exceptions.FewTrainingRowsWarning"
)


def fitted(X, **parameters):
    parameters = {"nlist": 3, "m": 3, "nbits": 4, "random_state": 0, **parameters}
    return IVFPQNeighbors(n_jobs=1, **parameters).fit(X)._index


def uploaded(index, Q):
    """A route of all lists, its queries and thresholds, and what is known of lists."""
    probe_sqdists, probes = _cpu.knn(Q, index.centroids, len(index.lists.sizes), 1)
    route = _pq_routes.ProbedCodes(
        _pq_codes.codes_of(index), index.lists, probes, probe_sqdists
    )
    return route, *route.upload(Q, np.inf), probe_sqdists


@pytest.mark.parametrize("scale", [1.0, 1e12], ids=["near", "far"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS, ids=vector_kinds.name)
def test_values_are_off_by_no_more_than_their_error(
    kind, dtype, scale, table_dtype, rng
):
    X, Q = vector_kinds.make(kind, dtype, rng, 70, 4, 5)
    Q[:2] = (scale * Q[:2].astype(np.float64)).astype(dtype)
    errors_of_values(fitted(X), Q)


@pytest.mark.parametrize("scale", [1e-40, 1e-25, 1e-15, 1e-7, 1e-3, 1e3, 1e7, 1e14])
def test_tables_of_any_scale(scale, table_dtype, rng):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float64, rng, 70, 4, 5)
    errors_of_values(fitted(scale * X), scale * Q)


@pytest.mark.parametrize("order", cuda_lane.ORDERS)
def test_any_number_of_parts_is_summed_up(order, table_dtype, rng):
    cuda_lane.set_order(order)
    X, Q = vector_kinds.make(vector_kinds.normal, np.float32, rng, 70, 4, 35)
    errors_of_values(fitted(X, m=35, nbits=5), Q)


def test_rounding_of_entries_can_reach_its_share_of_the_error():
    # Entries of 1 + 2**-11, in the middle of two numbers of float16, all for one row.
    m, codebooks = 20, np.resize([-1.0, 1.0], (20, 256, 1)).astype(np.float32)
    rows = np.vstack([np.ones((1, m)), -np.ones((1, m)), np.resize([-1, 1], (68, m))])
    centroids = np.full((1, m), 0.5)
    estimator = IVFPQNeighbors(
        init=centroids, max_iter=0, m=m, codebooks=codebooks, n_jobs=1
    )
    index = estimator.fit(centroids + rows)._index
    Q = centroids - (0.5 + 2.0**-12)
    off, errors = errors_of_values(index, np.repeat(Q, 4, axis=0))
    assert_array_equal(off.max(axis=1), m * 2.0**-11)
    assert (errors < 1.05 * m * 2.0**-11).all()


def errors_of_values(index, Q):
    """By how much values are off, and by how much they may be."""
    route, queries, thresholds, probe_sqdists = uploaded(index, Q)
    starts = _candidates.equal_starts(4, 4, 70)
    candidates = _candidates.empty_candidates(starts)
    route.visit(queries, 0, route.n_tiles, thresholds, candidates)
    assert_array_equal(candidates.counts.copy_to_host(), 70)
    positions = candidates.positions.copy_to_host().reshape(4, 70)
    values = candidates.lowers.copy_to_host()
    assert_array_equal(values, candidates.uppers.copy_to_host())
    values = values.reshape(4, 70)
    wide = np.longdouble
    errors = queries.errors.copy_to_host().astype(wide)[:, None]
    assert np.isfinite(errors).all()
    off = np.empty((4, 70), wide)
    for i in range(4):
        decoded = _cpu.decode_rows(positions[i].astype(np.int64), index)
        sqdists = ((Q[i].astype(wide) - decoded.astype(wide)) ** 2).sum(axis=1)
        off[i] = np.abs(values[i].astype(wide) - (sqdists - wide(probe_sqdists[i, 0])))
    assert (off <= errors + wide(2.0**-100)).all()
    return off, errors


def test_errors_of_everyday_data_are_small(table_dtype, rng):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float32, rng, 70, 4, 48)
    _, queries, _, probe_sqdists = uploaded(fitted(X, m=6), Q)
    most = 3e-3 if table_dtype == np.float16 else 1e-4
    assert (queries.errors.copy_to_host() < most * probe_sqdists[:, 0]).all()


@pytest.mark.parametrize("order", cuda_lane.ORDERS)
@pytest.mark.parametrize("nbits", [4, 5])
def test_tables_are_products_with_codewords(nbits, order, table_dtype, rng):
    cuda_lane.set_order(order)
    X, Q = vector_kinds.make(vector_kinds.normal, np.float64, rng, 70, 9, 5)
    index = fitted(X, nbits=nbits)
    queries = uploaded(index, Q)[1]
    tables, scales = queries.tables.copy_to_host(), queries.scales.copy_to_host()
    assert tables.dtype == table_dtype
    tables = tables.reshape(9, -1).astype(np.float64) / scales[:, None]
    m, _, dsub = index.codebooks.shape
    centered = np.zeros((9, m * dsub))
    centered[:, :5] = Q - index.centroids.center
    parts = centered.reshape(9, m, 1, dsub)
    expected = -2 * (parts * index.codebooks).sum(axis=3)
    rtol = 1.01 * 2.0**-11 if table_dtype == np.float16 else 1e-5
    assert_allclose(tables.reshape(9, m, 256), expected, rtol=rtol, atol=1e-5)


def test_more_parts_than_fit_into_shared_memory_are_of_float16(rng):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float32, rng, 70, 2, 33)
    for m, nbits, n_parts, dtype in [
        *((16, 5, 16, np.float32), (17, 5, 17, np.float16)),
        *((32, 4, 16, np.float32), (33, 4, 17, np.float16)),
    ]:
        index = fitted(X[:, :m], m=m, nbits=nbits)
        tables = uploaded(index, Q[:, :m])[1].tables
        assert (tables.size, tables.dtype) == (2 * n_parts * 256, dtype)


def test_queries_without_a_table(table_dtype, rng):
    X = rng.standard_normal((70, 3))
    index = fitted(X)
    Q = X[:4].copy()
    Q[1, 1], Q[2, 2], Q[3, 0] = 1e37, 1e39, 1e160
    probe_sqdists, probes = _cpu.knn(Q, index.centroids, 3, 1)
    assert_array_equal(probe_sqdists[3], np.inf)
    route = _pq_routes.ProbedCodes(
        _pq_codes.codes_of(index), index.lists, probes, probe_sqdists
    )
    for sqradius in (np.inf, 2.0):
        queries, thresholds = route.upload(Q, sqradius)
        errors, thresholds = queries.errors.copy_to_host(), thresholds.copy_to_host()
        assert_array_equal(errors[1:], np.inf)
        assert_array_equal(thresholds[1:], np.inf)
        expected = (
            np.inf if sqradius == np.inf else sqradius - probe_sqdists[0, 0] + errors[0]
        )
        assert_allclose(thresholds[0], expected, rtol=1e-6)
        assert expected <= thresholds[0]
    tables = queries.tables.copy_to_host().reshape(4, -1)
    assert np.isfinite(tables[0]).all() and tables[0].any()
    assert not tables[1:].any()


def test_lists_are_shifted_by_what_is_known_of_them(rng):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float32, rng, 70, 3, 4)
    index = fitted(X)
    probe_sqdists, probes = _cpu.knn(Q, index.centroids, 3, 1)
    probes[1, 1:], probe_sqdists[1, 1:] = -1, np.inf
    image = _pq_codes.codes_of(index)
    route = _pq_routes.ProbedCodes(image, index.lists, probes, probe_sqdists)
    shifts = route.upload(Q, np.inf)[0].shifts.copy_to_host()
    expected = probe_sqdists - probe_sqdists[:, :1]
    expected[1, 1:] = 0
    assert_array_equal(shifts, expected.astype(np.float32))
    some = np.array([2, 0])
    shifts = route.some(some).upload(Q[some], np.inf)[0].shifts.copy_to_host()
    assert_array_equal(shifts, expected[some].astype(np.float32))


@pytest.mark.parametrize("order", cuda_lane.ORDERS)
def test_panels_are_decoded_as_on_the_cpu(order, rng):
    cuda_lane.set_order(order)
    X = rng.standard_normal((150, 35)).astype(np.float32)
    index = fitted(X, nlist=2)
    panels = np.array([2, 0, 2])
    found, ids = _pq_codes.decode_panels(panels, _pq_codes.codes_of(index))
    positions = (panels[:, None] * 64 + np.arange(64)).ravel()
    assert_array_equal(ids.copy_to_host(), index.ids[positions])
    filled = index.ids[positions] >= 0
    expected = _cpu.decode_rows(positions[filled], index)
    assert_array_equal(found.copy_to_host()[filled], expected)


def test_codes_are_the_bytes_of_the_index(rng):
    X = rng.standard_normal((150, 6)).astype(np.float32)
    index = fitted(X)
    codes = _pq_codes.codes_of(index).codes.copy_to_host()
    assert_array_equal(codes.view(np.uint8), index.codes.ravel())
    assert to_device(codes).copy_to_host().dtype == np.int32
