"""Calibration: the fewest that are enough, and what is promised."""

import pickle
import re
import warnings

import numpy as np
import pytest
import reference
from scipy.stats import binomtest
from sklearn.base import clone
from sklearn.datasets import load_digits, make_blobs
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neighbors import KNeighborsTransformer
from sklearn.pipeline import make_pipeline

from sklearn_ann import IVFFlatNeighbors, IVFPQNeighbors, _recall
from sklearn_ann._backend import get_backend
from sklearn_ann._calibration import (
    Candidates,
    draw_rows,
    is_enough,
    least,
    least_queries,
    options_that_reach,
    ranks_of,
    recall_interval,
    recall_of,
    without_own,
)
from sklearn_ann._inverted_lists import empty_lists, extend_lists, labels_of_rows
from sklearn_ann.exceptions import TargetRecallWarning


@pytest.mark.parametrize("n", [1, 5, 1000, 1001, 50_000])
def test_rows_are_different_and_at_most_a_thousand(n):
    rows = draw_rows(n, np.random.RandomState(0))
    assert len(rows) == min(n, 1000)
    assert (np.diff(rows) > 0).all()
    assert rows[0] >= 0 and rows[-1] < n
    np.testing.assert_array_equal(rows, draw_rows(n, np.random.RandomState(0)))


def test_all_rows_are_drawn_as_often():
    counts = np.zeros(1500)
    for seed in range(200):
        counts[draw_rows(1500, np.random.RandomState(seed))] += 1
    # Of a binomial distribution, 200 times 2/3: five deviations.
    assert abs(counts - 200 * 2 / 3).max() < 5 * np.sqrt(200 * 2 / 9)


def test_own_rows_are_left_out():
    distances = np.array([[0.0, 1.0, 2.0], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    ids = np.array([[7, 3, 4], [1, 2, 3], [5, 6, 7]])
    distances, ids = without_own(distances, ids, np.array([7, 9, 6]))
    np.testing.assert_array_equal(distances, [[1, 2], [0, 0], [1, 3]])
    np.testing.assert_array_equal(ids, [[3, 4], [1, 2], [5, 7]])


@pytest.mark.parametrize("most", [1, 2, 3, 10, 64, 100])
def test_the_least_that_is_enough_is_found(most):
    for wanted in range(1, most + 3):
        tried = []

        def is_enough(number, wanted=wanted, tried=tried):
            tried.append(number)
            return number >= wanted

        assert least(is_enough, 1, most) == min(wanted, most)
        assert len(tried) <= np.log2(most) + 1
        assert least(is_enough, most, most) == most


def test_what_is_promised_is_kept(rng):
    # Queries miss a share of their neighbours that falls with the number, and that is
    # known: of many calibrations the mean recall of a further query is the target.
    target, recalls = 0.9, []
    for _ in range(400):
        # Each query finds all of its neighbours from a number of its own on.
        needed = rng.geometric(0.06, 50)
        found = least(
            lambda x, n=needed: is_enough(np.mean(n <= x), 50, target), 1, 100
        )
        recalls.append(1 - 0.94**found)
    assert np.mean(recalls) >= target
    # And not more than it must: a query in fifty.
    assert np.mean(recalls) < target + 0.04


def test_no_promise_beyond_the_number_of_queries():
    assert is_enough(1.0, 9, 0.9)
    assert is_enough(1.0, 99, 0.99)
    assert [least_queries(target) for target in (0.5, 0.9, 0.95)] == [1, 9, 19]
    assert least_queries(1) is None
    assert not is_enough(1.0, 98, 0.99)
    assert not is_enough(1.0, 10**6, 1.0)


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (7, 10), (950, 1000), (1000, 1000)])
def test_the_interval_is_that_of_scipy(hits, n):
    expected = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert recall_interval(hits / n, n) == pytest.approx(expected, abs=1e-5)


