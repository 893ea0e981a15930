"""The k-means that makes the lists."""

import inspect
import re
import warnings

import joblib
import numpy as np
import pytest
import reference
import vector_kinds
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.random import sample_without_replacement

from sklearn_ann import IVFFlatNeighbors, IVFPQNeighbors, _blocks, _cpu
from sklearn_ann._coarse_quantizer import (
    _own_sqdists,
    _split_into_empty,
    choose_nlist,
    draw_start,
    draw_training_rows,
    train_centroids,
)
from sklearn_ann.exceptions import FewTrainingRowsWarning, OutgrownListsWarning


def train(X, nlist, max_iter=10, seed=0, n_threads=1, verbose=0):
    rows = np.arange(len(X))
    start = draw_start(X, rows, nlist, seed)
    return train_centroids(X, rows, start, max_iter, _cpu, n_threads, verbose)[0]


# -- the algorithm -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("max_iter", [1, 2, 10, 300])
@pytest.mark.parametrize("nlist", [2, 8, 70])
def test_centroids_are_those_of_scikit_learn(dtype, max_iter, nlist, rng):
    X = rng.standard_normal((2000, 3)).astype(dtype)
    start = X[sample_without_replacement(2000, nlist, random_state=5)]
    peer = KMeans(
        nlist, init=start, n_init=1, max_iter=max_iter, tol=0, algorithm="lloyd"
    ).fit(X)
    centroids = train(X, nlist, max_iter, seed=5)
    assert centroids.dtype == dtype
    found, expected = (
        reference.inertia(X, centers) for centers in (centroids, peer.cluster_centers_)
    )
    # Rounding puts a row on a border into another cell now and then, which in hundreds
    # of iterations may lead elsewhere.
    assert found == pytest.approx(expected, rel=1e-6 if max_iter <= 10 else 2e-3)
    if dtype == np.float64 and max_iter <= 10:
        assert_allclose(centroids, peer.cluster_centers_, rtol=1e-9)


def test_each_iteration_is_one_of_lloyd_s(rng):
    X = rng.standard_normal((300, 4))
    start = X[sample_without_replacement(300, 5, random_state=1)]
    for max_iter in (1, 2, 3, 4):
        expected = reference.lloyd(X, start, max_iter)
        assert_allclose(train(X, 5, max_iter, seed=1), expected, rtol=1e-12)


def test_one_cell_has_the_mean(rng):
    X = rng.standard_normal((200, 3)).astype(np.float32)
    expected = X.astype(np.float64).mean(axis=0, keepdims=True)
    assert_array_equal(train(X, 1), expected.astype(np.float32))


def test_as_many_cells_as_rows_are_the_rows(rng):
    X = rng.standard_normal((100, 3))
    centroids = train(X, 100)
    assert_array_equal(np.sort(centroids, axis=0), np.sort(X, axis=0))


@pytest.mark.parametrize(("kind", "dtype"), vector_kinds.KINDS, ids=vector_kinds.name)
def test_centroids_do_not_depend_on_threads(kind, dtype, rng):
    X, _ = vector_kinds.make(kind, dtype, rng, 1500, 1, 6)
    centroids = train(X, 30)
    assert centroids.shape == (30, 6)
    assert np.isfinite(centroids).all()
    for n_threads in (2, 3, 8):
        assert_array_equal(train(X, 30, n_threads=n_threads), centroids, strict=True)


@pytest.mark.parametrize("n_jobs", [2, 3, None])
def test_lists_do_not_depend_on_threads(n_jobs, rng, split_work):
    X = rng.standard_normal((1500, 6)).astype(np.float32)
    expected = IVFFlatNeighbors(nlist=30, random_state=0, n_jobs=1).fit(X)
    index = IVFFlatNeighbors(nlist=30, random_state=0, n_jobs=n_jobs).fit(X)
    assert_array_equal(index.cluster_centers_, expected.cluster_centers_)
    for found, wanted in zip(index._index.lists, expected._index.lists, strict=True):
        assert_array_equal(found, wanted)


