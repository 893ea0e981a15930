"""IVFPQNeighbors against the oracle: exact among what the codes stand for."""

import gc
import pickle
import weakref

import numpy as np
import pytest
import reference
import vector_kinds
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context

from sklearn_ann import (
    FlatL2Neighbors,
    IVFFlatNeighbors,
    IVFPQNeighbors,
    _blocks,
    _cpu,
)
from sklearn_ann._cpu import _ivf_pq
from sklearn_ann._product_quantizer import choose_parts, positions_of
from sklearn_ann.exceptions import FewTrainingRowsWarning

# Of these, codes in float32 can say something.
KINDS = [
    vector_kinds.normal,
    vector_kinds.bytes_,
    vector_kinds.bits,
    vector_kinds.all_equal,
    vector_kinds.duplicates,
    vector_kinds.far_from_origin,
    vector_kinds.one_huge_feature,
    vector_kinds.constant_columns,
    vector_kinds.outlier_row,
]

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn_ann.exceptions.FewTrainingRowsWarning"
)


def make(**parameters):
    parameters = {"metric": "sqeuclidean", "random_state": 0, **parameters}
    return IVFPQNeighbors(**parameters)


def decode(index):
    """All reconstructions, not rounded to the dtype of the vectors."""
    positions = positions_of(np.arange(index.ntotal), index._index)
    decoded = _cpu.decode_rows(positions, index._index)
    rounded = index.reconstruct(range(index.ntotal))
    assert_array_equal(decoded.astype(rounded.dtype), rounded)
    return decoded


def assert_answers_the_oracle(index, Q, X, k):
    decoded = decode(index)
    found = index.kneighbors(Q, k)
    expected = reference.ivf_knn(Q, X, index.cluster_centers_, index.nprobe, k, decoded)
    reference.assert_same_neighbors(found, expected, Q, decoded)


def assert_nearest_of_all(index, Q):
    """The ten neighbours are the nearest of all rows, each of which is measured."""
    sqdists, ids = index.kneighbors(Q, 10)
    all_sqdists, all_ids = index.radius_neighbors(Q, np.inf)
    for i in range(len(Q)):
        order = np.lexsort((all_ids[i], all_sqdists[i]))[:10]
        assert_array_equal(ids[i], all_ids[i][order])
        assert_array_equal(sqdists[i], all_sqdists[i][order])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("nprobe", [1, 3, 10])
def test_neighbors_are_the_nearest_reconstructions(kind, dtype, nprobe, rng):
    X, Q = vector_kinds.make(kind, dtype, rng, 700, 30, 9)
    index = make(nlist=10, nprobe=nprobe, m=3, nbits=4).fit(X)
    assert_answers_the_oracle(index, Q, X, 10)


@pytest.mark.parametrize("scale", [1e-40, 1e-25, 1e-22, 1e-18, 1e10])
@pytest.mark.parametrize("nbits", [4, 8])
def test_neighbors_are_the_nearest_at_any_scale(scale, nbits, rng):
    X, Q = vector_kinds.make(vector_kinds.normal, np.float64, rng, 400, 20, 8)
    index = make(nlist=4, nprobe=4, m=4, nbits=nbits).fit(scale * X)
    assert_answers_the_oracle(index, scale * Q, scale * X, 5)


# (rows, features, parts, bits, neighbours): parts that do and do not divide features,
# more sums than 16 bits hold, lists that are measured because they do not get shorter.
@pytest.mark.parametrize(
    "size",
    [
        (300, 1, 1, 8, 1),
        (300, 7, 3, 5, 10),
        (300, 8, 8, 6, 300),
        (200, 768, 96, 4, 7),
        (150, 600, 300, 4, 5),
        (300, 600, 600, 8, 5),
        (300, 1100, 1100, 4, 5),
        (3000, 2, 1, 4, 40),
        (3000, 12, 5, 4, 129),
        (3000, 13, 4, 8, 128),
    ],
    ids=str,
)
def test_neighbors_of_every_size_are_the_nearest_reconstructions(size, rng):
    n, d, m, nbits, k = size
    X, Q = vector_kinds.make(vector_kinds.normal, np.float32, rng, n, 9, d)
    index = make(nlist=4, nprobe=2, m=m, nbits=nbits).fit(X)
    assert_answers_the_oracle(index, Q, X, k)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(("nbits", "m"), [(4, 3), (8, 9)])
