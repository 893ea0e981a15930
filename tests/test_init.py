"""Given centroids and codebooks: where k-means starts, or all that there is."""

import pickle

import numpy as np
import pandas as pd
import pytest
import reference
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from sklearn_ann import IVFFlatNeighbors, IVFPQNeighbors
from sklearn_ann.exceptions import FewTrainingRowsWarning

BOTH = pytest.mark.parametrize("make", [IVFFlatNeighbors, IVFPQNeighbors])
METRICS = pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "cosine"])
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.fixture
def X(rng):
    return rng.standard_normal((600, 10))


@pytest.fixture
def centroids(rng):
    return rng.standard_normal((7, 10))


def assert_same_index(found, expected):
    """All arrays are equal, bit by bit, however deep."""
    assert type(found) is type(expected)
    for name, wanted in expected._asdict().items():
        value = getattr(found, name)
        if isinstance(wanted, tuple):
            assert_same_index(value, wanted)
        else:
            assert_array_equal(value, wanted, strict=True)


# -- centroids -----------------------------------------------------------------------


@DTYPES
@pytest.mark.parametrize("form", [np.asarray, np.asfortranarray, list, pd.DataFrame])
def test_given_centroids_are_used_as_they_are(dtype, form, X, centroids):
    X = X.astype(dtype)
    index = IVFFlatNeighbors(3, nprobe=2, init=form(centroids), max_iter=0).fit(X)
    expected = centroids.astype(dtype)
    assert_array_equal(index.cluster_centers_, expected, strict=True)
    assert (index.nlist_, index.n_iter_) == (7, 0)
    labels = reference.nearest_centroids(X, expected)
    assert_array_equal(index.list_sizes_, np.bincount(labels, minlength=7))
    assert_array_equal(
        index.kneighbors(X[:9])[1], reference.ivf_knn(X[:9], X, expected, 2, 3)[1]
    )


@pytest.mark.parametrize("max_iter", [1, 3])
@pytest.mark.parametrize("nlist", [1, 7])
def test_k_means_starts_from_given_centroids(max_iter, nlist, X, centroids):
    # All of them are trained on.
    X, centroids = X[: 256 * nlist], centroids[:nlist]
    index = IVFFlatNeighbors(init=centroids, max_iter=max_iter).fit(X)
    centroids = reference.lloyd(X, centroids, max_iter)
    assert_allclose(index.cluster_centers_, centroids, rtol=1e-9)
    assert index.n_iter_ == (max_iter if nlist > 1 else 1)


@METRICS
def test_without_iterations_the_drawn_rows_are_the_centroids(metric, X):
    parameters = {"random_state": 3, "metric": metric}
    drawn = IVFFlatNeighbors(nlist=6, max_iter=0, **parameters).fit(X)
    assert drawn.n_iter_ == 0
    rows = drawn.reconstruct(range(600))
    is_row = (drawn.cluster_centers_[:, None, :10] == rows).all(axis=2)
    assert_array_equal(is_row.sum(axis=1), 1)
    assert is_row.any(axis=0).sum() == 6


@BOTH
@METRICS
def test_k_means_goes_on_from_the_drawn_rows(make, metric, X):
    parameters = {"random_state": 3, "metric": metric}
    trained = make(nlist=6, **parameters).fit(X)
    drawn = make(nlist=6, max_iter=0, **parameters).fit(X)
    again = make(init=drawn.cluster_centers_, **parameters).fit(X)
    assert again.n_iter_ == trained.n_iter_ > 1
    assert_same_index(again._index, trained._index)


def test_without_iterations_few_rows_are_enough(X, centroids):
    # Warnings are errors here.
    for n in (5, 6):
        index = IVFFlatNeighbors(2, nlist=5, max_iter=0, random_state=0).fit(X[:n])
        assert index.nlist_ == 5
    with pytest.raises(ValueError, match="n_samples=4 should be >= nlist=5"):
        IVFFlatNeighbors(nlist=5, max_iter=0).fit(X[:4])
    for n in (1, 3, 50):
        index = IVFFlatNeighbors(1, init=centroids, max_iter=0).fit(X[:n])
        assert (index.nlist_, index.list_sizes_.sum()) == (7, n)
    with pytest.raises(ValueError, match="n_samples=3 should be >= nlist=7"):
        IVFFlatNeighbors(init=centroids).fit(X[:3])
    with pytest.warns(FewTrainingRowsWarning, match="nlist=7"):
        IVFFlatNeighbors(init=centroids).fit(X[:50])