def test_random_state(rng):
    # More rows than are trained on, so that both draws count.
    X = rng.standard_normal((3000, 3))

    def centroids(random_state):
        index = IVFFlatNeighbors(nlist=5, random_state=random_state, max_iter=2)
        return index.fit(X).cluster_centers_

    assert_array_equal(centroids(0), centroids(0))
    assert_array_equal(
        centroids(np.random.RandomState(7)), centroids(np.random.RandomState(7))
    )
    same = np.random.RandomState(7)
    for one, other in ((0, 1), (None, None), (same, same)):
        assert not np.array_equal(centroids(one), centroids(other))


def test_training_stops_when_no_row_changes_its_cell(capsys):
    X = np.repeat([[0.0], [1.0], [100.0], [101.0]], 50, axis=0)
    centroids = train(X, 2, max_iter=100, seed=0, verbose=1)
    assert len(capsys.readouterr().out.splitlines()) < 10
    assert_array_equal(np.sort(centroids, axis=0), [[0.5], [100.5]])


# -- empty cells ---------------------------------------------------------------------


def test_the_inertia_is_that_of_the_rows_that_are_trained_on(monkeypatch, rng):
    monkeypatch.setattr(_blocks, "_BLOCK_BYTES", 8 * 5 * 30)  # 30 rows
    X, rows = rng.standard_normal((200, 5)), rng.permutation(200)[:100]
    centroids, labels = X[:9], rng.integers(0, 9, 100)
    found = _own_sqdists(X, rows, centroids, labels, _cpu, 2)
    expected = np.square(X[rows] - centroids[labels]).sum(axis=1)
    assert_allclose(found, expected, rtol=1e-12, atol=0)


def test_an_empty_cell_takes_half_of_the_one_with_the_largest_inertia():
    X = np.array([[0.0, 0], [1, 0], [2, 0], [9, 0], [50, 50]])
    labels = np.array([1, 1, 1, 1, 2])
    order, starts = np.arange(5), np.array([0, 0, 4, 5])
    means = np.array([[0.0, 0], [3, 0], [50, 50]])
    sqdists = ((X - means[labels]) ** 2).sum(axis=1)
    _split_into_empty(means, X, np.arange(len(X)), labels, sqdists, order, starts)
    # The center of both halves is that of the whole, the empty one is nearer to (9, 0).
    assert_allclose(means[0] + means[1], [6, 0])
    assert 0 < means[0, 0] - means[1, 0] < 0.1
    assert_array_equal(means[:, 1], [0, 0, 50])
    assert_array_equal(means[2], [50, 50])


def test_several_empty_cells_share_what_is_large():
    X = np.arange(100, dtype=np.float64)[:, None]
    means = np.array([[0.0], [29.5], [0.0], [79.5], [0.0]])
    order, starts = np.arange(100), np.array([0, 0, 60, 60, 100, 100])
    labels = np.repeat([1, 3], [60, 40])
    sqdists = ((X - means[labels]) ** 2)[:, 0]
    _split_into_empty(means, X, np.arange(len(X)), labels, sqdists, order, starts)
    assert len(np.unique(means)) == 5
    # The wide cell is halved, then one of its halves: the other cell has an inertia
    # of less than a third of it.
    near_first, near_second = abs(means - 29.5) < 1, abs(means - 79.5) < 1
    assert (near_first.sum(), near_second.sum()) == (4, 1)


def test_no_list_stays_empty(rng):
    # Many of the starts are equal, so that many cells are empty at first.
    X = 100 + rng.standard_normal((1000, 2))
    X[rng.permutation(1000)[:300]] = 100
    start = X[sample_without_replacement(1000, 20, random_state=0)]
    assert len(np.unique(start, axis=0)) <= 14
    centroids = train(X, 20)
    labels = reference.nearest_centroids(X, centroids)
    assert len(np.unique(labels)) == 20