@pytest.mark.parametrize("k", [1, 30, 400])
def test_candidates_to_refine_are_the_nearest_reconstructions(kind, nbits, m, k, rng):
    X, Q = vector_kinds.make(kind, np.float32, rng, 700, 30, 9)
    estimator = make(nlist=4, m=m, nbits=nbits).fit(X)
    index = estimator._index
    probe_sqdists, probes = estimator._probe(index, Q, 3, k, _cpu, 1)
    _, nearest = _cpu.scan_ivf_pq(Q, index, probes, probe_sqdists, k, 1)
    candidates = _cpu.candidates_ivf_pq(Q, index, probes, probe_sqdists, k, 1)
    assert_array_equal(np.sort(candidates, axis=1), np.sort(nearest, axis=1))


@pytest.mark.parametrize("nbits", [4, 5, 8])
@pytest.mark.parametrize("m", [1, 3, 4, 10, "auto"])
def test_reconstructions_are_of_the_nearest_codewords(m, nbits, rng):
    X = rng.standard_normal((1000, 10)).astype(np.float32)
    index = make(nlist=5, m=m, nbits=nbits).fit(X)
    assert index.codebooks_.shape[:2] == (index.m_, 2**nbits)
    centroids = index.cluster_centers_
    expected = reference.quantize(X, centroids, index.codebooks_)
    found = index.reconstruct(np.arange(1000))
    # In float32 two codewords may be equally near.
    errors, expected_errors = (
        ((X - decoded) ** 2).sum(axis=1) for decoded in (found, expected)
    )
    assert_allclose(errors, expected_errors, rtol=1e-4, atol=1e-6)
    assert (np.abs(found - expected).max(axis=1) < 1e-5).mean() > 0.99
    assert_allclose(index.reconstruction_error_, errors.mean(), rtol=1e-5)


def test_more_bits_and_more_parts_lose_less(rng):
    X = rng.standard_normal((2000, 16)).astype(np.float32)
    losses = [
        make(nlist=5, m=m, nbits=nbits).fit(X).reconstruction_error_
        for m, nbits in ((2, 4), (2, 6), (4, 6), (8, 6), (8, 8))
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] / 4


@pytest.mark.parametrize("store_vectors", [False, True])
def test_parts_that_do_not_divide_the_features(store_vectors, rng):
    X = rng.standard_normal((500, 10)).astype(np.float32)
    index = make(nlist=2, m=4, store_vectors=store_vectors).fit(X)
    # Parts of 3 features: the last has one.
    assert (index.m_, index.codebooks_.shape[2]) == (4, 3)
    assert make(nlist=2, m=7).fit(X).m_ == 5
    assert not index.codebooks_[3, :, 1:].any()


@pytest.mark.parametrize("n_queries", [1, 2, 50])
def test_answers_do_not_depend_on_batch_or_threads(n_queries, split_work, rng):
    X = rng.standard_normal((3000, 8)).astype(np.float32)
    Q = rng.standard_normal((50, 8)).astype(np.float32)
    index = make(nlist=20, nprobe=4, m=4).fit(X)
    expected = index.kneighbors(Q)
    for n_jobs in (1, 2, 5):
        index.set_params(n_jobs=n_jobs)
        parts = [
            index.kneighbors(Q[at : at + n_queries]) for at in range(0, 50, n_queries)
        ]
        for found, wanted in zip(zip(*parts, strict=True), expected, strict=True):
            assert_array_equal(np.vstack(found), wanted)