# -- in estimators -------------------------------------------------------------------


@pytest.fixture(scope="module")
def blobs():
    """3000 rows in groups that lie close together, and 500 queries like them."""
    X, _ = make_blobs(3500, 10, centers=40, cluster_std=5.0, random_state=0)
    return X[:3000], X[3000:]


def lists(n_neighbors=5, **parameters):
    parameters = {"nlist": 30, "random_state": 0, **parameters}
    return IVFFlatNeighbors(n_neighbors, **parameters)


def recall_of_rows(index, X, k, nprobe):
    """The recall of the calibration rows, by the oracle: other rows at most as far."""
    hits, rows = 0, index.calibration_ids_
    labels = reference.nearest_centroids(X, index.cluster_centers_)
    sizes = np.bincount(labels, minlength=index.nlist_)
    for row in rows:
        distances = reference.sqdists(X[row], X)
        distances[row] = np.inf
        probed = reference.probes(X[row], index.cluster_centers_, sizes, nprobe, k + 1)
        found = np.sort(distances[np.isin(labels, probed)])[:k]
        hits += np.sum(found <= np.sort(distances)[k - 1])
    return hits / (len(rows) * k)


@pytest.mark.parametrize("target", [0.7, 0.9, 0.97])
@pytest.mark.parametrize("k", [1, 10])
def test_nprobe_is_the_smallest_that_promises_the_target(target, k, blobs):
    X, _ = blobs
    index = lists(k, target_recall=target).fit(X)
    recall = recall_of_rows(index, X, k, index.nprobe_)
    assert index.recall_ == pytest.approx(recall, abs=1e-12)
    assert is_enough(recall, 1000, target)
    assert index.nprobe_ < 15
    if index.nprobe_ > 1:
        fewer = recall_of_rows(index, X, k, index.nprobe_ - 1)
        assert not is_enough(fewer, 1000, target)
    assert index.nprobe_ > 1 or target == 0.7
    low, high = index.recall_interval_
    assert low < index.recall_ < high


def test_the_target_is_reached_by_other_queries(blobs):
    X, Q = blobs
    for target in (0.8, 0.9, 0.95, 0.99):
        scores = [
            lists(target_recall=target, random_state=seed).fit(X).score(Q)
            for seed in range(5)
        ]
        assert np.mean(scores) > target - 0.005


def test_a_target_of_one_is_exact(blobs):
    X, Q = blobs
    index = lists(target_recall=1).fit(X)
    assert index.nprobe_ == 30
    assert index.recall_ == index.score(Q) == 1


def test_a_number_of_lists_is_used_and_its_recall_said(blobs):
    X, Q = blobs
    index = lists(nprobe=3).fit(X)
    assert index.nprobe_ == 3
    assert index.recall_ == pytest.approx(recall_of_rows(index, X, 5, 3), abs=1e-12)
    # A search reads the parameter, whatever was calibrated.
    assert index.set_params(nprobe=30).score(Q) == 1
    assert lists(nprobe=100).fit(X).nprobe_ == 30


def test_queries_of_the_user_are_calibrated_with(blobs):
    X, _ = blobs
    # Between the groups, where neighbours are spread over many lists.
    Q = np.random.default_rng(0).uniform(-15, 15, (200, 10))
    index = lists().fit(X, calibration_queries=Q)
    assert index.calibration_ids_ is None
    np.testing.assert_array_equal(index.calibration_queries_, Q)
    assert index.recall_ == index.score(Q)
    assert index.nprobe_ > lists().fit(X).nprobe_


