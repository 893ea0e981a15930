"""What an estimator has learned: replaced in one step, and seen as it was at one time.

A fit works on a draft of the estimator, which takes over what the draft has learned
when all is done: a fit that fails or is interrupted changes nothing. The attributes are
then those of another dict. A search works with the dict that it has found, so a fit in
another thread does not change what it sees.
"""

from __future__ import annotations

import inspect
import os
import threading
import weakref

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_ann._checks import check_metric
from sklearn_ann._storage import GrowingArrays
from sklearn_ann._stored_index import pack
from sklearn_ann._version import __version__
from sklearn_ann._warnings import warn_caller

# Learned attributes whose names do not end with an underscore.
_PRIVATE = frozenset(
    {
        "_index",
        "_index_dtype",
        "_index_width",
        "_n_features_out",
        "_smallest_list",
        "_storage",
    }
)

# By the ids of the estimators: pickles and copies know nothing of them.
_locks: dict[int, threading.RLock] = {}
_guard = threading.Lock()


def lock_of(estimator):
    """The lock that one fit at a time holds."""
    key = id(estimator)
    with _guard:
        if key not in _locks:
            _locks[key] = threading.RLock()
            weakref.finalize(estimator, _locks.pop, key, None).atexit = False
        return _locks[key]


def _forget_locks():
    # A thread that the child of a fork does not have may hold them.
    global _guard
    _guard = threading.Lock()
    _locks.clear()


def _is_learned(name):
    return name in _PRIVATE or (name.endswith("_") and not name.startswith("_"))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)


def _defaults(cls):
    """Parameters by default: a file of before may lack new ones."""
    parameters = inspect.signature(cls).parameters.values()
    return {x.name: x.default for x in parameters if x.default is not x.empty}


class LearnedStateMixin:
    """Drafts, snapshots and pickles of an estimator.

    The estimator says what follows from an index, `_set_index`, and how it is restored
    from its saved parts, `_restore`.
    """

    # Learned attributes that follow from the index and are not saved.
    _derived = frozenset({"n_samples_fit_", "effective_metric_params_"})

    def __sklearn_is_fitted__(self):
        return "_index" in self.__dict__

    def _snapshot(self):
        """What a search works with: no fit of this estimator changes it meanwhile.

        Parameters that are set meanwhile may be seen.
        """
        # check_is_fitted takes longer than a small search.
        if "_index" not in self.__dict__:
            check_is_fitted(self)
        snapshot = object.__new__(type(self))
        snapshot.__dict__ = self.__dict__
        return snapshot

    def _draft(self):
        """An estimator with the same attributes, to be trained further."""
        draft = object.__new__(type(self))
        draft.__dict__.update(self.__dict__)
        return draft

    def _empty_draft(self):
        """A draft that has learned nothing."""
        draft = self._draft()
        for name in filter(_is_learned, list(vars(draft))):
            del draft.__dict__[name]
        return draft

    def _take_over(self, draft):
        """Replace what was learned by what a draft has learned, in one step."""
        # The other attributes are those of now: they may have been set meanwhile.
        kept = {name: it for name, it in vars(self).items() if not _is_learned(name)}
        learned = {name: it for name, it in vars(draft).items() if _is_learned(name)}
        self.__dict__ = {**kept, **learned}

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
            warn_caller(
                f"This {type(self).__name__} was saved by sklearn_ann {version} and is "
                f"loaded by {__version__}. Fit it again if its answers matter.",
                UserWarning,
            )
        stored = state.pop("_stored_index", None)
        if stored is None and "_index" in state:
            raise ValueError(
                f"This {type(self).__name__} was saved in a form that sklearn_ann "
                f"{__version__} does not read. Fit it again."
            )
        draft = object.__new__(type(self))
        draft.__dict__.update({**_defaults(type(self)), **state})
        if stored is not None:
            try:
                draft._learn(draft._restore(stored))
            except ValueError as error:
                raise ValueError(
                    f"This {type(self).__name__} cannot be restored. Its data are "
                    f"damaged, or have the form of another version: {error}"
                ) from error
        self.__dict__ = vars(draft)

    def _adopt(self, index, **learned):
        """Be fitted, in one step, with an index that was not built by `fit`.

        `learned` are the attributes that do not follow from it.
        """
        draft = self._empty_draft()
        vars(draft).update(learned)
        draft._learn(index)
        self._take_over(draft)
        return self

    def _learn(self, index):
        """Remember an index from elsewhere, if the other attributes fit it."""
        self._check_learned(index)
        self._storage = GrowingArrays()
        self._set_index(index)

    def _check_learned(self, index):
        """Refuse attributes that do not fit the index."""
        metric = vars(self).get("effective_metric_")
        names = vars(self).get("feature_names_in_")
        _, (_, d) = self._dtype_and_shape(index)
        check_metric(metric)
        n_features = d - (metric == "cosine")
        if vars(self).get("n_features_in_") != n_features:
            raise ValueError(f"n_features_in_ must be {n_features}.")
        if names is not None and np.shape(names) != (n_features,):
            raise ValueError(f"feature_names_in_ must be {n_features} names.")
