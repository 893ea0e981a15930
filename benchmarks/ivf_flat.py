"""Search of inverted lists: IVFFlatNeighbors beside Faiss and hnswlib."""

from importlib.util import find_spec
from statistics import median
from typing import NamedTuple

import numpy as np
from _data import N_QUERIES, DataSet, sqdists_to
from _harness import (
    PeerProcess,
    Tuned,
    faiss_index,
    log,
    on_each_blas,
    start_workers,
)
from _ivf_flat_report import bars, markdown, plot  # noqa: F401  (run.py calls them)
from _ivf_measure import (
    WIDEST,
    K,
    has_recall,
    least,
    load_once,
    make_line,
    measure_batch,
    measure_points,
    once,
    refine_settings,
    truth_of,
)

NPROBES = {"sentences": (1, 8, 10, 32), None: (1, 8, 32, 64)}
CASES = [
    ("sentences", 50),
    ("sift", 1024),
    ("sift", 4096),
    ("fashion-mnist", 256),
]
SEED = 0

_MANY_QUERIES = 10_000

OURS = PeerProcess("_ivf_peers:OursIVFFlat")
FAISSES = on_each_blas("Faiss IVFFlat", "_ivf_peers:FaissIVFFlat")
PANORAMAS = {
    "Faiss Panorama": PeerProcess("_ivf_peers:FaissIVFPanorama", WIDEST),
    "Faiss PCA, Panorama": PeerProcess("_ivf_peers:FaissPCAPanorama", WIDEST),
}
SKLEARN = PeerProcess("_peers:SklearnBrute")
HNSW = PeerProcess("_ivf_peers:Hnsw")

PEERS = {"ours": OURS, **FAISSES, **PANORAMAS}
PEERS |= {"Faiss refine": faiss_index("", WIDEST), "scikit-learn": SKLEARN}
if find_spec("hnswlib"):
    PEERS["hnswlib"] = HNSW
else:
    log("hnswlib is left out: it is not installed")

# Whom a ratio compares with: a peer, with the settings that it is fastest with.
_RIVALS = {**{name: [name] for name in PANORAMAS}, "Faiss IVFFlat": list(FAISSES)}


# -- what is measured on ------------------------------------------------------------


class Case(NamedTuple):
    """A data set and the lists that all peers fill."""

    data: DataSet
    nlist: int
    centroids: np.ndarray
    labels: np.ndarray  # the list of each row
    truth: tuple  # of the first N_QUERIES

    def start(self, peers):
        lists = {"centroids": self.centroids, "labels": self.labels}
        return start_workers(peers, self.data, K, **lists)

    @property
    def name(self):
        return f"{self.data.name}, nlist={self.nlist}"

    def nprobes(self):
        return NPROBES.get(self.data.name, NPROBES[None])


def _data(name, options):
    return load_once(name, options, _MANY_QUERIES if name == "sift" else N_QUERIES)


def _cases(options, names=None):
    """All cases, or those of some data sets, as far as there are files."""
    for name, nlist in CASES:
        if names and name not in names:
            continue
        data = _data(name, options)
        if data is not None:
            yield once((name, nlist), _make_case, data, nlist)


def _make_case(data, nlist):
    centroids, labels = _train_lists(data, nlist)
    return Case(data, nlist, centroids, labels, truth_of(data))


def _train_lists(data, nlist):
    """Centroids as Faiss trains them, and the list of each row as it assigns it."""
    trainer = {"lists": PeerProcess("_ivf_peers:FaissTraining", WIDEST)}
    with start_workers(trainer, data, K) as workers:
        _, centroids = workers["lists"].ask("train", nlist, SEED)
        return centroids, workers["lists"].ask("labels", centroids)


# -- speed at equal lists -----------------------------------------------------------


def speed(options):
    """A line for each case, number of lists probed, batch size, number of threads."""
    lines = []
    peers = {"ours": OURS, **FAISSES, **PANORAMAS}
    for case in _cases(options):
        brute = once((case.data.name, "brute"), _brute_seconds, case.data, options)
        with case.start(peers) as workers:
            for nprobe in case.nprobes():
                tuned = {n: Tuned(w, nprobe=nprobe) for n, w in workers.items()}
                for nq, n_threads in _batches(case, nprobe):
                    if nq == _MANY_QUERIES:  # minutes, for what the fewer show too
                        tuned = {n: tuned[n] for n in tuned if n not in PANORAMAS}
                    timings = measure_batch(tuned, nq, n_threads, options)
                    about = {"data": case.data.name, "nlist": case.nlist}
                    about["nprobe"] = nprobe
                    line = make_line(case, about, nq, n_threads, timings, _RIVALS)
                    if (nq, n_threads) == (1000, 2):
                        line["ratios"]["scikit-learn"] = brute / line["seconds"]
                    lines.append(line)
                    log(f"{case.name}: {nprobe=}, {nq} queries, {n_threads} threads")
    return lines


