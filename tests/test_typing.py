"""Everything public is typed. mypy checks what the types say: typing_consumer.py."""

import inspect
import typing
from pathlib import Path

import pytest
import test_docstrings

import sklearn_ann
from sklearn_ann import datasets

ESTIMATORS = test_docstrings.ESTIMATORS
EACH_ESTIMATOR = pytest.mark.parametrize("estimator", ESTIMATORS)


def public_functions():
    for cls in test_docstrings.CLASSES:
        yield pytest.param(cls.__init__, id=cls.__name__)
        for name, member in inspect.getmembers(cls):
            function = member.fget if isinstance(member, property) else member
            if name.startswith("_") or not inspect.isroutine(function):
                continue
            if test_docstrings.is_ours(function):
                yield pytest.param(function, id=f"{cls.__name__}.{name}")
    for name in [*sklearn_ann.__all__, *datasets.__all__]:
        function = getattr(sklearn_ann, name, None) or getattr(datasets, name)
        if inspect.isfunction(function):
            yield pytest.param(function, id=name)


FUNCTIONS = list(public_functions())


@pytest.mark.parametrize("function", FUNCTIONS)
def test_all_parameters_and_the_result_are_typed(function):
    function = inspect.unwrap(function)
    names = set(inspect.signature(function).parameters) - {"self"}
    hints = typing.get_type_hints(function)
    assert hints.keys() == names | {"return"}


@EACH_ESTIMATOR
def test_fitted_attributes_are_typed(estimator):
    documented = test_docstrings.ClassDoc(estimator)["Attributes"]
    hints = typing.get_type_hints(estimator)
    assert len(documented) > 5
    for attribute in documented:
        is_property = isinstance(getattr(estimator, attribute.name, None), property)
        assert is_property or attribute.name in hints, attribute.name


def test_the_program_for_the_type_checker_uses_all_of_it():
    program = Path(__file__).with_name("typing_consumer.py").read_text("utf-8")
    names = {param.id.rpartition(".")[2] for param in FUNCTIONS}
    assert {"fit", "kneighbors", "IVFPQNeighbors", "ntotal", "warm_up"} < names
    assert not {name for name in names if f"{name}(" not in program} - {
        "imbalance_factor_",
        "is_trained",
        "list_sizes_",
        "ntotal",
    }
    attributes = {name for cls in ESTIMATORS for name in typing.get_type_hints(cls)}
    for name in attributes - {"effective_metric_params_", "feature_names_in_"}:
        assert f"index.{name}" in program, name


def test_the_package_says_that_it_is_typed():
    assert Path(sklearn_ann.__file__).with_name("py.typed").exists()
