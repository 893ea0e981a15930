"""The nearest neighbours of all rows: fit and graph, against recall and memory."""

from tempfile import TemporaryDirectory

import numpy as np
from _data import exact_neighbors, found_sqdists
from _harness import WIDEST, PeerProcess, log, on_each_blas, settle, start
from _measure import installed

from sklearn_ann import knn_recall
from sklearn_ann._coarse_quantizer import choose_nlist

SECTIONS = ("graph",)

DATA = "fashion-mnist", "sentences", "sift", "tiny"
K = 15
_N_THREADS = 2

# Rows whose neighbours are compared with the exact ones.
_N_COMPARED = 1000

# A way that would take more seconds is left out. One that takes fewer than the second
# number counts with the best of some runs.
_TOO_LONG, _SHORT, _RUNS = 600.0, 15.0, 3

# Lists to search, for recalls around 0.99; for the descriptors around 0.95.
_NPROBES = {"sift": (26,)}
_OTHER_NPROBES = 4, 8, 16
_EF = 60


def ways(data):
    """Processes that find the same, by the name of the way and its setting."""
    nlist = max(20, choose_nlist(len(data.X)))
    found = {("FlatL2Neighbors", "exact"): [_ours("FlatL2Neighbors")]}
    for nprobe in _NPROBES.get(data.name, _OTHER_NPROBES):
        setting = f"nlist={nlist}, nprobe={nprobe}"
        parameters = {"nlist": nlist, "nprobe": nprobe, "random_state": 0}
        found["IVFFlatNeighbors", setting] = [_ours("IVFFlatNeighbors", **parameters)]
        arguments = {"key": f"IVF{nlist},Flat", "nprobe": nprobe}
        found["Faiss IVFFlat", setting] = [_peer("Faiss", **arguments)]
    found["pynndescent", "defaults"] = [_peer("Pynndescent")]
    setting = f"M=16, ef_construction=100, ef={_EF}"
    found["hnswlib", setting] = [_peer("Hnsw", ef=_EF)]
    for way, name, arguments in (
        ("Faiss Flat", "Faiss", {"key": "Flat"}),
        ("scikit-learn brute force", "SklearnBrute", {}),
    ):
        processes = on_each_blas(way, f"_graph_peers.{name}", **arguments)
        found[way, "exact"] = list(processes.values())
    return found


def _ours(estimator, **parameters):
    return _peer("Ours", estimator=estimator, **parameters)


def _peer(name, **arguments):
    return PeerProcess(f"_graph_peers.{name}", arguments, WIDEST)


def graph(run, subject):
    """A line for each way and setting, on each data set."""
    for data in run.data_sets(DATA):
        X = data.X
        rng = np.random.default_rng(0)
        rows = np.sort(rng.choice(len(X), min(_N_COMPARED, len(X)), replace=False))
        # The row itself is the first, or one that equals it.
        truth = exact_neighbors(X, X[rows], K + 1)[0][:, 1:]
        with TemporaryDirectory() as folder:
            np.save(f"{folder}/X.npy", X)
            for (way, setting), processes in ways(data).items():
                row = {"data": data.name, "way": way, "setting": setting}
                processes = [x for x in processes if installed({way: x})]
                if not processes:
                    continue
                expected, fastest = _fastest(run, way, processes, folder)
                if expected > _TOO_LONG:
                    row["seconds"] = f"left out: about {expected:,.0f}"
                else:
                    with start(fastest) as ask:
                        ask("prepare", folder, K, _N_THREADS)
                        row |= _measured(run, ask, X, rows, truth)
                log(", ".join(row.values()))
                run.tables["graph"].append(row)


def _fastest(run, way, processes, folder):
    """The seconds that a graph is expected to take at best, and the process for it."""
    expected = []
    for peer in processes:
        with start(peer) as ask:
            ask("prepare", folder, K, _N_THREADS)
            expected.append(ask("expected"))
            run.processes.setdefault(way, ask("describe"))
    return min(expected), processes[int(np.argmin(expected))]


def _measured(run, ask, X, rows, truth):
    seconds, peaks = [], []
    for _ in range(1 if run.quick else _RUNS):
        settle(run.quick)
        spent, peak, ids = ask("run", rows)
        seconds.append(spent)
        peaks.append(peak)
        if spent > _SHORT:
            break
    # Without the row itself, or without the last of the rows that equal it.
    is_other = ids != rows[:, None]
    is_other[:, -1] &= ~is_other.all(axis=1)
    others = ids[is_other].reshape(len(rows), K)
    found = found_sqdists(X, X[rows], others)
    # Later runs find memory that the first one has left.
    peak = "-" if peaks[0] is None else f"{peaks[0] / 2**20:,.0f}"
    return {
        "seconds": f"{min(seconds):.2f}",
        "recall@15": f"{knn_recall(truth, found):.4f}",
        "memory beyond the rows, MiB": peak,
    }