def _batches(case, nprobe):
    """Pairs of batch size and number of threads."""
    yield from [(1, 1), (1000, 2)]
    if (case.data.name, nprobe) == ("sentences", 10):
        yield from [(1, 2), (1000, 1)]
    if (case.data.name, case.nlist, nprobe) == ("sift", 1024, 32):
        yield from [(1, 2), (1000, 1), (_MANY_QUERIES, 2)]


def _brute_seconds(data, options):
    """Seconds of scikit-learn for 1000 queries, two threads."""
    with start_workers({"": SKLEARN}, data, K) as workers:
        return measure_batch(workers, 1000, 2, options)[""].seconds


# -- recall against time ------------------------------------------------------------


def curve(options):
    """Recall and queries per second of many settings; 1000 queries, two threads."""
    lines = []
    for case in _cases(options):
        case = case._replace(data=case.data._replace(Q=case.data.Q[:N_QUERIES]))
        with case.start(_curve_peers(case)) as workers:
            lines.append(_curve(case, workers, options))
    return lines


def _curve_peers(case):
    """Each once; a graph does not depend on the lists: one case has it."""
    pairs = case.data.X.shape[1] // 2
    widest = [name for name in FAISSES if FAISSES[name].environment == WIDEST]
    peers = {"ours": OURS, "Faiss IVFFlat": FAISSES[widest[-1]], **PANORAMAS}
    peers["Faiss refine"] = faiss_index(f"IVF{case.nlist},PQ{pairs}x4fs,RFlat", WIDEST)
    is_first = case.nlist == dict(reversed(CASES))[case.data.name]
    if is_first and "hnswlib" in PEERS:
        peers["hnswlib"] = HNSW
    return peers


def _curve(case, workers, options):
    result = {"data": case.data.name, "nlist": case.nlist}
    if "hnswlib" in workers:
        result["hnswlib_build_seconds"] = workers["hnswlib"].ask("get_build_seconds")
        if result["hnswlib_build_seconds"] is None:
            log(f"{case.data.name}: hnswlib is left out: its build takes too long")
            del workers["hnswlib"]
    settings = {
        name: _settings(case, name, worker, options) for name, worker in workers.items()
    }
    return {**result, "points": measure_points(case, workers, settings, options)}


def _settings(case, name, worker, options):
    """What to try: a rough grid, and the least effort that has the recall."""
    if name == "Faiss refine":
        factors = (1, 2, 4, 8) if options.quick else (1, 1.5, 2, 3, 4, 6, 8, 16)
        return refine_settings(case, worker, "k_factor", factors)
    if name == "hnswlib":
        key, fewest, most = "ef", K, 1024
        grid = [10, 20, 40, 80, 160, 320]
    else:
        key, fewest, most = "nprobe", 1, case.nlist
        grid = [value for value in (1, 2, 4, 8, 16, 32, 64) if value < case.nlist]
    enough = least(lambda x: has_recall(case, worker, **{key: x}), fewest, most)
    return [{key: value} for value in sorted({*grid, enough})]


# -- agreement ----------------------------------------------------------------------


def agreement(options):
    """Whether Faiss answers the same, and if not, why."""
    lines = []
    for case in _cases(options):
        case = case._replace(data=case.data._replace(Q=case.data.Q[:N_QUERIES]))
        peers = {"ours": OURS, "Faiss": PeerProcess("_ivf_peers:FaissIVFFlat")}
        with case.start(peers) as workers:
            is_other = workers["ours"].ask("labels") != case.labels
            for nprobe in case.nprobes():
                line = _compare(case, workers, nprobe, is_other)
                lines.append({**line, "rows_in_other_lists": int(is_other.sum())})
            ids = _search(workers["ours"], case.nlist)
            is_exact = (ids == case.truth[1]).all(axis=1)
            lines[-1]["exact"] = int(is_exact.sum())
        log(f"{case.name}: agreement")
    return lines


def _search(worker, nprobe):
    return Tuned(worker, nprobe=nprobe).ask("search_all")


_REASONS = "short", "ties", "probes", "lists"


def _compare(case, workers, nprobe, is_other):
    """Number of queries for each reason why the ids differ."""
    ours, theirs = (_search(worker, nprobe) for worker in workers.values())
    probes = [worker.ask("probes", nprobe) for worker in workers.values()]
    counts = dict.fromkeys(["equal", *_REASONS, "unexplained"], 0)
    for i, (own, their) in enumerate(zip(ours, theirs, strict=True)):
        different = np.setxor1d(own, their)
        if (own == their).all():
            counts["equal"] += 1
        elif (their < 0).any() and not (own < 0).any():
            counts["short"] += 1
        elif _are_equally_near(case.data, i, own, their):
            counts["ties"] += 1
        elif set(probes[0][i]) != set(probes[1][i]):
            counts["probes"] += 1
        elif is_other[different].any():
            counts["lists"] += 1
        else:
            counts["unexplained"] += 1
    about = {"data": case.data.name, "nlist": case.nlist, "nprobe": nprobe}
    return {**about, "queries": len(ours), **counts}


