"""Search of inverted lists: IVFFlatNeighbors beside Faiss and hnswlib."""

from importlib.util import find_spec
from statistics import median
from typing import NamedTuple

import numpy as np
from _data import DataSet, exact_neighbors, load, mean_recall, recall, sqdists_to
from _harness import (
    PeerProcess,
    Tuned,
    blas_settings,
    log,
    measure,
    on_each_blas,
    start_workers,
)
from _ivf_flat_report import bars, markdown, plot  # noqa: F401  (run.py calls them)

K = 10
NPROBES = {"sentences": (1, 8, 10, 32), None: (1, 8, 32, 64)}
CASES = [
    ("sentences", 50),
    ("sift", 1024),
    ("sift", 4096),
    ("fashion-mnist", 256),
]
SEED = 0

# Seconds for one peer and one line of a table, after which five measurements do.
_BUDGET, _CURVE_BUDGET = 4.0, 1.0

# A round of single queries calls with so many, one after the other.
_SINGLES = 100

_RECALL = 0.95
_MANY_QUERIES = 10_000

# The widest kernels: what is not measured with all settings has these.
_WIDEST = list(blas_settings().values())[-1]

OURS = PeerProcess("_ivf_peers:OursIVFFlat")
FAISSES = on_each_blas("Faiss IVFFlat", "_ivf_peers:FaissIVFFlat")
PANORAMAS = {
    "Faiss Panorama": PeerProcess("_ivf_peers:FaissIVFPanorama", _WIDEST),
    "Faiss PCA, Panorama": PeerProcess("_ivf_peers:FaissPCAPanorama", _WIDEST),
}
REFINE = PeerProcess("_ivf_peers:FaissRefine", _WIDEST)
SKLEARN = PeerProcess("_peers:SklearnBrute")
HNSW = PeerProcess("_ivf_peers:Hnsw")

PEERS = {"ours": OURS, **FAISSES, **PANORAMAS, "Faiss refine": REFINE}
PEERS["scikit-learn"] = SKLEARN
if find_spec("hnswlib"):
    PEERS["hnswlib"] = HNSW
else:
    log("hnswlib is left out: it is not installed")


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


_cache = {}


def _once(key, make, *args):
    """What does not change during a run."""
    if key not in _cache:
        _cache[key] = make(*args)
    return _cache[key]


def _data(name, options):
    n_queries = _MANY_QUERIES if name == "sift" else 1000
    return _once(name, load, name, options, n_queries)


def _cases(options, names=None):
    """All cases, or those of some data sets, as far as there are files."""
    for name, nlist in CASES:
        if names and name not in names:
            continue
        data = _data(name, options)
        if data is not None:
            yield _once((name, nlist), _make_case, data, nlist)


def _make_case(data, nlist):
    centroids, labels = _train_lists(data, nlist)
    truth = _once((data.name, "truth"), _truth, data)
    return Case(data, nlist, centroids, labels, truth)


def _truth(data):
    log(f"{data.name}: exact answers")
    return exact_neighbors(data.X, data.Q[:1000], K)


def _train_lists(data, nlist):
    """Centroids as Faiss trains them, and the list of each row as it assigns it."""
    trainer = {"lists": PeerProcess("_ivf_peers:FaissTraining", _WIDEST)}
    with start_workers(trainer, data, K) as workers:
        _, centroids = workers["lists"].ask("train", nlist, SEED)
        return centroids, workers["lists"].ask("labels", centroids)


# -- speed at equal lists -----------------------------------------------------------


def speed(options):
    """A line for each case, number of lists probed, batch size, number of threads."""
    lines = []
    peers = {"ours": OURS, **FAISSES, **PANORAMAS}
    for case in _cases(options):
        brute = _once((case.data.name, "brute"), _brute_seconds, case.data, options)
        with case.start(peers) as workers:
            for nprobe in case.nprobes():
                tuned = {n: Tuned(w, nprobe=nprobe) for n, w in workers.items()}
                for nq, n_threads in _batches(case, nprobe):
                    if nq == _MANY_QUERIES:  # minutes, for what the fewer show too
                        tuned = {n: tuned[n] for n in tuned if n not in PANORAMAS}
                    timings = _measure(tuned, nq, n_threads, options)
                    line = _line(case, nprobe, nq, n_threads, timings)
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
        return _measure(workers, 1000, 2, options)[""].seconds


def _measure(workers, nq, n_threads, options, budget=_BUDGET):
    return measure(
        workers,
        nq,
        n_threads,
        max(nq, 1000),
        quick=options.quick,
        n_singles=_SINGLES if nq == 1 else None,
        budget=budget,
    )


def _line(case, nprobe, nq, n_threads, timings):
    peers = {
        name: timing.as_dict() | {"recall": _recall(case, timing)}
        for name, timing in timings.items()
    }
    ours = peers["ours"]["seconds"]
    ratios = {
        name: peers[name]["seconds"] / ours for name in PANORAMAS if name in peers
    }
    ratios["Faiss IVFFlat"] = min(peers[name]["seconds"] for name in FAISSES) / ours
    return {
        "data": case.data.name,
        "nlist": case.nlist,
        "nprobe": nprobe,
        "queries": nq,
        "threads": n_threads,
        "seconds": ours,
        "queries_per_second": nq / ours,
        "recall": peers["ours"]["recall"],
        "ratios": ratios,
        "peers": peers,
    }


