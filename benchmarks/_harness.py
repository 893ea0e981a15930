"""Workers that run one peer each, and the clock that asks them in turn."""

import os
import pickle
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
_START = time.perf_counter()

# A measurement begins after this many seconds with nothing at work: threads of OpenMP
# and OpenBLAS spin for a while after a call, and one busy core of two makes some peers
# five times slower. After so many attempts it begins anyway, and that is reported.
_SETTLE = 0.05
ATTEMPTS = 100

# A request repeats a fast call until this many seconds are filled.
_FILL = 0.005
_MAX_LOOPS = 100

# Calls longer than the first are not warmed up before each measurement, calls longer
# than the second are measured three times only.
_SLOW, _VERY_SLOW = 0.2, 2.0

# Seconds for one peer and one line of a table, after which five measurements do.
_BUDGET = 20.0

# Variables that would change a peer.
_DROPPED = ("OMP_", "GOMP_", "KMP_", "OPENBLAS_", "MKL_", "FAISS_", "NUMBA_CPU_")


# The tiers of processors that this one is not. The name alone would leave Numba with
# the features of this one.
_AVX2 = "+avx,+avx2,+bmi,+bmi2,+cx16,+f16c,+fma,+fxsr,+lzcnt,+movbe,+pclmul,+popcnt,"
_AVX2 += "+sse,+sse2,+sse3,+sse4.1,+sse4.2,+ssse3,+xsave,+xsaveopt"
TIERS = {
    "avx2": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": _AVX2},
    "portable": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
}


class PeerProcess(NamedTuple):
    """How to start a peer: ``module:class``, environment variables, and arguments."""

    peer: str
    environment: dict = {}
    arguments: tuple = ()


def log(text):
    """Progress, apart from the results; with the seconds since the start."""
    print(f"{time.perf_counter() - _START:7.1f} {text}", file=sys.stderr, flush=True)


def clean_environment(changes):
    """Our environment without what would change a peer; the checkout is imported."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_DROPPED) and not name.endswith("_NUM_THREADS")
    }
    return {**kept, "PYTHONPATH": str(ROOT), **changes}


def blas_settings():
    """Environments for OpenBLAS: the kernels it selects itself, AVX2 and AVX-512 ones.

    An old OpenBLAS does not know a new processor and selects kernels of one much older.
    """
    settings = {"default": {}}
    info = Path("/proc/cpuinfo")
    flags = info.read_text() if info.exists() else ""
    for kernels, flag in {"Haswell": "avx2", "SkylakeX": "avx512f"}.items():
        if flag in flags:
            settings[kernels] = {"OPENBLAS_CORETYPE": kernels}
    return settings


def on_each_blas(name, peer):
    """Processes of one peer, by name, for each of these settings."""
    return {
        f"{name} ({setting} BLAS)": PeerProcess(peer, environment)
        for setting, environment in blas_settings().items()
    }


def faiss_index(key, environment):
    """A process with an index that Faiss's index_factory makes of a key."""
    return PeerProcess("_ivf_peers:FaissFactory", environment, (key,))


