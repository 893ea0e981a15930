"""Estimators made of indexes of Faiss find the same neighbours."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from sklearn_ann import (
    FlatL2Neighbors,
    IVFFlatNeighbors,
    IVFPQNeighbors,
    from_faiss,
)

faiss = pytest.importorskip("faiss", reason="compares with Faiss")

NLIST = 25


@pytest.fixture
def X(rng):
    return rng.standard_normal((3000, 12)).astype(np.float32)


@pytest.fixture
def Q(rng):
    return rng.standard_normal((70, 12)).astype(np.float32)


@pytest.fixture
def flat(X):
    index = faiss.IndexFlatL2(12)
    index.add(X)
    return index


@pytest.fixture
def ivf(X):
    quantizer = faiss.IndexFlatL2(12)
    index = faiss.IndexIVFFlat(quantizer, 12, NLIST)
    index.train(X)
    index.add(X)
    return index


def test_a_flat_index_finds_the_same(flat, X, Q):
    estimator = from_faiss(flat, n_neighbors=9)
    assert type(estimator) is FlatL2Neighbors
    sqdists, ids = estimator.kneighbors(Q)
    expected_sqdists, expected_ids = flat.search(Q, 9)
    assert_array_equal(ids, expected_ids)
    assert_allclose(sqdists, expected_sqdists, rtol=1e-4)
    assert_array_equal(estimator.reconstruct(range(3000)), X)


@pytest.mark.parametrize("nprobe", range(1, NLIST + 1))
def test_lists_find_the_same_for_every_nprobe(nprobe, ivf, Q):
    ivf.nprobe = nprobe
    estimator = from_faiss(ivf)
    expected_sqdists, expected_ids = ivf.search(Q, 10)
    # A list has about 120 rows, so that Faiss finds 10 in the nearest.
    assert expected_ids.min() >= 0
    for batch in (Q, Q[:1]):
        sqdists, ids = estimator.kneighbors(batch, 10)
        assert_array_equal(ids, expected_ids[: len(batch)])
        assert_allclose(sqdists, expected_sqdists[: len(batch)], rtol=1e-4)


def test_the_lists_are_the_same(ivf, X):
    estimator = from_faiss(ivf, n_neighbors=4)
    assert type(estimator) is IVFFlatNeighbors
    assert estimator.metric == "sqeuclidean"
    assert estimator.nlist == estimator.nlist_ == NLIST
    assert estimator.nprobe == ivf.nprobe
    assert estimator.n_neighbors == 4
    sizes = [ivf.invlists.list_size(number) for number in range(NLIST)]
    assert_array_equal(estimator.list_sizes_, sizes)
    imbalance = ivf.invlists.imbalance_factor()
    assert estimator.imbalance_factor_ == pytest.approx(imbalance)
    centroids = ivf.quantizer.reconstruct_n(0, NLIST)
    assert_array_equal(estimator.cluster_centers_, centroids, strict=True)
    assert_array_equal(estimator.reconstruct(range(3000)), X, strict=True)
    assert estimator.ntotal == ivf.ntotal


def test_hits_within_a_radius_are_the_same(ivf, Q):
    ivf.nprobe = 5
    limits, sqdists, ids = ivf.range_search(Q, 12.0)
    found_sqdists, found_ids = from_faiss(ivf).radius_neighbors(Q, 12.0)
    assert len(ids) > 100
    for i in range(len(Q)):
        hits = slice(limits[i], limits[i + 1])
        order = np.argsort(ids[hits])
        assert_array_equal(found_ids[i], ids[hits][order])
        assert_allclose(found_sqdists[i], sqdists[hits][order], rtol=1e-4)


def test_rows_that_are_added_go_to_the_same_lists(ivf, Q, rng):
    more = rng.standard_normal((500, 12)).astype(np.float32)
    estimator = from_faiss(ivf, nprobe=2).partial_fit(more)
    ivf.add(more)
    ivf.nprobe = 2
    assert_array_equal(estimator.kneighbors(Q, 10)[1], ivf.search(Q, 10)[1])


def test_other_vectors_can_be_given(ivf, flat, Q):
    ivf.reset()
    estimator = from_faiss(ivf, Q.astype(np.float64), nprobe=NLIST)
    assert estimator.ntotal == 70
    assert estimator.reconstruct(0).dtype == np.float64
    expected = FlatL2Neighbors(metric="sqeuclidean").fit(Q.astype(np.float64))
    for found, wanted in zip(
        estimator.kneighbors(Q), expected.kneighbors(Q), strict=True
    ):
        assert_array_equal(found, wanted)
    assert_array_equal(from_faiss(flat, Q).reconstruct(range(70)), Q)


def test_a_clone_or_another_fit_keeps_the_centroids(ivf, X, Q, rng):
    estimator = from_faiss(ivf, nprobe=4)
    assert (estimator.max_iter, estimator.n_iter_, estimator.nlist) == (0, 0, NLIST)
    centroids = estimator.cluster_centers_
    assert_array_equal(estimator.init, centroids, strict=True)
    expected = estimator.kneighbors(Q)
    for found, wanted in zip(
        clone(estimator).fit(X).kneighbors(Q), expected, strict=True
    ):
        assert_array_equal(found, wanted)
    others = rng.standard_normal((20, 12)).astype(np.float32)
    estimator.fit(others)
    assert_array_equal(estimator.cluster_centers_, centroids, strict=True)
    assert_array_equal(estimator.reconstruct(range(20)), others)
    estimator.set_params(max_iter=1).fit(X)
    assert not np.array_equal(estimator.cluster_centers_, centroids)


# -- codes ---------------------------------------------------------------------------


def make_pq(X, m, nbits, nlist=NLIST):
    d = X.shape[1]
    index = faiss.IndexIVFPQ(faiss.IndexFlatL2(d), d, nlist, m, nbits)
    index.train(X)
    index.add(X)
    return index


@pytest.mark.parametrize(
    ("m", "nbits"), [(6, 8), (4, 7), (12, 5), (6, 4), (3, 4), (1, 4)]
)
def test_codes_find_the_same_for_every_nprobe(m, nbits, X, Q):
    index = make_pq(X, m, nbits)
    estimator = from_faiss(index)
    assert type(estimator) is IVFPQNeighbors
    assert (estimator.m_, estimator.nbits, estimator.nprobe) == (m, nbits, 1)
    decoded = index.reconstruct_n(0, 3000)
    assert_allclose(estimator.reconstruct(range(3000)), decoded, atol=1e-6)
    for nprobe in range(1, NLIST + 1):
        index.nprobe = nprobe
        estimator.set_params(nprobe=nprobe)
        expected_sqdists, expected_ids = index.search(Q, 10)
        assert expected_ids.min() >= 0
        for batch in (Q, Q[:1]):
            sqdists, ids = estimator.kneighbors(batch, 10)
            expected = expected_sqdists[: len(batch)]
            assert_allclose(sqdists, expected, rtol=1e-4, atol=1e-5)
            # Rows with the same codes are equally near.
            other = ids != expected_ids[: len(batch)]
            measured = ((batch[:, None] - decoded[ids]) ** 2).sum(axis=2)
            assert_allclose(measured[other], expected[other], rtol=1e-4, atol=1e-5)
            assert other.mean() < (0.02 if m * nbits > 12 else 0.9)


def test_codes_are_in_the_same_lists(X):
    index = make_pq(X, 4, 8, nlist=100)
    index.reset()
    index.add(X[:100])
    estimator = from_faiss(index, n_jobs=1)
    sizes = [index.invlists.list_size(label) for label in range(100)]
    assert min(sizes) == 0  # a list may be empty
    assert_array_equal(estimator.list_sizes_, sizes)
    codewords = faiss.vector_to_array(index.pq.centroids).reshape(4, 256, 3)
    assert_array_equal(estimator.codebooks_, codewords, strict=True)
    assert estimator.ntotal == estimator.n_samples_fit_ == 100
    assert estimator.n_features_in_ == 12
    assert not hasattr(estimator, "reconstruction_error_")


@pytest.mark.parametrize("nbits", [4, 8])
def test_rows_are_added_to_codes_with_the_same_codebooks(nbits, X, Q):
    index = make_pq(X, 6, nbits)
    estimator = from_faiss(index).partial_fit(Q)
    index.add(Q)
    decoded = estimator.reconstruct(range(3070))
    assert_allclose(decoded, index.reconstruct_n(0, 3070), atol=1e-6)


@pytest.mark.parametrize(("m", "nbits"), [(6, 8), (4, 5), (3, 4)])
def test_codes_that_are_taken_over_are_those_of_a_fit(m, nbits, X, Q):
    estimator = from_faiss(make_pq(X, m, nbits), n_jobs=1)
    before = vars(estimator).copy()
    again = clone(estimator).fit(X)
    assert vars(again).keys() - before.keys() == {"reconstruction_error_"}
    assert_array_equal(again.cluster_centers_, estimator.cluster_centers_, strict=True)
    assert_array_equal(again.codebooks_, estimator.codebooks_, strict=True)
    assert_array_equal(again.list_sizes_, estimator.list_sizes_)
    # Here and there a row is halfway between two codewords in float32.
    rows = np.arange(len(X))
    is_same = again.reconstruct(rows) == estimator.reconstruct(rows)
    assert is_same.all(axis=1).mean() > 0.99
    # The array of the parameter is not that of the index.
    estimator.init[:], estimator.codebooks[:] = 0, 0
    assert estimator.cluster_centers_.any() and estimator.codebooks_.any()
    loaded = pickle.loads(pickle.dumps(estimator))
    for found, wanted in zip(
        loaded.kneighbors(Q), estimator.kneighbors(Q), strict=True
    ):
        assert_array_equal(found, wanted)


def test_recall_is_measured_where_there_are_vectors(X, Q):
    index = make_pq(X, 6, 8)
    index.nprobe = 7
    codes = from_faiss(index)
    assert (codes.nprobe_, codes.refine_factor_) == (7, 1)
    assert np.isnan(codes.recall_)
    assert codes.summary().splitlines()[-1].split() == ["recall_:", "not", "measured"]
    vectors = from_faiss(index, X, target_recall=0.9, store_vectors=True, nprobe="auto")
    assert vectors.recall_ >= 0.9


def test_parameters_are_checked_when_codes_are_taken_over(X):
    index = make_pq(X, 6, 4)
    for name, value in {"nprobe": 0, "n_jobs": "all", "verbose": "no"}.items():
        with pytest.raises(ValueError, match=f"'{name}' parameter of IVFPQNeighbors"):
            from_faiss(index, **{name: value})


def test_codes_are_taken_over_without_the_gpu_that_searches_them(X):
    assert from_faiss(make_pq(X, 6, 4), device="cuda:7").ntotal == 3000


def test_vectors_can_be_given_for_codes(X, Q):
    index = make_pq(X, 6, 8)
    estimator = from_faiss(index, X, store_vectors=True, refine_factor=20, nprobe=25)
    assert_array_equal(estimator.kneighbors(X[:50], 1)[1][:, 0], range(50))
    assert_array_equal(estimator.codebooks_, from_faiss(index).codebooks_)
    assert estimator.reconstruction_error_ > 0
    index.reset()
    assert from_faiss(index, Q).ntotal == 70


def test_codes_that_cannot_be_searched_are_refused(X):
    with pytest.raises(ValueError, match="10 bits"):
        from_faiss(make_pq(X, 2, 10, nlist=2))
    index = make_pq(X, 6, 4)
    with pytest.raises(ValueError, match="give the vectors to store as X"):
        from_faiss(index, store_vectors=True)
    with pytest.raises(ValueError, match="give the vectors as X, or nprobe"):
        from_faiss(index, nprobe="auto")
    for name in ("nlist", "m", "nbits", "init", "codebooks", "max_iter"):
        with pytest.raises(TypeError, match=f"{name} comes from the index"):
            from_faiss(index, **{name: 4})
    with pytest.raises(ValueError, match=r"cosine.*fit IVFPQNeighbors"):
        from_faiss(index, metric="cosine")
    with pytest.raises(ValueError, match="12"):
        from_faiss(index, X[:, :11])
    index.by_residual = False
    with pytest.raises(ValueError, match="by_residual"):
        from_faiss(index)


def test_too_many_parts_are_refused(rng):
    wide = rng.standard_normal((30, 2**14 + 1)).astype(np.float32)
    with pytest.raises(ValueError, match="16385 parts are too many"):
        from_faiss(make_pq(wide, 2**14 + 1, 4, nlist=1))


def test_parameters_that_are_given_win(ivf, flat, Q):
    estimator = from_faiss(ivf, metric="euclidean", nprobe=3, n_jobs=1)
    assert estimator.get_params()["nprobe"] == 3
    assert estimator.n_jobs == 1
    ivf.nprobe = 3
    distances, _ = estimator.kneighbors(Q)
    assert_allclose(distances**2, ivf.search(Q, 5)[0], rtol=1e-4)
    assert from_faiss(flat, metric="euclidean").effective_metric_ == "euclidean"
    with pytest.raises(TypeError, match="unexpected keyword"):
        from_faiss(ivf, quantizer=None)
    with pytest.raises(ValueError, match="'nprobe' parameter of IVFFlatNeighbors"):
        from_faiss(ivf, nprobe=0)


def test_the_index_is_only_read(ivf, X, Q):
    expected = ivf.search(Q, 5)
    estimator = from_faiss(ivf).partial_fit(Q)
    assert ivf.ntotal == 3000
    assert not np.shares_memory(estimator.cluster_centers_, X)
    for found, wanted in zip(ivf.search(Q, 5), expected, strict=True):
        assert_array_equal(found, wanted)


def test_the_estimator_outlives_the_index(ivf, X, Q):
    ivf.nprobe = 4
    expected = ivf.search(Q, 5)[1]
    estimator = from_faiss(ivf)
    ivf.reset()
    assert_array_equal(estimator.kneighbors(Q)[1], expected)


# -- errors --------------------------------------------------------------------------


def test_another_kind_of_index_is_refused(X):
    for index in (
        faiss.IndexHNSWFlat(12, 8),
        faiss.index_factory(12, "IVF4,SQ8"),
        faiss.index_factory(12, "IVF4,PQ4x4fs"),
        faiss.IndexIDMap(faiss.IndexFlatL2(12)),
        "IVF4,Flat",
    ):
        with pytest.raises(TypeError, match=f"estimator of {type(index).__name__}"):
            from_faiss(index)


@pytest.mark.parametrize("kind", ["Flat", "IVF4,Flat"])
def test_another_metric_is_refused(kind, X):
    index = faiss.index_factory(12, kind, faiss.METRIC_INNER_PRODUCT)
    index.train(X)
    index.add(X)
    with pytest.raises(ValueError, match="must have the L2 metric"):
        from_faiss(index)


def test_an_index_that_is_not_trained_is_refused(X):
    index = faiss.index_factory(12, "IVF4,Flat")
    for vectors in (None, X):
        with pytest.raises(ValueError, match="not trained"):
            from_faiss(index, vectors)


def test_an_index_without_vectors_is_refused(ivf, flat):
    for index in (ivf, flat):
        index.reset()
        with pytest.raises(ValueError, match="holds no vectors"):
            from_faiss(index)


@pytest.mark.parametrize(
    ("bad", "message"),
    [(np.ones((9, 12)) * np.nan, "NaN"), (np.ones((0, 12)), "0 sample")],
    ids=["NaN", "empty"],
)
def test_bad_vectors_are_refused(bad, message, ivf):
    with pytest.raises(ValueError, match=message):
        from_faiss(ivf, bad)


@pytest.mark.parametrize("width", [11, 13])
def test_vectors_of_another_width_are_refused(width, ivf, rng):
    with pytest.raises(ValueError, match="12"):
        from_faiss(ivf, rng.standard_normal((100, width)))


def test_the_cosine_is_refused(ivf):
    with pytest.raises(ValueError, match="cosine"):
        from_faiss(ivf, metric="cosine")


@pytest.mark.parametrize("ids", [[0, 1, 2, 7, 3], [0, 2, 4, 6, 8]], ids=str)
def test_vectors_with_other_numbers_are_refused(ids, ivf, rng):
    ivf.reset()
    ivf.add_with_ids(rng.standard_normal((5, 12)).astype(np.float32), np.array(ids))
    with pytest.raises(ValueError, match="add_with_ids"):
        from_faiss(ivf)


def test_another_nlist_is_refused(ivf):
    with pytest.raises(TypeError, match="nlist"):
        from_faiss(ivf, nlist=7)


def test_an_index_that_transforms_its_vectors_is_an_error(Q):
    index = faiss.IndexPreTransform(faiss.PCAMatrix(12, 5), faiss.IndexFlatL2(5))
    index.train(Q)
    index.add(Q)
    with pytest.raises(TypeError, match=r"faiss.downcast_index\(index.index\)"):
        from_faiss(index)
    inner = from_faiss(faiss.downcast_index(index.index))
    assert inner.n_features_in_ == 5


def test_centroids_that_are_not_finite_are_an_error(Q):
    centroids = np.full((3, 12), np.nan, np.float32)
    quantizer = faiss.IndexFlatL2(12)
    quantizer.add(centroids)
    index = faiss.IndexIVFFlat(quantizer, 12, 3)
    index.is_trained = True
    with pytest.raises(ValueError, match="centroids of the index are not finite"):
        from_faiss(index, Q)