def _recall(case, timing):
    """Over the queries that were timed and whose true neighbours are known."""
    answers = [(first, ids[:1000]) for first, ids in timing.answers]
    return mean_recall(case.data, answers, case.truth)


# -- recall against time ------------------------------------------------------------


def curve(options):
    """Recall and queries per second of many settings; 1000 queries, two threads."""
    lines = []
    peers = {name: PEERS[name] for name in PEERS if name != "scikit-learn"}
    unneeded = [name for name in FAISSES if FAISSES[name].environment != _WIDEST]
    peers = {name: peers[name] for name in peers if name not in unneeded}
    for case in _cases(options):
        case = case._replace(data=case.data._replace(Q=case.data.Q[:1000]))
        with case.start(_once_built(peers, case)) as workers:
            lines.append(_curve(case, workers, options))
    return lines


def _once_built(peers, case):
    """A graph does not depend on the lists: it is built for one case of a data set."""
    is_first = case.nlist == dict(reversed(CASES))[case.data.name]
    return {name: peers[name] for name in peers if is_first or name != "hnswlib"}


def _curve(case, workers, options):
    result = {"data": case.data.name, "nlist": case.nlist}
    if "hnswlib" in workers:
        result["hnswlib_build_seconds"] = workers["hnswlib"].ask("get_build_seconds")
        if result["hnswlib_build_seconds"] is None:
            log(f"{case.data.name}: hnswlib is left out: its build takes too long")
            del workers["hnswlib"]
    tuned, parameters = {}, {}
    for name, worker in workers.items():
        for number, setting in enumerate(_settings(case, name, worker, options)):
            tuned[name, number] = Tuned(worker, **setting)
            parameters[name, number] = setting
    log(f"{case.name}: recall against time, {len(tuned)} settings")
    timings = _measure(tuned, len(case.data.Q), 2, options, budget=_CURVE_BUDGET)
    result["points"] = [
        {
            "peer": "Faiss IVFFlat" if name in FAISSES else name,
            "parameters": parameters[name, number],
            "recall": _recall(case, timing),
            "queries_per_second": len(case.data.Q) / timing.seconds,
            "seconds": timing.seconds,
            "slowest_round": max(timing.rounds),
            "fastest_round": min(timing.rounds),
            "rounds": len(timing.rounds),
            "disturbed_rounds": timing.n_disturbed,
        }
        for (name, number), timing in timings.items()
    ]
    return result


def _settings(case, name, worker, options):
    """What to try: a rough grid, and the least effort that has the recall."""
    if name == "Faiss refine":
        return _refine_settings(case, worker, options)
    if name == "hnswlib":
        key, fewest, most = "ef", K, 1024
        grid = [10, 20, 40, 80, 160, 320]
    else:
        key, fewest, most = "nprobe", 1, case.nlist
        grid = [value for value in (1, 2, 4, 8, 16, 32, 64) if value < case.nlist]
    least = _least(lambda x: _has_recall(case, worker, **{key: x}), fewest, most)
    return [{key: value} for value in sorted({*grid, least})]


def _least(is_enough, fewest, most):
    """The smallest number from `fewest` to `most` that is enough."""
    low, high = fewest - 1, fewest
    while high < most and not is_enough(high):
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _has_recall(case, worker, **parameters):
    ids = Tuned(worker, **parameters).ask("search_all")
    return recall(case.data, 0, ids, case.truth) >= _RECALL


def _refine_settings(case, worker, options):
    """Of a grid around the recall, what nothing else beats in a first look.

    The settings that reach the recall fastest are kept whether beaten or not: they are
    too close to be told apart by one look.
    """
    worker.ask("set_threads", 2)
    most = case.nlist
    whole = _least(lambda n: _has_recall(case, worker, nprobe=n, k_factor=64), 1, most)
    nprobes = {2, 4, 8, 16, 32, 64} | {whole + n for n in (0, 1, 2, 4, 8)}
    looks = []
    for nprobe in sorted(n for n in nprobes if n < case.nlist):
        for k_factor in (1, 2, 4, 8) if options.quick else (1, 1.5, 2, 3, 4, 6, 8, 16):
            setting = {"nprobe": nprobe, "k_factor": k_factor}
            request = "time", 0, len(case.data.Q), 2, True
            seconds, ids = Tuned(worker, **setting).ask(*request)
            looks.append((min(seconds), recall(case.data, 0, ids, case.truth), setting))
    looks.sort(key=lambda look: look[0])
    best, kept = 0.0, []
    for _, found, setting in looks:
        if found > best:
            best = found
            kept.append(setting)
    close = [setting for _, found, setting in looks if found >= _RECALL][:4]
    return kept + [setting for setting in close if setting not in kept]


# -- agreement ----------------------------------------------------------------------


def agreement(options):
    """Whether Faiss answers the same, and if not, why."""
    lines = []
    for case in _cases(options):
        case = case._replace(data=case.data._replace(Q=case.data.Q[:1000]))
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
        case = case._replace(data=case.data._replace(Q=case.data.Q[:1000]))
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