def test_retune_chooses_again(blobs):
    X, Q = blobs
    index = lists().fit(X)
    centers, before = index.cluster_centers_, index.nprobe_
    assert index.retune(target_recall=0.5) is index
    assert index.nprobe_ < before
    assert index.cluster_centers_ is centers
    assert index.retune().nprobe_ == before
    index.retune(n_neighbors=100)
    recall = recall_of_rows(index, X, 100, index.nprobe_)
    assert index.recall_ == pytest.approx(recall, abs=1e-12)
    index.retune(calibration_queries=Q)
    assert index.recall_ == index.score(Q)
    # They stay.
    assert index.retune(target_recall=0.5).recall_ == index.score(Q)


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"target_recall": 0}, ValueError, "Expected 0 < target_recall <= 1"),
        ({"target_recall": 1.5}, ValueError, "Expected 0 < target_recall <= 1"),
        ({"target_recall": "high"}, TypeError, "target_recall must be a number"),
        ({"n_neighbors": 0}, ValueError, "Expected n_neighbors > 0"),
        ({"calibration_queries": np.ones((3, 4))}, ValueError, "queries.* 4 features"),
        ({"calibration_queries": np.full((3, 10), np.nan)}, ValueError, "queries.*NaN"),
    ],
)
def test_retune_refuses_and_leaves_the_estimator_as_it_was(how, error, message, blobs):
    X, _ = blobs
    index = lists().fit(X)
    before = pickle.dumps(index)
    with pytest.raises(error, match=message):
        index.retune(**how)
    assert pickle.dumps(index) == before


@pytest.mark.parametrize("make", [IVFFlatNeighbors, IVFPQNeighbors])
def test_calibration_does_not_depend_on_threads(make, blobs, split_work):
    X, _ = blobs
    found = [
        make(nlist=30, random_state=3, n_jobs=n_jobs).fit(X) for n_jobs in (1, 2, None)
    ]
    assert len({(x.nprobe_, x.recall_, x.recall_interval_) for x in found}) == 1


def test_it_survives_a_pickle(blobs):
    X, Q = blobs
    index = lists().fit(X)
    other = pickle.loads(pickle.dumps(index))
    assert (other.nprobe_, other.recall_) == (index.nprobe_, index.recall_)
    assert other.score(Q) == index.score(Q)
    assert other.retune(0.5).nprobe_ == index.retune(0.5).nprobe_


