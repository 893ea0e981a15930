"""How many threads a task may use."""

from __future__ import annotations

import os
from multiprocessing import current_process
from numbers import Integral

import joblib

# Searches of fewer bytes than this finish sooner on the calling thread than it takes to
# ask joblib how many threads there may be.
_ONE_THREAD_WORK = 2**21


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
        n_threads = joblib.effective_n_jobs(n_jobs)
    return min(n_threads, int(os.environ.get("NUMBA_NUM_THREADS", n_threads)))