def test_more_cells_than_different_rows():
    X = np.repeat([[0.0, 0.0], [1.0, 1.0], [5.0, 0.0]], 100, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewTrainingRowsWarning)
        index = IVFFlatNeighbors(9, nlist=8, nprobe=1, random_state=0).fit(X)
    assert np.isfinite(index.cluster_centers_).all()
    assert index.list_sizes_.sum() == 300
    assert np.count_nonzero(index.list_sizes_) == 3
    distances, _ = index.kneighbors(X[::100])
    assert_array_equal(distances, 0.0)


# -- how many rows and lists ---------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "nlist"),
    [(1, 1), (9_999, 1), (10_000, 100), (10**6, 1000), (10**8, 10_000)],
)
def test_choose_nlist(n, nlist):
    assert choose_nlist(n) == nlist
    assert isinstance(choose_nlist(n), int)


@pytest.mark.parametrize("nlist", [1, 3])
def test_at_most_256_rows_a_list_are_trained_on(nlist):
    X = np.arange(256.0 * nlist + 40)[:, None]
    for n in (256 * nlist - 1, 256 * nlist):
        rows = draw_training_rows(X[:n], nlist, np.random.RandomState(0))
        assert_array_equal(rows, np.arange(n))
    drawn = draw_training_rows(X, nlist, np.random.RandomState(0))
    assert drawn.shape == (256 * nlist,)
    assert (np.diff(drawn) > 0).all()
    other = draw_training_rows(X, nlist, np.random.RandomState(1))
    assert not np.array_equal(drawn, other)
    # From all over the data: a quarter of it has about a quarter of them.
    assert abs((drawn < len(X) / 4).mean() - 0.25) < 0.1


@pytest.mark.parametrize(("n", "nlist"), [(77, 2), (38, 2), (10, 10), (1000, 26)])
def test_too_few_rows_warn_with_a_number_that_is_small_enough(n, nlist, rng):
    X = rng.standard_normal((n, 3))
    with pytest.warns(FewTrainingRowsWarning, match=f"nlist={nlist} leaves") as caught:
        index = IVFFlatNeighbors(2, nlist=nlist).fit(X)
    assert index.nlist_ == nlist
    (message,) = (str(warning.message) for warning in caught)
    smaller = int(re.search(r"Use nlist=(\d+) or less", message)[1])
    assert 1 <= smaller < nlist
    # Warnings are errors here.
    IVFFlatNeighbors(2, nlist=smaller).fit(X)
    if smaller > 1:
        with pytest.warns(FewTrainingRowsWarning):
            IVFFlatNeighbors(2, nlist=smaller + 1).fit(X)


@pytest.mark.parametrize(("n", "nlist"), [(78, 2), (1, 1), (5, 1), (390, 10)])
def test_enough_rows_do_not_warn(n, nlist, rng):
    IVFFlatNeighbors(1, nlist=nlist).fit(rng.standard_normal((n, 3)))


@pytest.mark.parametrize("make", [IVFFlatNeighbors, IVFPQNeighbors])
def test_lists_that_no_longer_fit_the_rows_warn(make, rng):
    X = rng.standard_normal((10_000, 2)).astype(np.float32)
    index = make(random_state=0).partial_fit(X[:300]).partial_fit(X[300:-1])
    assert index.nlist_ == 1
    message = (
        "nlist_=1 for the rows of the first fit and would choose 100 for the 10000"
    )
    with pytest.warns(OutgrownListsWarning, match=message) as caught:
        index.partial_fit(X[-1:])
    assert caught[0].filename == __file__
    assert index.ntotal == 10_000
    index.partial_fit(X[:5])  # once is enough
    # The number was asked for, or fits.
    make(nlist=1, random_state=0).partial_fit(X[:300]).partial_fit(X)
    make(random_state=0).partial_fit(X).partial_fit(X)


