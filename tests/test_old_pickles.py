"""Files that were written before are read, and give the answers of before."""

import pickle

import old_pickles
import pytest
from numpy.testing import assert_allclose, assert_array_equal

PATHS = sorted(old_pickles.FOLDER.glob("*.pkl"))

pytestmark = [
    # Of a later version.
    pytest.mark.filterwarnings("ignore:.* was saved by sklearn_ann"),
    pytest.mark.filterwarnings("ignore:X does not have valid feature names"),
]


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def saved(request):
    return pickle.loads(request.param.read_bytes())


def assert_as_before(found, expected):
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        if wanted.dtype.kind == "i":
            assert_array_equal(found[name], wanted, strict=True)
        else:
            # Sums in another order, on another processor.
            assert_allclose(found[name], wanted, rtol=1e-12, atol=1e-12)
            assert found[name].dtype == wanted.dtype


def test_there_is_a_file_of_each_estimator():
    estimators = old_pickles.make_estimators()
    assert [path.stem for path in PATHS] == sorted(estimators)
    assert sum(path.stat().st_size for path in PATHS) < 100_000


def test_the_answers_are_those_of_before(saved):
    found = old_pickles.answers(saved["estimator"], saved["Q"])
    assert_as_before(found, saved["answers"])


def test_a_file_of_before_can_be_written_again(saved):
    estimator = pickle.loads(pickle.dumps(saved["estimator"]))
    assert_as_before(old_pickles.answers(estimator, saved["Q"]), saved["answers"])


def test_rows_are_added_to_what_was_read(saved):
    index, Q = saved["estimator"], saved["Q"]
    index.partial_fit(Q)
    assert index.ntotal == 90 + len(Q)
    assert index.kneighbors(Q)[1].max() >= 90


def test_the_names_of_features_are_known():
    saved = pickle.loads((old_pickles.FOLDER / "flat_frame.pkl").read_bytes())
    assert_array_equal(saved["estimator"].feature_names_in_, list("abcd"))