class Worker:
    """A peer in a process of its own."""

    def __init__(self, start):
        self.peer = start.peer
        script = Path(__file__).with_name("_worker.py")
        self.process = subprocess.Popen(
            [sys.executable, script, start.peer, *map(str, start.arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=clean_environment(start.environment),
        )

    def ask(self, method, *args):
        """Call a method of the peer over there and wait for what it returns."""
        try:
            pickle.dump((method, args), self.process.stdin)
            self.process.stdin.flush()
            is_good, reply = pickle.load(self.process.stdout)
        except (EOFError, BrokenPipeError) as error:
            raise RuntimeError(f"{self.peer} died in {method}") from error
        if not is_good:
            raise RuntimeError(f"{self.peer} failed in {method}:\n{reply}")
        return reply

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.kill()
        self.process.communicate()


class Tuned:
    """A worker that is asked with certain parameters of its search.

    One worker can take part in a measurement several times, with other parameters.
    """

    def __init__(self, worker, **parameters):
        self.worker, self.parameters = worker, parameters

    def ask(self, method, *args):
        self.worker.ask("set_search", self.parameters)
        return self.worker.ask(method, *args)


@contextmanager
def start_workers(peers, data, k, **arrays):
    """Workers by name, each with an index of the data set; ended at the end.

    They find further arrays in their folder as files ``NAME.npy``.
    """
    with ExitStack() as stack:
        workers = {}
        with tempfile.TemporaryDirectory() as folder:
            for name, array in {"X": data.X, "Q": data.Q, **arrays}.items():
                np.save(Path(folder) / f"{name}.npy", array)
            for name, start in peers.items():
                log(f"{data.name}: building {name}")
                workers[name] = stack.enter_context(Worker(start))
                workers[name].ask("prepare", folder, k)
        yield workers


def describe(peers):
    """What each peer runs on: version, SIMD level, BLAS."""
    descriptions = {}
    for name, start in peers.items():
        with Worker(start) as worker:
            descriptions[name] = worker.ask("describe")
    return descriptions


class Timing:
    """Measurements of one peer for one line of a table."""

    def __init__(self):
        self.rounds = []  # median seconds of each round
        self.answers = []  # (number of the first query, ids) of each round
        self.n_calls = 0
        self.n_disturbed = 0
        self.spent = 0.0

    @property
    def seconds(self):
        # Noise only adds. On a machine shared with others it may take half of the
        # rounds, all peers by the same factor: a median would compare a peer that had
        # it with one that had not.
        return np.percentile(self.rounds, 25)

    def add(self, seconds, first, ids):
        self.rounds.append(median(seconds))
        self.answers.append((first, ids))
        self.n_calls += len(seconds)
        self.spent += sum(seconds)

    def is_enough(self, n_rounds, budget):
        if len(self.rounds) >= 3 and self.seconds > _VERY_SLOW:
            return True
        if self.spent > budget:
            n_rounds = min(n_rounds, 5)
        return len(self.rounds) >= n_rounds

    def as_dict(self):
        return {
            "seconds": self.seconds,
            "median_round": median(self.rounds),
            "fastest_round": min(self.rounds),
            "slowest_round": max(self.rounds),
            "rounds": len(self.rounds),
            "calls": self.n_calls,
            "disturbed_rounds": self.n_disturbed,
        }


def measure(
    workers,
    nq,
    n_threads,
    n_queries,
    *,
    quick=False,
    loops=None,
    n_singles=None,
    budget=_BUDGET,
):
    """Time a batch of `nq` queries on all workers, in turn.

    Every round takes other queries where there are enough, the same for all peers. A
    round repeats a call shorter than a few milliseconds, `loops` times if given, and
    counts with the median. With `n_singles` a round is a call for each of so many
    queries, one at a time, instead of the same query again.

    Returns
    -------
    timings : dict of Timing, by name of the worker
    """
    n_rounds = 2 if quick else 10 if n_singles else 30 if nq == 1 else 7
    span = n_singles or nq
    timings = {name: Timing() for name in workers}
    last = {}
    for name, worker in workers.items():
        worker.ask("set_threads", n_threads)
        last[name] = worker.ask("time", 0, nq, 1, False)[0][-1]
    waiting, n_done = list(workers), 0
    while waiting:
        first = n_done * span % (n_queries - span + 1)
        for name in waiting:
            fill = int(min(max(_FILL / last[name], 1), _MAX_LOOPS))
            timings[name].n_disturbed += not settle(1 if quick else ATTEMPTS)
            warm_up = last[name] < _SLOW
            request = "time", first, nq, loops or fill, warm_up
            if n_singles:
                request = "time_singles", first, n_singles
            seconds, ids = workers[name].ask(*request)
            timings[name].add(seconds, first, ids)
            last[name] = median(seconds)
        n_done += 1
        waiting = [
            name for name in waiting if not timings[name].is_enough(n_rounds, budget)
        ]
    return timings


def settle(n_attempts):
    """Wait until the machine is idle; whether it was at last."""
    for _ in range(n_attempts):
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
