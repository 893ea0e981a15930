"""Warnings that name the line of the user's program, however it came here."""

from __future__ import annotations

import sys
import warnings

# Packages between a line of the user and a warning: a pipeline fits its steps, joblib
# runs the fits of a grid search, and pickle restores an estimator.
_IN_BETWEEN = frozenset({"sklearn_ann", "sklearn", "joblib", "pickle"})


def warn_caller(message, category):
    """Warn, and give the nearest line outside of these packages as the place.

    A fixed ``stacklevel`` would name one of their wrappers: how many there are depends
    on the way. In a thread of joblib, the line that started it is the nearest.
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_in_between(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _is_in_between(frame):
    package, _, _ = frame.f_globals.get("__name__", "").partition(".")
    return package in _IN_BETWEEN