def test_a_warning_that_is_an_error_adds_nothing(rng):
    X = rng.standard_normal((10_000, 2)).astype(np.float32)
    index = IVFFlatNeighbors().partial_fit(X[:300])
    with pytest.raises(OutgrownListsWarning):
        index.partial_fit(X)
    assert index.ntotal == 300


@pytest.mark.parametrize("integer", [np.int8, np.uint8, np.int64])
def test_parameters_may_be_small_integers_of_numpy(integer, rng):
    X = rng.standard_normal((4000, 8)).astype(np.float32)
    parameters = {"nlist": 100, "nprobe": 100, "max_iter": 3, "n_neighbors": 120}
    codes = {
        **parameters,
        "m": 8,
        "nbits": 8,
        "refine_factor": 3,
        "store_vectors": True,
    }
    for make, given in ((IVFFlatNeighbors, parameters), (IVFPQNeighbors, codes)):
        small = {
            name: value if value is True else integer(value)
            for name, value in given.items()
        }
        found = make(random_state=0, **small).fit(X).kneighbors(X[:9])
        expected = make(random_state=0, **given).fit(X).kneighbors(X[:9])
        assert_array_equal(found[1], expected[1])
        assert_array_equal(found[0], expected[0])


def test_the_warning_can_be_told_from_others():
    assert issubclass(FewTrainingRowsWarning, UserWarning)


# -- verbose -------------------------------------------------------------------------


def test_verbose_prints_each_iteration(rng, capsys):
    X = rng.standard_normal((1000, 3))
    IVFFlatNeighbors(nlist=9, random_state=0, max_iter=4, verbose=1).fit(X)
    lines = capsys.readouterr().out.splitlines()
    pattern = r"k-means iteration (\d)/4: inertia ([\d.]+), 0 of 9 cells empty"
    found = [re.fullmatch(pattern, line).groups() for line in lines]
    assert [int(number) for number, _ in found] == [1, 2, 3, 4]
    inertias = [float(inertia) for _, inertia in found]
    assert inertias == sorted(inertias, reverse=True)
    assert inertias[0] > inertias[-1]


def test_nothing_is_printed_unless_wanted(rng, capsys):
    IVFFlatNeighbors(nlist=9).fit(rng.standard_normal((1000, 3)))
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


# -- memory --------------------------------------------------------------------------


@pytest.fixture
def count_trainings(capsys):
    """How often k-means has run since the last call, by what it prints."""
    return lambda: capsys.readouterr().out.count("k-means iteration 1/")


@pytest.fixture(params=["folder", "Memory"])
def memory(request, tmp_path):
    folder = str(tmp_path / "cache")
    return folder if request.param == "folder" else joblib.Memory(folder, verbose=0)


def test_a_grid_over_nprobe_trains_once_for_each_fold_and_nlist(
    memory, rng, count_trainings
):
    X = rng.standard_normal((480, 5))
    y = (X[:, 0] + X[:, 1] > 0).astype(int)
    pipeline = make_pipeline(
        StandardScaler(),
        IVFFlatNeighbors(random_state=0, verbose=1),
        KNeighborsClassifier(metric="precomputed"),
    )
    grid = {
        "ivfflatneighbors__nlist": [4, 8],
        "ivfflatneighbors__nprobe": [1, 2, 8],
    }
    plain = GridSearchCV(clone(pipeline), grid, cv=3).fit(X, y)
    assert count_trainings() == 3 * 6 + 1
    pipeline.set_params(ivfflatneighbors__memory=memory)
    cached = GridSearchCV(pipeline, grid, cv=3).fit(X, y)
    # The best candidate is fitted again, on all rows.
    assert count_trainings() == 3 * 2 + 1
    assert_array_equal(
        cached.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"]
    )
    assert cached.best_params_ == plain.best_params_
    assert len(set(cached.cv_results_["mean_test_score"])) > 1
    assert_array_equal(cached.predict(X), plain.predict(X))


