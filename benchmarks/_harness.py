"""Peers in processes of their own, and the clock that asks them in turn.

What makes a comparison fair:

- All peers have the same rows, the same queries and the same number of threads. Their
  answers are checked, and recall stands beside each time.
- Each peer runs in a process of its own. Several OpenBLAS and OpenMP runtimes in one
  process disturb each other, and some of their settings are read at the start only.
- Each peer has its best settings. What calls a BLAS runs with every kind of kernels
  that the processor has: an old OpenBLAS does not know a new processor and selects the
  kernels of a much older one. A ratio is to the fastest of these processes.
- Environment variables that would change a peer do not reach it.
- The peers take turns, round by round: what disturbs the machine disturbs all of them.
  A round begins when the machine is idle, warms the peer up, and counts with the median
  of its calls. A peer counts with the first quartile of its rounds: noise only adds,
  and a shared machine may slow half of the rounds of one peer and none of another.
- Single queries are different ones in a loop: a query that is repeated finds its lists
  in the cache.
- Compiling is not searching: the first call is measured apart.
"""

import importlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
_START = time.perf_counter()

# A round begins after this many seconds with nothing at work: threads of OpenMP and
# OpenBLAS spin for a while after a call, and one busy core of two makes some peers five
# times slower. After so many attempts it begins anyway, and that is reported.
_SETTLE = 0.05
_ATTEMPTS = 100

# A round repeats a fast call until this many seconds are filled.
_FILL = 0.005
_MAX_LOOPS = 100

# A round of single queries has as many, or few where a call takes so many seconds.
_SLOW_SINGLE, _FEW_SINGLES = 0.01, 10

# Calls longer than the first are not warmed up before each round, calls longer than the
# second are measured three times only.
_SLOW, _VERY_SLOW = 0.2, 2.0

# Variables that would change a peer.
_DROPPED = ("OMP_", "GOMP_", "KMP_", "OPENBLAS_", "MKL_", "FAISS_", "NUMBA_CPU_")

# Environments for OpenBLAS: the kernels that it selects, and those for AVX2 and AVX-512
# where the processor has them. What does not run with all has the widest.
_CPU = Path("/proc/cpuinfo")
_FLAGS = _CPU.read_text() if _CPU.exists() else ""
_BLAS = {"default": {}}
for _kernels, _flag in {"Haswell": "avx2", "SkylakeX": "avx512f"}.items():
    if _flag in _FLAGS:
        _BLAS[_kernels] = {"OPENBLAS_CORETYPE": _kernels}
WIDEST = [*_BLAS.values()][-1]

# The tiers of processors that this one is not. The name alone would leave Numba with
# the features of this one.
_AVX2 = "+avx,+avx2,+bmi,+bmi2,+cx16,+f16c,+fma,+fxsr,+lzcnt,+movbe,+pclmul,+popcnt,"
_AVX2 += "+sse,+sse2,+sse3,+sse4.1,+sse4.2,+ssse3,+xsave,+xsaveopt"
TIERS = {
    "avx2": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": _AVX2},
    "portable": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
}


def log(text):
    """Progress, apart from the results; with the seconds since the start."""
    print(f"{time.perf_counter() - _START:7.1f} {text}", file=sys.stderr, flush=True)


