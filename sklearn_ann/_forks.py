"""Locks that are held while the process forks.

The child of a fork has one thread. A lock that another thread held at that moment is
held for ever there: nobody is left to release it. So the fork waits for the end of what
needs such a lock.
"""

from __future__ import annotations

import contextlib

# Hooks run last first. Imported here, logging takes its own lock after ours: imports
# of Numba, which the fork waits for, need that lock.
import logging  # noqa: F401
import os

_locks: list[contextlib.AbstractContextManager[object]] = []
_held = contextlib.ExitStack()


def hold_over_forks(lock):
    """Take a lock before each fork, and release it after in parent and child.

    Parameters
    ----------
    lock : context manager
        Reentrant. A thread that holds it may wait for those that are registered later,
        not for earlier ones.
    """
    _locks.append(lock)


def _take():
    # More of them may be registered while the first one is waited for.
    for lock in _locks:
        _held.enter_context(lock)


def _release():
    # Emptied first: with the last lock gone another thread may fork.
    _held.pop_all().close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_take, after_in_parent=_release, after_in_child=_release)