def test_lists_of_candidates_limit_the_queries_of_a_block(rng, monkeypatch):
    n_queries, scan = [], _ivf_pq._scan_block

    def spy(start, stop, *args):
        n_queries.append(stop - start)
        scan(start, stop, *args)

    monkeypatch.setattr(_ivf_pq, "_scan_block", spy)
    X = rng.standard_normal((2500, 4)).astype(np.float32)
    index = make(nlist=2, nprobe=2, m=1).fit(X)
    n_queries.clear()
    index.kneighbors(X, 2)
    assert (len(n_queries), sum(n_queries)) == (2, 2500)
    n_queries.clear()
    index.kneighbors(X[:500], 2000)
    assert sum(n_queries) == 500
    # A value and a position for each candidate, and there is room for k at least.
    assert max(n_queries) * 2000 * 16 < 2**23


@pytest.mark.parametrize("n_jobs", [2, 3])
def test_training_does_not_depend_on_threads(n_jobs, split_work, rng):
    X = rng.standard_normal((3000, 8)).astype(np.float32)
    one, other = (make(nlist=8, m=4, n_jobs=n).fit(X) for n in (1, n_jobs))
    assert_array_equal(one.codebooks_, other.codebooks_)
    assert_array_equal(
        one.reconstruct(np.arange(3000)), other.reconstruct(np.arange(3000))
    )


def test_k_is_always_delivered(rng):
    X = rng.standard_normal((1000, 6))
    ids = make(nlist=50, nprobe=1, m=2).fit(X).kneighbors(X[:80], 200, False)
    assert ids.min() >= 0
    assert all(len(np.unique(row)) == 200 for row in ids)


# -- refinement ----------------------------------------------------------------------


def test_refining_everything_is_exact_in_the_lists(rng):
    X = rng.standard_normal((800, 6)).astype(np.float32)
    Q = rng.standard_normal((20, 6)).astype(np.float32)
    index = make(nlist=10, nprobe=10, m=2, store_vectors=True, refine_factor=800)
    expected = FlatL2Neighbors(metric="sqeuclidean").fit(X).kneighbors(Q)
    for found, wanted in zip(index.fit(X).kneighbors(Q), expected, strict=True):
        assert_array_equal(found, wanted)


def test_refining_raises_the_recall_and_measures_exactly(rng):
    X = rng.standard_normal((4000, 16)).astype(np.float32)
    Q = rng.standard_normal((100, 16)).astype(np.float32)
    _, expected = reference.knn_of_many(Q, X, 10)
    index = make(n_neighbors=10, nlist=10, nprobe=10, m=4, store_vectors=True).fit(X)
    recalls = []
    for factor in (1, 2, 5, 20):
        sqdists, ids = index.set_params(refine_factor=factor).kneighbors(Q)
        hits = [len(np.intersect1d(*pair)) for pair in zip(ids, expected, strict=True)]
        recalls.append(np.mean(hits) / 10)
        if factor > 1:
            exact = ((Q[:, None].astype(np.float64) - X[ids]) ** 2).sum(axis=2)
            assert_allclose(sqdists, exact, rtol=1e-12)
    assert recalls == sorted(recalls)
    assert recalls[0] < 0.8 < 0.95 < recalls[-1]


def test_refining_without_vectors_is_an_error(rng):
    X = rng.standard_normal((300, 4))
    with pytest.raises(ValueError, match="store_vectors=True"):
        make(nlist=2, m=2, refine_factor=2).fit(X)
    index = make(nlist=2, m=2).fit(X).set_params(refine_factor=2)
    with pytest.raises(ValueError, match="store_vectors=True"):
        index.kneighbors(X[:1])
    assert len(index.set_params(refine_factor=1).kneighbors(X[:1])[0]) == 1
    for bad, error in ((0, ValueError), (1.5, TypeError), ("2", TypeError)):
        with pytest.raises(error, match="refine_factor"):
            index.set_params(refine_factor=bad).kneighbors(X[:1])


