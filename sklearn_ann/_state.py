"""What an estimator has learned: replaced in one step, and seen as it was at one time.

A fit works on a twin of the estimator, which takes over what the twin has learned when
all is done: a fit that fails or is interrupted changes nothing. The attributes are then
those of another dict. A search works with the dict that it has found, so a fit in
another thread does not change what it sees.
"""

from __future__ import annotations

import os
import threading
import warnings
import weakref

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_ann._checks import METRICS
from sklearn_ann._storage import GrowingArrays
from sklearn_ann._stored_index import pack
from sklearn_ann._version import __version__

# Learned attributes whose names do not end with an underscore.
_PRIVATE = frozenset({"_index", "_index_dtype", "_n_features_out", "_storage"})

# Locks stand beside the estimators: pickles and copies know nothing of them.
_locks, _guard = weakref.WeakKeyDictionary(), threading.Lock()


def lock_of(estimator):
    """The lock that one fit at a time holds."""
    with _guard:
        return _locks.setdefault(estimator, threading.RLock())


def _forget_locks():
    # A thread that the child of a fork does not have may hold them.
    global _locks, _guard
    _locks, _guard = weakref.WeakKeyDictionary(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)


class LearnedStateMixin:
    """Twins, snapshots and pickles of an estimator.

    The estimator says what follows from an index, `_set_index`, and how it is restored
    from what is saved of it, `_restore`.
    """

    # Learned attributes that follow from the index and are not saved.
    _derived = frozenset({"n_samples_fit_", "effective_metric_params_"})

    def __sklearn_is_fitted__(self):
        return "_index" in self.__dict__

    def _snapshot(self):
        """What a search works with: no fit of this estimator changes it meanwhile."""
        # check_is_fitted takes longer than a small search.
        if "_index" not in self.__dict__:
            check_is_fitted(self)
        snapshot = object.__new__(type(self))
        snapshot.__dict__ = self.__dict__
        return snapshot

    def _twin(self):
        """An estimator with the same attributes, to be trained further."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def _untrained(self):
        """A twin that has learned nothing."""
        twin = self._twin()
        for name in vars(self):
            if name in _PRIVATE or (name.endswith("_") and not name.startswith("_")):
                del twin.__dict__[name]
        return twin

    def _take_over(self, twin):
        """Replace what was learned by what a twin has learned, in one step."""
        # Parameters may have been set meanwhile.
        self.__dict__ = {**vars(twin), **self.get_params(deep=False)}

    def __getstate__(self):
        state = {**super().__getstate__(), "_sklearn_ann_version": __version__}
        if "_index" in state:
            state["_stored_index"] = pack(state["_index"])
            for name in _PRIVATE | self._derived:
                state.pop(name, None)
        return state

    def __setstate__(self, state):
        state = dict(state)
        version = state.pop("_sklearn_ann_version", "unknown")
        if version != __version__:
            warnings.warn(
                f"This {type(self).__name__} was saved by sklearn_ann {version} and is "
                f"loaded by {__version__}. Fit it again if its answers matter.",
                UserWarning,
                stacklevel=2,
            )
        stored = state.pop("_stored_index", None)
        if stored is None and "_index" in state:
            raise ValueError(
                f"This {type(self).__name__} was saved in a form that sklearn_ann "
                f"{__version__} does not read. Fit it again."
            )
        super().__setstate__(state)
        if stored is None:
            return
        try:
            index = self._restore(stored)
            self._check_learned(index)
        except ValueError as error:
            raise ValueError(
                f"This {type(self).__name__} cannot be restored, its data are damaged: "
                f"{error}"
            ) from error
        self._storage = GrowingArrays()
        self._set_index(index)

    def _check_learned(self, index):
        """Refuse attributes that do not fit the index."""
        learned, (_, (_, d)) = vars(self), self._dtype_and_shape(index)
        metric, names = (
            learned.get(name) for name in ("effective_metric_", "feature_names_in_")
        )
        if not isinstance(metric, str) or metric not in METRICS:
            raise ValueError(f"effective_metric_ must be one of {', '.join(METRICS)}.")
        n_features = d - (metric == "cosine")
        if learned.get("n_features_in_") != n_features:
            raise ValueError(f"n_features_in_ must be {n_features}.")
        if names is not None and np.shape(names) != (n_features,):
            raise ValueError(f"feature_names_in_ must be {n_features} names.")