def test_what_does_not_change_the_centroids_is_found_again(
    memory, rng, count_trainings, split_work
):
    X = rng.standard_normal((400, 5))
    parameters = {"nlist": 6, "random_state": 0, "memory": memory, "verbose": 1}
    first = IVFFlatNeighbors(**parameters).fit(X)
    assert count_trainings() == 1
    for more in (
        {"nprobe": 2, "n_neighbors": 3, "radius": 2.0, "mode": "connectivity"},
        {"n_jobs": 1},
        {"n_jobs": 3},
        {"device": "cpu"},
        {"verbose": 2},
        {"metric": "sqeuclidean"},
    ):
        again = IVFFlatNeighbors(**{**parameters, **more}).fit(X)
        assert count_trainings() == 0
        assert_array_equal(again.cluster_centers_, first.cluster_centers_, strict=True)


def test_what_changes_the_centroids_is_trained(memory, rng, count_trainings):
    X = rng.standard_normal((400, 5))
    parameters = {"nlist": 6, "random_state": 0, "memory": memory, "verbose": 1}
    IVFFlatNeighbors(**parameters).fit(X)
    for rows, more in (
        (X, {"nlist": 5}),
        (X, {"random_state": 1}),
        (X, {"random_state": None}),
        (X, {"random_state": None}),
        (X, {"max_iter": 9}),
        (X, {"metric": "cosine"}),
        (X[1:], {}),
        (X.astype(np.float32), {}),
    ):
        count_trainings()
        IVFFlatNeighbors(**{**parameters, **more}).fit(rows)
        assert count_trainings() == 1


def test_an_estimator_with_cached_centroids_is_the_same(memory, rng, tmp_path):
    X, Q = rng.standard_normal((400, 5)), rng.standard_normal((20, 5))
    expected = IVFFlatNeighbors(nlist=6, nprobe=2, random_state=0).fit(X)
    for mmap_mode in (None, "r"):
        if isinstance(memory, joblib.Memory):
            memory = joblib.Memory(memory.location, mmap_mode=mmap_mode, verbose=0)
        for _ in range(2):
            index = clone(expected).set_params(memory=memory).fit(X).partial_fit(Q)
            wanted = clone(expected).fit(X).partial_fit(Q).kneighbors(Q)
            for one, other in zip(index.kneighbors(Q), wanted, strict=True):
                assert_array_equal(one, other, strict=True)


def test_without_memory_nothing_is_kept(rng, tmp_path, monkeypatch, count_trainings):
    monkeypatch.chdir(tmp_path)
    X = rng.standard_normal((400, 5))
    for _ in range(2):
        IVFFlatNeighbors(nlist=6, random_state=0, verbose=1).fit(X)
        assert count_trainings() == 1
    assert not list(tmp_path.iterdir())


def test_the_cache_ignores_only_names_that_exist():
    names = inspect.signature(train_centroids).parameters
    assert {"backend", "n_threads", "verbose"} < set(names)


@pytest.mark.filterwarnings("ignore:invalid value encountered in reduce")
def test_centroids_of_huge_vectors_are_finite(rng):
    X = 1.7e308 * rng.uniform(-1, 1, (400, 4))
    index = IVFFlatNeighbors(nlist=8, nprobe=2, random_state=0).fit(X)
    assert np.isfinite(index.cluster_centers_).all()


def test_large_groups_of_equal_rows_leave_no_list_empty(rng):
    # 16 of 20 lists: halves of the largest cell, which holds equal rows only.
    X = np.vstack([np.zeros((900, 2)), rng.uniform(5, 6, (100, 2))])
    index = IVFFlatNeighbors(nlist=20, random_state=0).fit(X)
    assert np.count_nonzero(index.list_sizes_) > 10