def seconds_of(call):
    """Seconds of a call, and what it returns."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


class PeerProcess(NamedTuple):
    """How to start a peer: its class, its arguments, its variables.

    The class is one of ``_peers.py``, or has the name of its module before a dot.
    """

    name: str
    arguments: dict = {}
    environment: dict = {}


def class_of(name):
    """The class of a peer by its name."""
    module, _, name = name.rpartition(".")
    return getattr(importlib.import_module(module or "_peers"), name)


def on_each_blas(name, peer, **arguments):
    """Processes of one peer, by name, for each setting of BLAS."""
    return {
        f"{name} ({setting} BLAS)": PeerProcess(peer, arguments, environment)
        for setting, environment in _BLAS.items()
    }


def faiss_index(key):
    """An index of Faiss with the widest kernels, by its key in index_factory."""
    return PeerProcess("Faiss", {"key": key}, WIDEST)


@contextmanager
def start(peer):
    """A function that calls a method of a peer in a process of its own.

    Keywords are parameters of its search.
    """
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_DROPPED) and not name.endswith("_NUM_THREADS")
    }
    process = subprocess.Popen(
        [sys.executable, __file__, peer.name, json.dumps(peer.arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**variables, "PYTHONPATH": str(ROOT), **peer.environment},
    )

    def ask(method, *args, **search):
        try:
            pickle.dump((method, args, search), process.stdin)
            process.stdin.flush()
            is_good, reply = pickle.load(process.stdout)
        except (EOFError, BrokenPipeError) as error:
            raise RuntimeError(f"{peer} died in {method}") from error
        if not is_good:
            raise RuntimeError(f"{peer} failed in {method}:\n{reply}")
        return reply

    try:
        yield ask
    finally:
        process.kill()
        process.communicate()


def _serve():
    """Obey the requests that arrive on stdin: the other side of `start`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started us ends us
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not end up among the replies
    name, arguments = sys.argv[1:]
    peer = class_of(name)(**json.loads(arguments))
    while True:
        try:
            method, args, search = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            if search:
                peer.set_search(search)
            reply = True, getattr(peer, method)(*args)
        except Exception:
            reply = False, traceback.format_exc()
        pickle.dump(reply, replies)
        replies.flush()


@dataclass
class Timing:
    """Measurements of one peer for one line of a table."""

    rounds: list = field(default_factory=list)  # median seconds of each
    answers: dict = field(default_factory=dict)  # ids by number of the first query
    n_disturbed: int = 0
    spent: float = 0.0

    @property
    def seconds(self):
        return float(np.percentile(self.rounds, 25))

    def is_enough(self, n_rounds, budget):
        if self.spent > budget:
            n_rounds = 3 if self.seconds > _VERY_SLOW else 5
        return len(self.rounds) >= n_rounds


def measure(peers, nq, n_threads, n_queries, budget, quick=False):
    """Time searches for `nq` of `n_queries` queries on all peers, in turn.

    Every round takes other queries where there are enough, the same for all peers. A
    round of batches repeats a call shorter than a few milliseconds. A round of single
    queries is a call for each of some. After `budget` seconds for one peer five rounds
    do. `peers` are functions as of `start`, by name. Returns a `Timing` for each.
    """
    n_rounds = 2 if quick else 10 if nq == 1 else 7
    timings, last = {name: Timing() for name in peers}, {}
    for name, ask in peers.items():
        ask("set_threads", n_threads)
        last[name] = ask("time", [(0, nq)], False)[0][0]
    # All peers get the same single queries, fewer where one of them is slow.
    n_singles = _MAX_LOOPS if max(last.values()) < _SLOW_SINGLE else _FEW_SINGLES
    span = n_singles if nq == 1 else nq
    waiting, n_done = list(peers), 0
    while waiting:
        first = n_done * span % (n_queries - span + 1)
        for name in waiting:
            timing = timings[name]
            loops = int(min(max(_FILL / last[name], 1), _MAX_LOOPS))
            calls = [(first, first + nq)] * loops
            if nq == 1:
                calls = [(i, i + 1) for i in range(first, first + n_singles)]
            timing.n_disturbed += not settle(quick)
            is_slow = last[name] >= _SLOW
            seconds, ids = peers[name]("time", calls, not is_slow)
            last[name] = median(seconds)
            timing.rounds.append(last[name])
            timing.answers[first] = ids
            timing.spent += sum(seconds)
        n_done += 1
        waiting = [x for x in waiting if not timings[x].is_enough(n_rounds, budget)]
    return timings


def settle(quick=False):
    """Wait until the machine is idle; whether it was at last."""
    for _ in range(1 if quick else _ATTEMPTS):
        before = _busy_ticks()
        time.sleep(_SETTLE)
        if _busy_ticks() - before <= 1:
            return True
    return False


def _busy_ticks():
    """Hundredths of a second that all cores have worked so far; 0 where unknown."""
    statistics = Path("/proc/stat")
    if not statistics.exists():
        return 0
    ticks = [int(word) for word in statistics.read_text().split()[1:9]]
    _user, _nice, _system, idle, waiting, *_ = ticks
    return sum(ticks) - idle - waiting


if __name__ == "__main__":
    _serve()
