"""Exact search: FlatL2Neighbors beside Faiss and scikit-learn's brute force."""

import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import joblib
import numpy as np
from _harness import PeerProcess, clean_environment, faiss_index, log, on_each_blas
from _measure import N_QUERIES, Case, speed, tiers

from sklearn_ann import FlatL2Neighbors

NPROBES = defaultdict(lambda: [None])  # there are no lists
OURS = PeerProcess("Ours", {"estimator": "FlatL2Neighbors"})
FAISSES = on_each_blas("Faiss Flat", "Faiss", key="Flat")
SKLEARNS = on_each_blas("scikit-learn", "SklearnBrute")
# Panorama calls no BLAS: its times at all settings are the same.
PEERS = {"ours": OURS, **FAISSES, "Faiss Panorama": faiss_index("FlatL2Panorama8")}
PEERS |= SKLEARNS
RIVALS = {"Faiss Flat": [*FAISSES], "Faiss Panorama": ["Faiss Panorama"]}
RIVALS["scikit-learn"] = [*SKLEARNS]
TIERED = {"data": "sentences"}

_FIRST_SEARCH = """
import sys, time, joblib, numpy, sklearn.neighbors
times = [time.perf_counter()]
import sklearn_ann
times.append(time.perf_counter())
index, Q = joblib.load(sys.argv[1])
times.append(time.perf_counter())
index.kneighbors(Q)
times.append(time.perf_counter())
print(*numpy.diff(times))
"""


def cases(run):
    return map(Case, run.data_sets(["sentences", "sift", "tiny"]))


def peers(case):
    return PEERS


def batches(case, nprobe):
    """Pairs of batch size and number of threads."""
    sizes = (1, 1000) if case.data.name == "tiny" else (1, 10, 100, 1000)
    return [(nq, n_threads) for n_threads in (1, 2) for nq in sizes]


def agreement(run, subject):
    """Queries whose ids are the true ones, in order, ties by row number."""
    names = ["sentences", "sift", "tiny", "offset", "integers"]
    some = {"ours": OURS, "Faiss Flat": faiss_index("Flat")}
    some["scikit-learn"] = PeerProcess("SklearnBrute")
    for data in run.data_sets(names):
        row = {"data": data.name, "shape": "{} x {}".format(*data.X.shape)}
        row["dtype"] = str(data.X.dtype)
        with run.start(some, Case(data)) as workers:
            for name, worker in workers.items():
                _, ids = worker.ask("answers", N_QUERIES)
                n_equal = (ids == run.exact(data)[1]).all(axis=1).sum()
                row[name] = f"{n_equal}/{len(ids)}"
        run.tables["agreement"].append(row)
        run.expect(row["ours"] == f"{N_QUERIES}/{N_QUERIES}", f"true ids: {row}")


def first_call(run, subject):
    """What a program waits for once: the import and the first search; a small call.

    The import of Numba is part of the search: the package puts it off until then. Cold:
    nothing was compiled before. Warm: it was.
    """
    found = {}
    for data in run.data_sets(["sentences", "tiny"]):
        log("import, first search")
        index = FlatL2Neighbors().fit(data.X)
        with tempfile.TemporaryDirectory() as folder:
            joblib.dump((index, data.Q[:1]), Path(folder) / "index.joblib")
            cold = _first_search(folder)
            warm = [_first_search(folder) for _ in range(1 if run.quick else 5)]
        imported, loaded, searched = np.median(warm, axis=0)
        found = {"import": imported, "first search, cold": cold[2]}
        found |= {"first search, warm": searched, "first search, load": loaded}
    small = {"ours": OURS, "scikit-learn": PeerProcess("SklearnBrute")}
    for data in run.data_sets(["small"]):
        with run.start(small, Case(data)) as workers:
            for name, timing in run.measure(workers, 1, None).items():
                found[f"small call, {name}"] = timing.seconds
    for what, seconds in found.items():
        time, unit = (1e6 * seconds, "us") if seconds < 1e-3 else (seconds, "s")
        run.tables["first_call"].append({"what": what, "time": time, "unit": unit})


def _first_search(folder):
    """Seconds of the import, of loading the index, and of a search in a new process."""
    environment = clean_environment({"NUMBA_CACHE_DIR": str(Path(folder) / "cache")})
    command = [sys.executable, "-c", _FIRST_SEARCH, Path(folder) / "index.joblib"]
    output = subprocess.check_output(command, env=environment, text=True)
    return [float(word) for word in output.split()]


SECTIONS = [speed, agreement, first_call, tiers]
