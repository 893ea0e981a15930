"""The only file that knows private names of scikit-learn.

Each says what breaks here when scikit-learn moves or changes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

# `fit` and `partial_fit` check their parameters with it, and tell whether checks of
# nested estimators may be skipped. Without it a fit takes parameters of any kind.
from sklearn.base import _fit_context

# An ImportError that says what to install. Without it a display cannot be drawn.
from sklearn.utils._optional_dependencies import check_matplotlib_support

# What `_parameter_constraints` of an estimator are made of, an attribute that
# `_fit_context` and `check_estimator` read. Without them no estimator can be imported.
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

__all__ = [
    "HasMethods",
    "Interval",
    "StrOptions",
    "check_matplotlib_support",
    "fit_context",
    "validate_parameters",
]

_Method = TypeVar("_Method", bound=Callable[..., Any])


def fit_context(method: _Method) -> _Method:
    """Check the parameters of the estimator before a method that fits it.

    Typed, unlike scikit-learn's decorator: the method keeps its signature.
    """
    return _fit_context(prefer_skip_nested_validation=True)(method)


def validate_parameters(estimator):
    """Check the parameters of an estimator that is fitted by other means than `fit`.

    `_validate_params` is what `_fit_context` calls. Without it `from_faiss` takes
    parameters of any kind.
    """
    estimator._validate_params()