# -- the rows themselves -------------------------------------------------------------


@pytest.mark.parametrize("store_vectors", [False, True])
def test_a_row_is_not_its_own_neighbour(store_vectors, rng):
    X = rng.standard_normal((600, 8)).astype(np.float32)
    index = make(nlist=4, nprobe=2, m=2, nbits=4, store_vectors=store_vectors)
    ids = index.fit(X).kneighbors(return_distance=False)
    assert ids.shape == (600, 5)
    assert (ids != np.arange(600)[:, None]).all()


@pytest.mark.parametrize("mode", ["distance", "connectivity"])
@pytest.mark.parametrize("refine_factor", [1, 3])
def test_fit_transform_is_transform_of_the_same_rows(mode, refine_factor, rng):
    X = rng.standard_normal((600, 8)).astype(np.float32)
    codes = {"nlist": 4, "nprobe": 2, "m": 2, "nbits": 4, "mode": mode}
    index = make(**codes, store_vectors=True, refine_factor=refine_factor)
    graph = index.fit_transform(X)
    expected = make(**codes, store_vectors=True, refine_factor=refine_factor)
    expected = expected.fit(X).transform(X)
    for name in ("data", "indices", "indptr"):
        assert_array_equal(getattr(graph, name), getattr(expected, name))
    if mode == "distance" and refine_factor == 1:
        assert (graph.data > 0).all()


def decoded_at_a_time(monkeypatch):
    """How many rows each call decodes from now on."""
    counts = []

    def spy(positions, index):
        counts.append(len(positions))
        return decode_rows(positions, index)

    decode_rows = _cpu.decode_rows
    monkeypatch.setattr(_cpu, "decode_rows", spy)
    return counts


SEARCHES_OF_ALL_ROWS = pytest.mark.parametrize(
    "search",
    [
        lambda index: index.kneighbors()[1],
        lambda index: index.kneighbors_graph().indices,
        lambda index: np.concatenate(index.radius_neighbors(radius=2.0)[1]),
        lambda index: index.radius_neighbors_graph(radius=2.0).indices,
    ],
    ids=["kneighbors", "kneighbors_graph", "radius_neighbors", "radius_graph"],
)


@SEARCHES_OF_ALL_ROWS
def test_rows_are_decoded_some_at_a_time(search, monkeypatch, rng):
    X = rng.standard_normal((600, 8)).astype(np.float32)
    index = make(nlist=4, nprobe=2, m=2).fit(X)
    expected = search(index)
    monkeypatch.setattr(_blocks, "_BLOCK_BYTES", 8 * 8 * 100)
    counts = decoded_at_a_time(monkeypatch)
    assert_array_equal(search(index), expected)
    assert counts == [100] * 6


def test_so_many_rows_are_decoded_as_take_less_than_most_indexes(monkeypatch, rng):
    X = rng.standard_normal((3000, 3072)).astype(np.float32)
    index = make(nlist=1, m=1, nbits=4).fit(X)
    counts = decoded_at_a_time(monkeypatch)
    index.kneighbors(n_neighbors=1)
    assert sum(counts) == 3000
    assert max(counts) * 3072 * 8 <= 2**25


@SEARCHES_OF_ALL_ROWS
def test_stored_vectors_are_searched_instead_of_decoded_ones(search, monkeypatch, rng):
    X = rng.standard_normal((300, 8)).astype(np.float32)
    index = make(nlist=4, nprobe=2, m=2, store_vectors=True).fit(X)
    counts = decoded_at_a_time(monkeypatch)
    assert len(search(index)) > 0
    assert counts == []


