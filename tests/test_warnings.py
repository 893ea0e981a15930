"""Warnings name the line of the user, not one of scikit-learn or joblib."""

import linecache
import pickle

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors, from_faiss
from sklearn_ann.exceptions import FewTrainingRowsWarning, OutgrownListsWarning

X = np.random.default_rng(0).standard_normal((60, 5)).astype(np.float32)
y = X[:, 0] > 0


def assert_named(caught, n_at_least=1):
    """All name a line of this file that is marked."""
    assert len(caught) >= n_at_least
    for warning in caught:
        assert warning.filename == __file__
        assert "# named" in linecache.getline(warning.filename, warning.lineno)


CLASSIFIER = KNeighborsClassifier(3, metric="precomputed")
ESTIMATORS = pytest.mark.parametrize(
    "estimator",
    # Too few rows for lists, and for codewords.
    [IVFFlatNeighbors(3, nlist=2), IVFPQNeighbors(3, nlist=1, m=2)],
    ids=lambda estimator: type(estimator).__name__,
)
WAYS = {
    "fit": lambda index: index.fit(X),  # named
    "fit_transform": lambda index: index.fit_transform(X),  # named
    "partial_fit": lambda index: index.partial_fit(X),  # named
    "pipeline": lambda index: make_pipeline(StandardScaler(), index).fit(X),  # named
    "first of two": lambda index: make_pipeline(index, CLASSIFIER).fit(X, y),  # named
    "nested": lambda index: make_pipeline(make_pipeline(index)).fit(X),  # named
}


@ESTIMATORS
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_few_training_rows(way, estimator):
    with pytest.warns(FewTrainingRowsWarning) as caught:
        way(clone(estimator))
    assert_named(caught)


@ESTIMATORS
def test_few_training_rows_with_a_cache(estimator, tmp_path):
    index = clone(estimator).set_params(memory=str(tmp_path), random_state=0)
    with pytest.warns(FewTrainingRowsWarning) as caught:
        index.fit(X)  # named
        index.fit(X)  # named
    # joblib warns, too, if to write the arguments takes long.
    assert_named([w for w in caught if w.category is FewTrainingRowsWarning], 2)


def test_few_training_rows_of_a_grid_search():
    pipeline = make_pipeline(IVFFlatNeighbors(3, nlist=2), CLASSIFIER)
    search = GridSearchCV(pipeline, {"ivfflatneighbors__nprobe": [1, 2]}, cv=2)
    with pytest.warns(FewTrainingRowsWarning) as caught:
        search.fit(X, y)  # named
    assert_named(caught, 5)


@pytest.mark.parametrize("make", [IVFFlatNeighbors, IVFPQNeighbors])
def test_outgrown_lists(make):
    many = np.resize(X, (10_000, 5)) + np.arange(10_000)[:, None] / 1e4
    index = make(random_state=0).fit(many[:300])
    with pytest.warns(OutgrownListsWarning) as caught:
        index.partial_fit(many)  # named
    assert_named(caught)


def test_few_codewords_of_codes_from_faiss():
    faiss = pytest.importorskip("faiss", reason="makes an index of Faiss")
    index = faiss.index_factory(5, "IVF1,Flat")
    index.train(X)
    index.add(X)
    # Nothing is trained, and warnings are errors.
    assert from_faiss(index).ntotal == 60


def test_another_version(tmp_path, monkeypatch):
    path = tmp_path / "index.joblib"
    with monkeypatch.context() as patch:
        patch.setattr("sklearn_ann._state.__version__", "0.0.1")
        joblib.dump(FlatL2Neighbors().fit(X), path)
        saved = pickle.dumps(FlatL2Neighbors().fit(X))
    with pytest.warns(UserWarning, match=r"saved by sklearn_ann 0\.0\.1") as caught:
        joblib.load(path)  # named
        pickle.loads(saved)  # named
    assert_named(caught, 2)