def _are_equally_near(data, i, *answers):
    """Whether the distances are the same but for rounding of a sum in float32."""
    if any((ids < 0).any() for ids in answers):
        return False
    a, b = (np.sort(sqdists_to(data.X[ids], data.Q[i])) for ids in answers)
    return np.allclose(a, b, rtol=data.X.shape[1] * 2.0**-24, atol=0)


# -- training and adding ------------------------------------------------------------


def training(options):
    """Times of training and of adding, and inertia, for several seeds."""
    data = _data("sift", options)
    if data is None:
        return {}
    nlist = 1024
    faisses = on_each_blas("Faiss", "_ivf_peers:FaissTraining")
    peers = {"ours": PeerProcess("_ivf_peers:OursTraining"), **faisses}
    times = {name: {"training": [], "adding": []} for name in peers}
    centroids = {}
    with start_workers(peers, data, K) as workers:
        for worker in workers.values():
            worker.ask("set_threads", 2)
        for seed in range(3):
            for name, worker in workers.items():
                log(f"training: {name}, seed {seed}")
                seconds, trained = worker.ask("train", nlist, seed)
                centroids[name, seed] = trained
                times[name]["training"].append(seconds)
                times[name]["adding"].append(worker.ask("add", trained))
    inertias = {}
    for name in ("ours", list(faisses)[-1]):
        log(f"training: inertia of {name}")
        inertias[name.partition(" (")[0]] = [
            _inertia(data.X, centroids[name, seed]) for seed in range(3)
        ]
    ratios = np.divide(inertias["ours"], inertias["Faiss"])
    result = {"data": data.name, "nlist": nlist, "rows": len(data.X)}
    result |= {"times": times, "inertia": inertias}
    result["inertia_ratio"] = float(ratios.mean())
    for step in ("training", "adding"):
        seconds = {name: median(times[name][step]) for name in peers}
        best = min(seconds[name] for name in faisses)
        result[f"{step}_ratio"] = best / seconds["ours"]
    return result


def _inertia(X, centroids):
    """Sum of squared distances to the nearest centroids, by one code for all.

    A matrix product names the nearest; a difference in float64 is summed.
    """
    sqnorms = (centroids**2).sum(axis=1)
    total, step = 0.0, 2**24 // len(centroids)
    for start in range(0, len(X), step):
        rows = X[start : start + step]
        nearest = (sqnorms - 2 * (rows @ centroids.T)).argmin(axis=1)
        total += ((rows - centroids[nearest].astype(np.float64)) ** 2).sum()
    return total


# -- memory, and rows one by one ----------------------------------------------------


def memory(options):
    """Size of the fitted estimator, and the time of `partial_fit` with one row."""
    lines = []
    for case in _cases(options, ["sift"]):
        with case.start({"ours": OURS}) as workers:
            size = workers["ours"].ask("memory") / case.data.X.nbytes
            seconds = workers["ours"].ask("add_singles", 50 if options.quick else 1000)
        line = {"data": case.data.name, "nlist": case.nlist, "memory": size}
        line |= {"first": seconds[0], "slowest": max(seconds)}
        lines.append({**line, "median": median(seconds), "calls": len(seconds)})
        log(f"{case.name}: memory")
    return lines


# -- more neighbours than the lists hold --------------------------------------------


def widening(options):
    """Queries that get all of 500 neighbours where the nearest list holds fewer."""
    lines = []
    for case in _cases(options, ["sift"]):
        if case.nlist != 1024:
            continue
        case = case._replace(data=case.data._replace(Q=case.data.Q[:N_QUERIES]))
        k = 50 if options.quick else 500
        peers = {"ours": OURS, "Faiss": PeerProcess("_ivf_peers:FaissIVFFlat")}
        with case.start(peers) as workers:
            line = {"data": case.data.name, "nlist": case.nlist, "nprobe": 1, "k": k}
            for name, worker in workers.items():
                ids = Tuned(worker, k=k, nprobe=1).ask("search_all")
                found = [len(np.unique(row[row >= 0])) for row in ids]
                line[name] = int(np.equal(found, k).sum())
            lines.append({**line, "queries": len(ids)})
    return lines


SECTIONS = {
    "speed": speed,
    "curve": curve,
    "agreement": agreement,
    "training": training,
    "memory": memory,
    "widening": widening,
}