def test_radius_neighbors_are_the_reconstructions_within_it(rng):
    X = rng.standard_normal((500, 5)).astype(np.float32)
    Q = rng.standard_normal((20, 5)).astype(np.float32)
    index = make(nlist=6, nprobe=6, m=2).fit(X)
    decoded = decode(index)
    found = index.radius_neighbors(Q, 4.0)
    for sqdists, ids, wanted in zip(
        *found, reference.radius(Q, decoded, 4.0), strict=True
    ):
        assert_array_equal(ids, wanted[1])
        assert_allclose(sqdists, wanted[0], rtol=1e-12)


# -- growing, saving -----------------------------------------------------------------


@pytest.mark.parametrize("store_vectors", [False, True])
def test_added_rows_are_found_like_fitted_ones(store_vectors, rng):
    X = rng.standard_normal((900, 6)).astype(np.float32)
    index = make(nlist=6, nprobe=2, m=3, store_vectors=store_vectors)
    index.set_params(refine_factor=1).fit(X[:500])
    for at in (500, 501, 600):
        index.partial_fit(X[at : {500: 501, 501: 600, 600: 900}[at]])
    assert (index.ntotal, index.list_sizes_.sum()) == (900, 900)
    assert_answers_the_oracle(index, X[:40], X, 7)


@pytest.mark.parametrize("at_fit", [False, True])
def test_vectors_are_stored_of_all_rows_or_of_none(at_fit, rng):
    X = rng.standard_normal((600, 6))
    index = make(nlist=4, m=3, store_vectors=at_fit).fit(X[:400])
    index.set_params(store_vectors=not at_fit).partial_fit(X[400:])
    index.set_params(refine_factor=50, nprobe=4)
    if at_fit:
        assert_array_equal(index.kneighbors(X, 1, False).ravel(), np.arange(600))
    else:
        with pytest.raises(ValueError, match="store_vectors=True"):
            index.kneighbors(X)


def test_a_saved_index_gives_the_same_answers(rng):
    X = rng.standard_normal((600, 6)).astype(np.float32)
    index = make(nlist=4, m=3).fit(X)
    loaded = pickle.loads(pickle.dumps(index))
    for found, wanted in zip(loaded.kneighbors(X), index.kneighbors(X), strict=True):
        assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("m", "nbits", "code_bytes"), [(4, 8, 4), (4, 4, 2), (5, 4, 3), (4, 5, 4)]
)
def test_codes_take_the_bytes_they_say(m, nbits, code_bytes, rng):
    X = rng.standard_normal((64 * 200, 20)).astype(np.float32)
    index = make(nlist=1, m=m, nbits=nbits).fit(X)
    assert index.m_ == m
    size = len(pickle.dumps(index, protocol=5))
    arranged = 4 * 256 * (2 * 24 + 6)
    fixed = index.codebooks_.nbytes + arranged + index.cluster_centers_.nbytes
    assert len(X) * (code_bytes + 4 + 4) < size
    assert size < len(X) * (code_bytes + 4 + 4) + fixed + 8_000


def test_vectors_that_are_not_stored_are_let_go(rng):
    X = rng.standard_normal((300, 20)).astype(np.float32)
    index, vectors = make(nlist=2, m=4).fit(X), weakref.ref(X)
    del X
    gc.collect()
    assert vectors() is None
    assert index.ntotal == 300


@pytest.mark.parametrize(("nbits", "m"), [(8, 3), (6, 3), (4, 5)])
def test_auto_spends_a_byte_on_eight_features(nbits, m, rng):
    X = rng.standard_normal((400, 20)).astype(np.float32)
    assert make(nlist=1, m="auto", nbits=nbits).fit(X).m_ == m


# scikit-learn adds the queries up to find NaN.
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("nbits", [4, 8])
@pytest.mark.parametrize(
    "scale, dtype",
    [(s, t) for s in [1e3, 1e13, 1e15, 1e34, 1e36, 5e37] for t in "fd"]
    + [(1e40, "d"), (1e160, "d")],
)
def test_answers_are_exact_for_queries_far_away(scale, nbits, dtype, rng):
    X = rng.standard_normal((2000, 16)).astype(dtype)
    Q = (scale * rng.uniform(-3, 3, (40, 16))).astype(dtype)
    index = make(nlist=10, nprobe=10, m=4, nbits=nbits).fit(X)
    assert_nearest_of_all(index, Q)