def test_centroids_of_the_width_of_the_data_are_treated_as_its_rows(X):
    index = IVFFlatNeighbors(3, nprobe=2, init=X[:7], max_iter=0, metric="cosine")
    index.fit(X)
    units = X[:7] / np.linalg.norm(X[:7], axis=1, keepdims=True)
    assert_allclose(index.cluster_centers_[:, :-1], units, rtol=1e-12)
    assert not index.cluster_centers_[:, -1].any()
    zeros = IVFFlatNeighbors(init=np.eye(10) - np.eye(10)[0], max_iter=0)
    zeros.set_params(metric="cosine").fit(X)
    assert_array_equal(zeros.cluster_centers_[0], [*[0] * 10, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda C: C[:, :9], "init has 9 features, but .* have 10"),
        (lambda C: np.hstack([C, C[:, :1]]), "init has 11 features, but .* have 10"),
        (lambda C: C[0], r"init must have the shape \(nlist, n_features\)"),
        (lambda C: C[None], r"init must have the shape .* Got \(1, 7, 10\)"),
        (lambda C: C[:0], r"init must have the shape .* Got \(0, 10\)"),
        (lambda C: [], r"init must have the shape .* Got \(0,\)"),
        (lambda C: np.where(C > 2, np.nan, C), "init contains NaN"),
        (lambda C: np.where(C > 2, np.inf, C), "init contains infinity"),
        (lambda C: 1e60 * C, "init contains infinity or a value too large"),
        (lambda C: np.ma.masked_greater(C, 1), "init has masked values"),
        (lambda C: np.char.add(C.astype(str), "x"), "could not convert|non-numeric"),
        (lambda C: C + 1j, "Complex data"),
        (lambda C: "k-means++", "'init' parameter of IVF"),
        (lambda C: 7, "'init' parameter of IVF"),
    ],
)
@BOTH
def test_other_centroids_are_refused(change, message, make, X, centroids):
    centroids[0, 0] = 3.0
    index = make(init=change(centroids), max_iter=0)
    with pytest.raises(ValueError, match=message):
        index.fit(X.astype(np.float32))
    assert not index.is_trained


def test_centroids_of_another_width_are_refused_for_the_cosine_too(X, centroids):
    index = IVFFlatNeighbors(init=centroids[:, :9], metric="cosine")
    with pytest.raises(ValueError, match=r"init has 9 features, but .* 10 or 11"):
        index.fit(X)


@BOTH
def test_the_number_of_lists_is_that_of_the_centroids(make, X, centroids):
    for nlist in ("auto", 7, np.int8(7)):
        assert make(nlist=nlist, init=centroids, max_iter=0).fit(X).nlist_ == 7
    message = "init has 7 centroids, but nlist=6. Use nlist=7, or nlist='auto'"
    with pytest.raises(ValueError, match=message):
        make(nlist=6, init=centroids, max_iter=0).fit(X)


def test_lists_that_auto_did_not_choose_do_not_outgrow(rng):
    X = rng.standard_normal((10_000, 2)).astype(np.float32)
    index = IVFFlatNeighbors(init=X[:1], max_iter=0).fit(X[:300])
    assert index.partial_fit(X).nlist_ == 1  # warnings are errors


@BOTH
def test_fewer_iterations_than_none_are_refused(make, X):
    with pytest.raises(ValueError, match="'max_iter' parameter"):
        make(max_iter=-1).fit(X)


# -- codebooks -----------------------------------------------------------------------