@pytest.mark.filterwarnings("ignore::sklearn_ann.exceptions.FewTrainingRowsWarning")
@pytest.mark.parametrize("n", [1, 2, 3, 6, 20])
@pytest.mark.parametrize("kind", ["normal", "equal"])
def test_few_rows_or_equal_ones(n, kind, rng):
    X = rng.normal(size=(n, 3)) if kind == "normal" else np.ones((n, 3))
    for k in {1, n - 1 or 1, n}:
        index = IVFFlatNeighbors(k, nlist=max(1, n // 2), random_state=0).fit(X)
        assert 1 <= index.nprobe_ <= index.nlist_
        low, high = index.recall_interval_
        assert 0 <= low <= index.recall_ <= high <= 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("given", [np.float32, np.float64, np.int64, list])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_calibration_queries_of_any_dtype_survive_a_pickle(dtype, given, metric, blobs):
    X, Q = blobs
    Q = Q.tolist() if given is list else Q.astype(given)
    index = lists(metric=metric).fit(X.astype(dtype), calibration_queries=Q)
    loaded = pickle.loads(pickle.dumps(index))
    np.testing.assert_array_equal(
        loaded.calibration_queries_, index.calibration_queries_
    )
    assert loaded.retune().recall_ == index.recall_ == index.score(Q)


def test_retune_looks_at_the_rows_that_were_added(rng):
    flat = rng.normal(size=(1500, 2)) @ rng.normal(size=(2, 12))
    index = lists().partial_fit(flat).partial_fit(rng.normal(size=(3000, 12)))
    before = index.nprobe_
    index.retune()
    assert index.calibration_ids_.max() >= 1500
    assert index.nprobe_ > before
    assert index.score(rng.normal(size=(300, 12))) > 0.9


def test_calibration_rows_are_trained_on_where_others_are_too_few(rng):
    X = rng.normal(size=(10_000, 2)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        index = IVFFlatNeighbors(nlist=9500, max_iter=0, random_state=0).fit(X)
    assert index.nlist_ == 9500


@pytest.mark.parametrize("d", [12, 24])
def test_ties_make_no_search_longer(d, rng):
    X = rng.integers(0, 2, size=(3000, d)).astype(np.float32)
    index = IVFFlatNeighbors(nlist=40, random_state=0).fit(X)
    fewer = clone(index).set_params(nprobe=max(1, int(index.nprobe_ / 1.3) - 1)).fit(X)
    assert index.nprobe_ == 1 or fewer.recall_ < 0.951


def test_a_target_is_not_given_up_for_far_neighbours(rng):
    X = rng.normal(size=(3000, 8)).astype(np.float32)
    index = IVFPQNeighbors(nlist=20, m=4, store_vectors=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recalls = [
            clone(index).set_params(target_recall=target).fit(X).recall_
            for target in (0.99, 0.995, 0.998)
        ]
        assert (np.array(recalls) >= [0.99, 0.995, 0.998]).all()
    with pytest.warns(TargetRecallWarning, match="999 calibration queries|Nothing"):
        best = clone(index).set_params(target_recall=1).fit(X)
    assert best.recall_ >= 0.998


def test_many_neighbors_are_refined_too(rng):
    X = rng.normal(size=(4000, 8)).astype(np.float32)
    index = IVFPQNeighbors(
        600, nlist=20, m=2, nbits=4, store_vectors=True, random_state=0
    ).fit(X)
    assert index.refine_factor_ > 1
    assert index.recall_ >= 0.95


def test_blocks_of_calibration_queries_change_nothing(blobs, parts, monkeypatch):
    X, _ = blobs
    expected = IVFPQNeighbors(**parts, store_vectors=True).fit(X)
    monkeypatch.setattr("sklearn_ann._blocks._BLOCK_BYTES", 2**16)
    found = IVFPQNeighbors(**parts, store_vectors=True).fit(X)
    for name in ("nprobe_", "refine_factor_", "recall_"):
        assert getattr(found, name) == getattr(expected, name)


def test_a_pipeline_passes_queries_on(blobs):
    X, Q = blobs
    model = make_pipeline(lists(), KNeighborsTransformer(metric="precomputed"))
    model.fit(X, ivfflatneighbors__calibration_queries=Q)
    np.testing.assert_array_equal(model[0].calibration_queries_, Q)


def test_partial_fit_keeps_the_calibration(blobs):
    X, _ = blobs
    index = lists().partial_fit(X[:2000])
    before = index.nprobe_, index.recall_
    index.partial_fit(X[2000:])
    assert (index.nprobe_, index.recall_) == before
    assert len(index.calibration_ids_) == 1000


def test_codes_take_what_all_lists_would_give_nearly(blobs):
    X, Q = blobs
    index = IVFPQNeighbors(
        nlist=30, m=5, refine_factor=1, store_vectors=True, random_state=0
    ).fit(X)
    everything = index.set_params(nprobe=30).score(Q)
    chosen = index.set_params(nprobe="auto").score(Q)
    assert index.nprobe_ < 30
    assert everything < 0.95
    assert abs(chosen - everything) < 0.03
    # Measured in fit, when the vectors are still there.
    bare = IVFPQNeighbors(nlist=30, m=5, random_state=0).fit(X)
    assert bare.recall_ == index.recall_


# -- the rules, on arrays --------------------------------------------------------------


def test_ranks_of_lists():
    probes = np.array([[2, 0, -1], [1, 2, 0]])
    labels = np.array([[0, 1, 2, 2], [0, 0, 1, 2]])
    found = ranks_of(labels, probes, 3)
    np.testing.assert_array_equal(found, [[2, 4, 1, 1], [3, 3, 1, 2]])


def test_recall_of_candidates_counts_what_a_search_would(rng):
    n, c, k = 40, 12, 3
    nprobes = rng.integers(1, 7, (n, c))
    is_hit = rng.random((n, c)) < 0.4
    for nprobe in range(1, 7):
        for n_measured in (3, 6, 12):
            hits = 0
            for row in range(n):
                seen = [i for i in range(c) if nprobes[row, i] <= nprobe][:n_measured]
                hits += min(k, sum(is_hit[row, i] for i in seen))
            found = recall_of(Candidates(nprobes, is_hit), nprobe, n_measured, k)
            assert found == hits / (n * k)


def test_options_are_the_least_that_reach(rng):
    candidates = Candidates(rng.integers(1, 9, (50, 32)), rng.random((50, 32)) < 0.2)
    k, factors = 3, (1, 2, 4, 8)
    for target in (0.3, 0.6, 0.8, 1.0):
        found = options_that_reach(
            lambda recall, t=target: recall >= t, candidates, factors, k, 1, 8
        )
        expected = []
        for factor in factors:
            recalls = [recall_of(candidates, p, factor * k, k) for p in range(1, 9)]
            if recalls[-1] >= target:
                first = 1 + np.argmax(np.array(recalls) >= target)
                expected.append((first, factor))
        assert found == expected[::-1]


def test_labels_of_rows(rng):
    labels = rng.integers(0, 7, 300)
    lists, order, positions = extend_lists(empty_lists(7), labels)
    ids = np.full(len(lists.panels) * 64, -7)
    ids[positions] = order
    np.testing.assert_array_equal(labels_of_rows(lists, ids), labels)


# -- codes -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts(blobs):
    """Parameters of codes that find some 80 % of the neighbours in all lists."""
    return {"nlist": 30, "m": 5, "random_state": 0}


def test_codes_and_vectors_reach_a_target(blobs, parts):
    X, Q = blobs
    for target in (0.8, 0.9, 0.95):
        index = IVFPQNeighbors(**parts, store_vectors=True, target_recall=target)
        index.fit(X)
        assert is_enough(index.recall_, 1000, target)
        assert index.score(Q) > target - 0.02
        # No factor that reaches it takes fewer lists for less.
        if index.refine_factor_ > 1:
            half = clone(index).set_params(refine_factor=index.refine_factor_ // 2)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", TargetRecallWarning)
                half.fit(X)
            reaches = is_enough(half.recall_, 1000, target)
            assert not reaches or half.nprobe_ > index.nprobe_


def test_without_a_target_stored_vectors_reach_that_of_lists(blobs, parts):
    X, Q = blobs
    index = IVFPQNeighbors(**parts, store_vectors=True).fit(X)
    assert is_enough(index.recall_, 1000, 0.95)
    assert index.refine_factor_ > 1
    # With these numbers given, a search is the same.
    given = clone(index).set_params(
        nprobe=index.nprobe_, refine_factor=index.refine_factor_
    )
    given.fit(X)
    assert (given.nprobe_, given.refine_factor_) == (
        index.nprobe_,
        index.refine_factor_,
    )
    assert given.recall_ == index.recall_
    np.testing.assert_array_equal(given.kneighbors(Q)[1], index.kneighbors(Q)[1])


def test_the_recall_of_refined_codes_is_that_of_other_rows(blobs, parts):
    # The row itself is no candidate: it does not take the place of another one.
    X, _ = blobs
    index = IVFPQNeighbors(
        1, **parts, nprobe=30, refine_factor=2, store_vectors=True
    ).fit(X)
    hits, codes = 0, IVFPQNeighbors(2, **parts, nprobe=30).fit(X)
    for row in index.calibration_ids_:
        _, (ids,) = codes.kneighbors(X[[row]], 3)
        others = ids[ids != row][:2]
        distances = reference.sqdists(X[row], X)
        distances[row] = np.inf
        hits += distances[others].min() <= distances.min()
    assert index.recall_ == pytest.approx(hits / 1000, abs=0.002)


def test_a_target_out_of_reach_is_a_warning_that_helps(blobs, parts):
    X, _ = blobs
    wanted = "store_vectors=True and refine_factor=(\\d+) or 'auto' reach it"
    with pytest.warns(TargetRecallWarning, match=wanted) as caught:
        index = IVFPQNeighbors(**parts, target_recall=0.95).fit(X)
    assert f"the search finds {index.recall_:.4f}" in str(caught[0].message)
    factor = int(re.search(wanted, str(caught[0].message))[1])
    helped = clone(index).set_params(store_vectors=True, refine_factor=factor)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        helped.fit(X)
        clone(helped).set_params(refine_factor="auto").fit(X)
        # A smaller factor does not, and says so.
        with pytest.raises(TargetRecallWarning, match=f"refine_factor={factor} or"):
            clone(helped).set_params(refine_factor=factor // 2).fit(X)
        with pytest.raises(TargetRecallWarning, match="'auto' looks into more lists"):
            clone(helped).set_params(refine_factor="auto", nprobe=1).fit(X)
        with pytest.raises(TargetRecallWarning, match="Nothing promises"):
            clone(helped).set_params(nlist=1, refine_factor=64, target_recall=1).fit(X)
        with pytest.raises(TargetRecallWarning, match="19 calibration queries or more"):
            clone(helped).fit(X, calibration_queries=X[:18])


def test_a_retune_that_warns_changes_nothing(blobs, parts):
    X, _ = blobs
    index = IVFPQNeighbors(**parts, store_vectors=True, refine_factor=1).fit(X)
    before = pickle.dumps(index)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TargetRecallWarning):
            index.retune(0.95)
    assert pickle.dumps(index) == before


@pytest.mark.filterwarnings("ignore::sklearn_ann.exceptions.FewTrainingRowsWarning")
@pytest.mark.filterwarnings("ignore::sklearn_ann.exceptions.TargetRecallWarning")
@pytest.mark.parametrize("n", [1, 2, 3, 6, 20, 90])
@pytest.mark.parametrize("kind", ["normal", "equal", "twice"])
@pytest.mark.parametrize("stored", [False, True])
def test_codes_of_few_rows_or_equal_ones(n, kind, stored, rng):
    X = np.ones((n, 3)) if kind == "equal" else rng.normal(size=(n, 3))
    if kind == "twice":
        X[n // 2 :] = X[: n - n // 2]
    for k in {1, n - 1 or 1, n}:
        for target in (None, 0.9):
            for metric in ("euclidean", "cosine"):
                index = IVFPQNeighbors(
                    k,
                    nlist=max(1, n // 3),
                    nbits=4,
                    metric=metric,
                    target_recall=target,
                    store_vectors=stored,
                    random_state=0,
                ).fit(X)
                assert 1 <= index.nprobe_ <= index.nlist_
                assert 0 <= index.recall_ <= 1
                assert index.kneighbors(X)[1].shape == (n, k)
                if kind == "equal":
                    assert index.recall_ == 1


def test_defaults_on_digits():
    X, recalls = load_digits().data, []
    for seed in range(5):
        rows, queries = train_test_split(X, test_size=300, random_state=seed)
        index = IVFFlatNeighbors(nlist=30, random_state=seed).fit(rows)
        recalls.append(index.score(queries))
    assert np.mean(recalls) >= 0.945
    codes = IVFPQNeighbors(nlist=30, store_vectors=True, refine_factor=1)
    codes.set_params(random_state=0).fit(rows)
    everything = clone(codes).set_params(nprobe=30).fit(rows)
    assert codes.recall_ >= everything.recall_ - 0.01


# -- exact answers ---------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 4, 30])
def test_exact_answers_of_blocks_are_those_of_all_rows(k, rng, monkeypatch):
    X = np.round(rng.normal(size=(500, 3)), 1)  # with ties
    Q = np.round(rng.normal(size=(40, 3)), 1)
    backend = get_backend("cpu")
    expected = reference.knn_of_many(Q, X, k)
    for n_bytes in (2**28, 3 * 64, 3):
        monkeypatch.setattr(_recall, "_BLOCK_BYTES", n_bytes)
        found = _recall.exact_knn(Q, X, k, None, backend, 1)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("make", [IVFFlatNeighbors, IVFPQNeighbors])
def test_a_grid_trains_and_compares_once_a_fold(make, blobs, tmp_path):
    X, _ = blobs
    index = make(random_state=0, memory=str(tmp_path))
    grid = {"nlist": [10, 20], "nprobe": [1, 2, 3, 4, 6, 8]}
    if make is IVFPQNeighbors:
        index.set_params(store_vectors=True, m=5)
    search = GridSearchCV(index, grid, cv=3).fit(X)
    assert search.best_params_["nprobe"] == 8
    n_trained = len(list(tmp_path.glob("**/train_centroids/*/output.pkl")))
    assert n_trained == 3 * 2 + 1
    # Once for the queries of the calibration, once for those of the fold; and one
    # calibration of the refit.
    n_compared = len(list(tmp_path.glob("**/exact_knn/*/output.pkl")))
    assert n_compared == 3 * 2 + 1
    plain = clone(search.best_estimator_).set_params(memory=None).fit(X)
    assert plain.recall_ == search.best_estimator_.recall_


# -- the curve -------------------------------------------------------------------------


def test_the_curve_is_the_recall_of_each_number_of_lists(blobs):
    X, Q = blobs
    index = lists().fit(X)
    nprobe, recall, seconds = index.recall_curve(Q)
    assert nprobe.tolist() == sorted({1, 2, 4, 8, 16, index.nprobe_, 30})
    for number, found in zip(nprobe.tolist(), recall, strict=True):
        assert found == index.set_params(nprobe=number).score(Q)
    assert (seconds > 0).all() and (seconds < 1).all()
    own = lists().fit(X)
    nprobe, recall, _ = own.recall_curve()
    assert recall[nprobe == own.nprobe_] == own.recall_


def test_codes_without_vectors_have_no_curve_and_no_retune(blobs, parts):
    X, _ = blobs
    index = IVFPQNeighbors(**parts).fit(X)
    for name in ("score", "retune", "recall_curve"):
        assert not hasattr(index, name)
        with pytest.raises(AttributeError) as info:
            getattr(index, name)
        assert "store_vectors=True" in str(info.value.__cause__)
    stored = IVFPQNeighbors(**parts, store_vectors=True).fit(X)
    assert stored.recall_curve()[1][-1] > 0.8


# -- what comes from a file ------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nprobe_", 0),
        ("nprobe_", 2.5),
        ("nprobe_", None),
        ("refine_factor_", 0),
        ("refine_factor_", "auto"),
        ("refine_factor_", 3),
        ("calibration_ids_", np.array([3000])),
        ("calibration_ids_", np.array([-1])),
        ("calibration_ids_", np.array([0.5])),
        ("calibration_ids_", [1, 2]),
        ("calibration_queries_", np.ones((3, 9))),
        ("calibration_queries_", np.ones((3, 10), np.int64)),
        ("calibration_queries_", [[1.0] * 10]),
        ("calibration_queries_", np.full((3, 10), np.inf)),
        ("calibration_queries_", np.ones(10)),
    ],
)
def test_a_damaged_calibration_is_refused(name, value, blobs, parts):
    X, _ = blobs
    index = IVFPQNeighbors(**parts).fit(X)
    setattr(index, name, value)
    data = pickle.dumps(index)
    with pytest.raises(ValueError, match=f"cannot be restored.*{name}"):
        pickle.loads(data)
