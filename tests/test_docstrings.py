"""Every public name is documented, in numpydoc's form, and the form is true."""

import inspect

import numpy as np
import pytest

import sklearn_ann
from sklearn_ann import FlatL2Neighbors, datasets, exceptions

pytest.importorskip("numpydoc", reason="the documentation is checked with numpydoc")

from numpydoc.docscrape import ClassDoc
from numpydoc.validate import validate

# Of numpydoc's checks, those of substance.
CODES = {
    "GL03",  # double blank lines
    "GL06",  # unknown section
    "GL07",  # sections out of order
    "GL08",  # no docstring
    "SS01",  # no summary
    "SS02",  # summary without a capital
    "SS03",  # summary without a period
    "SS06",  # summary of more than one line
    "PR01",  # parameters that are not documented
    "PR02",  # documented parameters that do not exist
    "PR03",  # parameters in another order
    "PR04",  # parameters without a type
    "PR07",  # parameters without a description
    "PR10",  # no space before the colon of a parameter
    "RT01",  # no Returns
    "RT03",  # returned values without a description
    "YD01",  # no Yields
}

CLASSES = [value for value in vars(sklearn_ann).values() if inspect.isclass(value)]
ESTIMATORS = [cls for cls in CLASSES if hasattr(cls, "fit")]


def names():
    for cls in CLASSES:
        name = f"sklearn_ann.{cls.__name__}"
        yield name
        for member, function in inspect.getmembers(cls, inspect.isroutine):
            if not member.startswith("_") and is_ours(function):
                yield f"{name}.{member}"
    for name, value in vars(sklearn_ann).items():
        if inspect.isfunction(value):
            yield f"sklearn_ann.{name}"
    yield from (f"sklearn_ann.datasets.{name}" for name in datasets.__all__)
    yield from (f"sklearn_ann.exceptions.{name}" for name in exceptions.__all__)


def is_ours(function):
    return function.__module__.partition(".")[0] == "sklearn_ann"


@pytest.mark.parametrize("name", list(names()))
def test_docstring(name):
    errors = [error for error in validate(name)["errors"] if error[0] in CODES]
    assert not errors


def test_the_search_methods_are_among_the_names():
    methods = {name.rpartition(".")[2] for name in names()}
    assert {"fit", "kneighbors", "transform", "reconstruct"} <= methods
    assert {"from_faiss", "FewTrainingRowsWarning"} <= methods
    assert {estimator.__name__ for estimator in ESTIMATORS} >= {
        "FlatL2Neighbors",
        "IVFFlatNeighbors",
    }


@pytest.mark.filterwarnings("ignore::sklearn_ann.exceptions.FewTrainingRowsWarning")
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda cls: cls.__name__)
def test_documented_attributes_are_the_fitted_ones(estimator):
    pd = pytest.importorskip("pandas", reason="names of features need a data frame")
    frame = pd.DataFrame(np.eye(10), columns=[f"x{i}" for i in range(10)])
    fitted = estimator().fit(frame)
    found = {name for name in vars(fitted) if name.endswith("_")}
    found |= {
        name
        for name, value in inspect.getmembers(estimator)
        if isinstance(value, property) and not name.startswith("_")
    }
    documented = {attribute.name for attribute in ClassDoc(estimator)["Attributes"]}
    assert documented == found


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda cls: cls.__name__)
def test_documented_defaults_are_the_real_ones(estimator):
    defaults = estimator().get_params()
    for parameter in ClassDoc(estimator)["Parameters"]:
        assert parameter.type.endswith(f"default={defaults[parameter.name]!r}")


def test_the_html_of_the_estimator_links_to_no_page_that_does_not_exist():
    # scikit-learn would look for the page of the class on its own site.
    html = FlatL2Neighbors(n_neighbors=7).fit(np.eye(9))._repr_html_()
    assert "n_neighbors" in html
    assert "FlatL2Neighbors.html" not in html