@METRICS
@DTYPES
@pytest.mark.parametrize("store_vectors", [False, True])
# Parts that do and do not divide the features; m_ smaller than m.
@pytest.mark.parametrize(
    ("m", "nbits"), [(5, 8), (4, 8), (7, 5), ("auto", 8), ("auto", 4), (3, 4)]
)
def test_centroids_and_codebooks_come_round(m, nbits, store_vectors, dtype, metric, X):
    parameters = {"metric": metric, "store_vectors": store_vectors, "nbits": nbits}
    X = X.astype(dtype)
    index = IVFPQNeighbors(nlist=4, m=m, random_state=0, **parameters).fit(X)
    given = {"init": index.cluster_centers_, "codebooks": index.codebooks_}
    for n_parts in {m, index.m_, "auto"}:
        again = IVFPQNeighbors(m=n_parts, max_iter=0, **given, **parameters).fit(X)
        assert_same_index(again._index, index._index)
        assert_array_equal(again.codebooks_, index.codebooks_, strict=True)
        assert again.reconstruction_error_ == index.reconstruction_error_
        assert again.m_ == index.m_


@METRICS
@DTYPES
def test_centroids_of_flat_lists_come_round(dtype, metric, X):
    X = X.astype(dtype)
    index = IVFFlatNeighbors(nlist=5, metric=metric, random_state=0).fit(X)
    again = IVFFlatNeighbors(init=index.cluster_centers_, max_iter=0, metric=metric)
    assert_same_index(again.fit(X)._index, index._index)


@pytest.mark.filterwarnings("ignore::sklearn_ann.exceptions.FewTrainingRowsWarning")
def test_fewer_codewords_than_bits_come_round(X):
    index = IVFPQNeighbors(nlist=1, m=2, random_state=0).fit(X[:50])
    assert index.codebooks_.shape == (2, 50, 5)
    again = IVFPQNeighbors(
        init=index.cluster_centers_, max_iter=0, codebooks=index.codebooks_
    )
    assert_same_index(again.fit(X[:50])._index, index._index)


def test_given_codebooks_are_used_as_they_are(X, centroids, rng):
    codebooks = rng.standard_normal((5, 16, 2))
    index = IVFPQNeighbors(init=centroids, max_iter=0, codebooks=codebooks, nbits=4)
    index.fit(X)
    codebooks = codebooks.astype(np.float32)
    assert_array_equal(index.codebooks_, codebooks, strict=True)
    assert index.m_ == 5
    expected = reference.quantize(X, centroids, codebooks)
    assert_allclose(index.reconstruct(range(600)), expected, atol=1e-6)
    # Lists may be trained all the same.
    trained = IVFPQNeighbors(nlist=4, codebooks=codebooks.tolist(), nbits=4).fit(X)
    assert_array_equal(trained.codebooks_, codebooks)
    assert trained.n_iter_ > 0


@pytest.mark.parametrize(
    ("shape", "parameters", "message"),
    [
        ((5, 16, 2), {"m": 4}, "codebooks has 5 parts, but m=4"),
        ((5, 17, 2), {"nbits": 4}, "17 codewords .* nbits=4 has numbers for 16"),
        ((5, 257, 2), {}, "257 codewords .* nbits=8 has numbers for 256"),
        ((4, 16, 2), {}, "4 parts of 2 features, .* the 10 features"),
        ((6, 16, 2), {}, "6 parts of 2 features, .* the 10 features"),
        ((5, 16, 3), {"m": 5}, "5 parts of 3 features, .* the 10 features"),
        ((5, 16, 2), {"metric": "cosine"}, "5 parts of 2 features, .* the 11 features"),
        ((4, 16, 3), {}, "must be 0 past the last of 10 features"),
        ((5, 0, 2), {}, r"shape \(m, n_codewords, n_part_features\)"),
        ((0, 16, 2), {}, r"shape \(m, n_codewords, n_part_features\)"),
        ((5, 32), {}, r"shape \(m, n_codewords, n_part_features\)"),
        ((5, 4, 4, 2), {}, r"shape \(m, n_codewords, n_part_features\)"),
    ],
    ids=str,
)
def test_codebooks_that_do_not_fit_are_refused(shape, parameters, message, X, capsys):
    index = IVFPQNeighbors(nlist=4, codebooks=np.ones(shape), verbose=1, **parameters)
    with pytest.raises(ValueError, match=message):
        index.fit(X)
    assert not index.is_trained
    # Nothing was trained before.
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "NaN"), (np.inf, "infinity"), (1e60, "too large"), (1e30, "too long")],
)
def test_codewords_that_cannot_be_added_up_are_refused(value, message, X):
    codebooks = np.ones((5, 16, 2))
    codebooks[3, 7, 1] = value
    with pytest.raises(ValueError, match=message):
        IVFPQNeighbors(nlist=4, codebooks=codebooks).fit(X)


