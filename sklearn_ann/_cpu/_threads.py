"""A small pool of threads that survives forks and shares work by the block."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor

# Threads start when they are first needed; this only bounds how many can exist.
_MAX_WORKERS = 256

_pool = None


def _get_pool():
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(_MAX_WORKERS, thread_name_prefix="sklearn_ann")
    return _pool


def _forget_pool():
    # The child of a fork has a copy of the pool without its threads: work handed to
    # it would wait for ever.
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def split(n, n_parts):
    """Cut range(n) into parts of almost the same length: pairs of start and stop."""
    edges = [n * part // n_parts for part in range(n_parts + 1)]
    return list(itertools.pairwise(edges))


def cut(n, length):
    """Cut range(n) into parts of a length, the last one shorter: start and stop."""
    return list(itertools.pairwise([*range(0, n, length), n]))


def run_blocks(kernel, blocks, n_threads):
    """Call ``kernel(*block)`` for every block, on up to `n_threads` threads.

    The calling thread takes blocks as well, so one thread means no hand-over at all,
    and several callers at once cannot wait for each other. An exception, Ctrl-C
    included, stops the hand-out; it is raised when the blocks under way have ended.

    Parameters
    ----------
    kernel : callable
        Releases the GIL while it works.
    blocks : iterable of tuple
        The arguments of each call.
    n_threads : int
        Threads at work, the caller among them.
    """
    if n_threads == 1:
        for block in blocks:
            kernel(*block)
        return
    pending, errors = deque(blocks), []
    changed, n_helping, is_over = threading.Condition(), 0, False

    def work():
        while True:
            try:
                block = pending.popleft()
            except IndexError:
                return
            try:
                kernel(*block)
            except BaseException:
                pending.clear()
                raise

    def help_out():
        nonlocal n_helping
        with changed:
            if is_over:
                return  # nothing is left to do
            n_helping += 1
        try:
            work()
        except BaseException as error:
            errors.append(error)
        with changed:
            n_helping -= 1
            changed.notify()

    # Where no thread can be started, at the end of the process or because there are too
    # many, those that there are do the work. The pool keeps what it was given all the
    # same, and may do it later: so we count who helps, instead of waiting for futures.
    with contextlib.suppress(RuntimeError):
        for _ in range(min(n_threads, len(pending)) - 1):
            _get_pool().submit(help_out)
    try:
        work()
    finally:
        with changed:
            is_over = True
            while n_helping:
                changed.wait()
    if errors:
        raise errors[0]
