"""How many threads a task may use."""

from __future__ import annotations

import os
import threading
import time
from multiprocessing import current_process
from numbers import Integral

import joblib
from joblib.parallel import get_active_backend

# Searches of fewer bytes than this finish sooner on the calling thread than it takes to
# ask joblib how many threads there may be.
_ONE_THREAD_WORK = 2**21

# Seconds for which an answer of joblib is remembered. It reads files of the system for
# one, which takes longer than many a search.
_REMEMBERED = 1.0

_answers: dict[tuple[object, ...], tuple[int, float]] = {}


def count_threads(n_jobs, work):
    """Threads for a task over `work` bytes of codes: `n_jobs`, within limits.

    joblib's workers are told their share of the machine: by an environment variable in
    a process, by the active backend in a thread. Workers of a multiprocessing.Pool have
    one thread, unless `n_jobs` says how many.
    """
    if n_jobs is not None and (not isinstance(n_jobs, Integral) or n_jobs == 0):
        raise ValueError(f"n_jobs must be None or a non-zero int, got {n_jobs!r}.")
    if n_jobs == 1 or work < _ONE_THREAD_WORK:
        return 1
    n_jobs = -1 if n_jobs is None else int(n_jobs)
    if current_process().daemon:
        # joblib would warn that it starts no processes here, which nobody asks for.
        n_threads = max(n_jobs, 1)
    else:
        n_threads = _effective_n_jobs(n_jobs)
    return min(n_threads, int(os.environ.get("NUMBA_NUM_THREADS", n_threads)))


def _effective_n_jobs(n_jobs):
    """As joblib's function, which is asked once a second in each context."""
    backend, _ = get_active_backend()
    is_main = threading.current_thread() is threading.main_thread()
    context = type(backend), backend.nesting_level, is_main, n_jobs
    n_threads, until = _answers.get(context, (1, 0.0))
    now = time.monotonic()
    if now >= until:
        n_threads = joblib.effective_n_jobs(n_jobs)
        _answers[context] = n_threads, now + _REMEMBERED
    return n_threads