@pytest.mark.parametrize("nbits", [4, 8])
@pytest.mark.parametrize("offset", [1e8, 1e12, 1e13, 1e14, 1e15])
def test_answers_are_exact_where_decoding_rounds(offset, nbits, rng):
    X, Q = (offset + rng.standard_normal((n, 8)) for n in (1500, 100))
    index = make(nlist=3, nprobe=3, m=4, nbits=nbits).fit(X)
    assert_nearest_of_all(index, Q)


# -- bad input -----------------------------------------------------------------------


def test_more_parts_than_features_are_an_error():
    with pytest.raises(ValueError, match="m=5 is more than the 4 features"):
        make(m=5, nlist=1).fit(np.eye(4))


def test_too_many_parts_for_sums_of_16_bits_are_an_error():
    with pytest.raises(ValueError, match="20000 parts are too many") as info:
        choose_parts(20000, 20000, 8)
    assert "Use m=16384 or less" in str(info.value)
    assert choose_parts(2**14, 2**14, 8) == (2**14, 1)


@pytest.mark.parametrize("nbits", [4, 8])
@pytest.mark.parametrize("d", [1, 7, 2**14, 2**16, 2**17, 200_000, 10**6])
def test_auto_never_chooses_too_many_parts(nbits, d):
    n_parts, dsub = choose_parts(d, "auto", nbits)
    assert n_parts <= 2**14
    assert (n_parts - 1) * dsub < d <= n_parts * dsub
    if d <= 2**16:
        assert dsub == min(d, 4 if nbits == 4 else 8)


@pytest.mark.parametrize("nbits", [0, 3, 9, 8.0])
def test_other_numbers_of_bits_are_an_error(nbits):
    with pytest.raises(ValueError, match="nbits"):
        make(nbits=nbits).fit(np.eye(4))


@pytest.mark.filterwarnings("default::sklearn_ann.exceptions.FewTrainingRowsWarning")
def test_fewer_rows_than_codewords_warn_and_are_kept_exactly(rng):
    X = rng.standard_normal((50, 6))
    with pytest.warns(FewTrainingRowsWarning, match="nbits=8 .* 50 rows") as caught:
        index = make(nlist=1, m=2).fit(X)
    assert caught[0].filename == __file__
    assert_allclose(index.reconstruct(np.arange(50)), X, atol=1e-6)
    assert_array_equal(index.kneighbors(X, 1, False).ravel(), np.arange(50))


def test_vectors_beyond_float32_are_an_error():
    X = 1e30 * np.random.default_rng(0).standard_normal((400, 4))
    with pytest.raises(ValueError, match="scale"):
        make(nlist=1, m=2).fit(X)


def test_queries_that_are_not_finite(rng):
    index = make(nlist=3, nprobe=2, m=2).fit(rng.standard_normal((400, 4)))
    Q = rng.standard_normal((3, 4))
    Q[0, 1], Q[2, 3] = np.nan, np.inf
    with pytest.raises(ValueError, match="NaN"):
        index.kneighbors(Q)
    with config_context(assume_finite=True):
        for search in (index.kneighbors, index.transform):
            with pytest.raises(ValueError, match=r"Row 0 of X has no . neighbors"):
                search(Q)


def test_lists_are_those_of_ivf_flat(rng):
    X = rng.standard_normal((1000, 6))
    parameters = {"nlist": 8, "random_state": 3}
    index = IVFPQNeighbors(**parameters).fit(X)
    expected = IVFFlatNeighbors(**parameters).fit(X)
    assert_array_equal(index.cluster_centers_, expected.cluster_centers_)
    assert_array_equal(index.list_sizes_, expected.list_sizes_)