def test_codebooks_are_no_word(X):
    with pytest.raises(ValueError, match="'codebooks' parameter of IVFPQNeighbors"):
        IVFPQNeighbors(codebooks="opq").fit(X)


# -- both as parameters of an estimator ----------------------------------------------


@pytest.fixture
def given(centroids, rng):
    """An estimator with all that can be given."""
    codebooks = rng.standard_normal((5, 32, 2)).astype(np.float32)
    return IVFPQNeighbors(
        2, nprobe=2, init=centroids, max_iter=0, codebooks=codebooks, n_jobs=1
    )


def test_what_is_given_is_not_changed_and_not_referred_to(given, X):
    init, codebooks = given.init, given.codebooks
    before = init.copy(), codebooks.copy()
    expected = given.fit(X).kneighbors(X)
    given.partial_fit(X[:5])
    assert given.init is init and given.codebooks is codebooks
    assert_array_equal(init, before[0], strict=True)
    assert_array_equal(codebooks, before[1], strict=True)
    given.fit(X)
    init[:], codebooks[:] = 0, 0
    for found, wanted in zip(given.kneighbors(X), expected, strict=True):
        assert_array_equal(found, wanted)


def test_arrays_that_cannot_be_written_to_will_do(given, X):
    expected = given.fit(X).kneighbors(X)
    given.init.flags.writeable = given.codebooks.flags.writeable = False
    for found, wanted in zip(given.fit(X).kneighbors(X), expected, strict=True):
        assert_array_equal(found, wanted)


def test_clones_and_pickles_have_them(given, X):
    expected = given.fit(X).kneighbors(X)
    for copied in (clone(given), pickle.loads(pickle.dumps(clone(given)))):
        assert copied.get_params().keys() == given.get_params().keys()
        assert_array_equal(copied.init, given.init, strict=True)
        assert copied.init is not given.init
        assert not copied.is_trained
        for found, wanted in zip(copied.fit(X).kneighbors(X), expected, strict=True):
            assert_array_equal(found, wanted)
    loaded = pickle.loads(pickle.dumps(given))
    assert_same_index(loaded._index, given._index)
    assert "init" in given._repr_html_()
    assert "codebooks=array(" in repr(given)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_grid_search_over_centroids(n_jobs, X, centroids):
    y = X[:, 0] > 0
    pipeline = make_pipeline(
        IVFFlatNeighbors(3, nprobe=1, max_iter=0, random_state=0),
        KNeighborsClassifier(3, metric="precomputed"),
    )
    grid = {
        "ivfflatneighbors__init": [centroids, centroids[:2], None],
        "ivfflatneighbors__n_neighbors": [3, 4],
    }
    search = GridSearchCV(pipeline, grid, cv=2, n_jobs=n_jobs).fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all() and len(set(scores)) > 1
    best = search.best_params_["ivfflatneighbors__init"]
    assert any(best is one for one in grid["ivfflatneighbors__init"])


def test_a_cache_knows_where_k_means_started(X, centroids, tmp_path, capsys):
    parameters = {"memory": str(tmp_path), "random_state": 0, "verbose": 1}
    for init, is_new in ((centroids, 1), (centroids.copy(), 0), (2 * centroids, 1)):
        index = IVFFlatNeighbors(init=init, **parameters).fit(X)
        assert capsys.readouterr().out.count("k-means iteration 1/") == is_new
        expected = IVFFlatNeighbors(init=init).fit(X)
        assert_same_index(index._index, expected._index)
    for max_iter in (0, 1):
        index = IVFFlatNeighbors(init=centroids, max_iter=max_iter, **parameters)
        assert index.fit(X).n_iter_ == max_iter


def test_the_first_partial_fit_takes_them(given, X):
    expected = clone(given).fit(X[:400]).partial_fit(X[400:])
    found = given.partial_fit(X[:400]).partial_fit(X[400:])
    assert_same_index(found._index, expected._index)
