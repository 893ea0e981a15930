"""Search of product-quantized rows: IVFPQNeighbors beside Faiss."""

from statistics import median
from typing import NamedTuple

import numpy as np
from _data import DataSet, recall, sqdists_to
from _harness import (
    ATTEMPTS,
    TIERS,
    PeerProcess,
    Tuned,
    faiss_index,
    log,
    on_each_blas,
    settle,
    start_workers,
)
from _ivf_measure import (
    WIDEST,
    K,
    load_once,
    make_line,
    measure_batch,
    measure_points,
    once,
    refine_settings,
    truth_of,
)
from _ivf_pq_report import bars, markdown, plot  # noqa: F401  (run.py calls them)

NLISTS = {"sift": 1024, "sentences": 50, "fashion-mnist": 256}
PARTS = {"sift": (8, 16, 32), "sentences": (8, 96), "fashion-mnist": (28, 98)}
NPROBES = {
    "sift": (1, 2, 4, 8, 16, 32, 64),
    "sentences": (1, 4, 10),
    "fashion-mnist": (1, 4, 16),
}
N_SEEDS = 3

# What each peer trains for itself: the lists to search, and whose training is timed.
TRAINED = {"sift": 16, "sentences": 10}
TIMED = [("sift", 16), ("sentences", 96)]

# What the curve tries: parts of 8 bits, and how often a neighbour is measured again.
CURVE_PARTS = {"sift": (16, 32, 64), "sentences": (96,), "fashion-mnist": (98,)}
FACTORS = 1, 2, 3, 4, 6, 8, 12, 16, 32

OURS = PeerProcess("_pq_peers:OursIVFPQ")
FAISSES = on_each_blas("Faiss IVFPQ", "_pq_peers:FaissIVFPQ")
PORTABLE = OURS._replace(environment=TIERS["portable"])
FAST_SCAN = "Faiss FastScan"
PEERS = {"ours": OURS, **FAISSES, "Faiss, others": faiss_index("", WIDEST)}
PEERS["ours, portable"] = PORTABLE

_RIVALS = {"Faiss IVFPQ": list(FAISSES), FAST_SCAN: [FAST_SCAN]}

# Rows that the reconstruction error is averaged over, at most.
_ERROR_SAMPLE = 2**16

# Faiss keeps the number of a row in so many bytes beside its codes.
_FAISS_ID = 8

# Distances are equal that differ by so many units in the last place of the square of
# |q| + |y| in float32: Faiss adds up parts as large.
_UNITS = 8


# -- what is measured on ------------------------------------------------------------


class Case(NamedTuple):
    """A data set and the index that all peers search."""

    data: DataSet
    nlist: int
    m: int
    index: np.ndarray  # bytes of an IndexIVFPQ
    centroids: np.ndarray
    truth: tuple

    def start(self, peers):
        arrays = {"index": self.index, "centroids": self.centroids}
        return start_workers(peers, self.data, K, **arrays)

    @property
    def name(self):
        return f"{self.data.name}, nlist={self.nlist}, m={self.m}"

    @property
    def about(self):
        return {"data": self.data.name, "nlist": self.nlist, "m": self.m}


def _cases(options):
    """All, as far as there are files."""
    for name, parts in PARTS.items():
        data = load_once(name, options)
        if data is not None:
            yield from (once((name, m), _make_case, data, m) for m in parts)


def _nprobes(case, options):
    return NPROBES[case.data.name][:: 3 if options.quick else 1]


def _make_case(data, m):
    nlist = NLISTS[data.name]
    trainer = {"codes": PeerProcess("_pq_peers:FaissPQTraining", WIDEST)}
    with start_workers(trainer, data, K) as workers:
        workers["codes"].ask("train", nlist, m, 0)
        workers["codes"].ask("add")
        index, centroids = workers["codes"].ask("contents")
    return Case(data, nlist, m, index, centroids, truth_of(data))


# -- speed at equal codes -----------------------------------------------------------


def speed(options):
    """A line for each case, number of lists probed, batch size, number of threads."""
    lines = []
    for case in _cases(options):
        fast_scan = faiss_index(f"IVF{case.nlist},PQ{2 * case.m}x4fs", WIDEST)
        with case.start({"ours": OURS, **FAISSES, FAST_SCAN: fast_scan}) as workers:
            for nprobe in _nprobes(case, options):
                for nq, n_threads in _batches(case, nprobe):
                    lines.append(_line(case, workers, nprobe, nq, n_threads, options))
    return lines


def _batches(case, nprobe):
    """Pairs of batch size and number of threads."""
    yield from [(1, 1), (1000, 2)]
    if (case.data.name, case.m, nprobe) == ("sift", 16, 16):
        yield 1000, 1


def _line(case, workers, nprobe, nq, n_threads, options):
    tuned = {name: Tuned(worker, nprobe=nprobe) for name, worker in workers.items()}
    timings = measure_batch(tuned, nq, n_threads, options)
    about = {**case.about, "nprobe": nprobe}
    log(f"{case.name}: {nprobe=}, {nq} queries, {n_threads} threads")
    return make_line(case, about, nq, n_threads, timings, _RIVALS)


def portable(options):
    """As a processor would compute that has no more than every x86-64."""
    lines = []
    for case in _cases(options):
        if (case.data.name, case.m) == ("sift", 16):
            with case.start({"ours": PORTABLE, **FAISSES}) as workers:
                line = _line(case, workers, 16, 1000, 2, options)
                line["tier"] = workers["ours"].ask("describe")["simd"]
            lines.append(line)
    return lines


# -- agreement ----------------------------------------------------------------------


def agreement(options):
    """Whether Faiss answers the same, and if not, why."""
    lines = []
    for case in _cases(options):
        peers = {"ours": OURS, "Faiss": PeerProcess("_pq_peers:FaissIVFPQ")}
        with case.start(peers) as workers:
            for nprobe in _nprobes(case, options):
                lines.append(_compare(case, workers, nprobe))
        log(f"{case.name}: agreement")
    return lines


def _compare(case, workers, nprobe):
    """Number of queries for each reason why the ids differ, and of equal distances."""
    ours, theirs = (_answers(worker, nprobe) for worker in workers.values())
    rows = np.unique(np.append(ours.ids, theirs.ids[theirs.ids >= 0]))
    decoded = workers["Faiss"].ask("decode", rows)
    longest = np.sqrt(sqdists_to(decoded, 0).max())
    counts = dict.fromkeys(["equal", "short", "ties", "probes", "unexplained"], 0)
    units = []
    for i, q in enumerate(case.data.Q):
        own, their = ours.ids[i], theirs.ids[i]
        unit = 2.0**-24 * (np.linalg.norm(q) + longest) ** 2
        _, *places = np.intersect1d(own, their, return_indices=True)
        a, b = (x.sqdists[i, at] for x, at in zip((ours, theirs), places, strict=True))
        units.append(np.abs(a - b).max(initial=0) / unit)
        if (own == their).all():
            reason = "equal"
        elif (their < 0).any() and (own >= 0).all():
            reason = "short"
        elif _are_equally_near(q, rows, decoded, _UNITS * unit, own, their):
            reason = "ties"
        elif set(ours.probes[i]) != set(theirs.probes[i]):
            reason = "probes"
        else:
            reason = "unexplained"
        counts[reason] += 1
    about = {**case.about, "nprobe": nprobe, "queries": len(units), **counts}
    is_equal = np.less_equal(units, _UNITS)
    return {**about, "distances": int(is_equal.sum()), "units": max(units)}


class _Answers(NamedTuple):
    """Of one peer to all queries."""

    sqdists: np.ndarray
    ids: np.ndarray
    probes: np.ndarray


def _answers(worker, nprobe):
    sqdists, ids = Tuned(worker, nprobe=nprobe).ask("answers")
    return _Answers(sqdists, ids, worker.ask("probes", nprobe))


def _are_equally_near(q, rows, decoded, tolerance, *answers):
    """Whether the distances to what the codes stand for are the same but for rounding.

    `decoded` is that of `rows`, which are sorted.
    """
    if any((ids < 0).any() for ids in answers):
        return False
    a, b = (
        np.sort(sqdists_to(decoded[np.searchsorted(rows, ids)], q)) for ids in answers
    )
    return np.allclose(a, b, rtol=0, atol=tolerance)


# -- training of one's own ----------------------------------------------------------


def own_recall(options):
    """Recall when each peer has trained for itself, for several seeds."""
    lines = []
    for name, nprobe in TRAINED.items():
        for m in PARTS[name]:
            runs = _trained(name, m, options)
            if runs:
                line = {"data": name, "m": m, "nprobe": nprobe}
                faiss = runs[-1]["peer"]
                lines.append(
                    line
                    | {"ours": _of(runs, "ours", "recall")}
                    | {"Faiss": _of(runs, faiss, "recall")}
                )
    return lines


def training(options):
    """Times of training and of adding, and what the codes lose, for several seeds."""
    lines = []
    for name, m in TIMED:
        runs = _trained(name, m, options)
        if not runs:
            continue
        peers = list(dict.fromkeys(run["peer"] for run in runs))
        line = {"data": name, "nlist": NLISTS[name], "m": m}
        line["rows"] = len(load_once(name, options).X)
        line["seeds"] = len(_of(runs, "ours", "error"))
        for step in ("training", "adding"):
            seconds = {peer: median(_of(runs, peer, step)) for peer in peers}
            line[step] = seconds
            line[f"{step}_ratio"] = min(list(seconds.values())[1:]) / seconds["ours"]
        line["errors"] = {peer: _of(runs, peer, "error") for peer in peers}
        lines.append(line)
    return lines


def _of(runs, peer, what):
    """One number of each seed."""
    return [run[what] for run in runs if run["peer"] == peer]


def _trained(name, m, options):
    """What each peer makes of a data set: a run for each seed and peer, ours first."""
    data = load_once(name, options)
    if data is None:
        return []
    return once((name, m, "trained"), _train, data, m, options)


def _train(data, m, options):
    nlist, truth = NLISTS[data.name], truth_of(data)
    faisses = on_each_blas("Faiss", "_pq_peers:FaissPQTraining")
    if options.quick or (data.name, m) not in TIMED:
        widest = list(faisses)[-1]
        faisses = {widest: faisses[widest]}
    peers = {"ours": PeerProcess("_pq_peers:OursPQTraining"), **faisses}
    runs = []
    with start_workers(peers, data, K) as workers:
        for worker in workers.values():
            worker.ask("set_threads", 2)
        for seed in range(1 if options.quick else N_SEEDS):
            for peer, worker in workers.items():
                log(f"{data.name}, {m=}: {peer}, {seed=}")
                run = {"peer": peer, "seed": seed}
                settle(1 if options.quick else ATTEMPTS)
                run["training"] = worker.ask("train", nlist, m, seed)
                settle(1 if options.quick else ATTEMPTS)
                run["adding"] = worker.ask("add")
                ids = Tuned(worker, nprobe=TRAINED[data.name]).ask("search_all")
                run["recall"] = recall(data, 0, ids, truth)
                runs.append({**run, "error": _error(data.X, worker)})
    return runs


def _error(X, worker):
    """Mean squared distance of a row and what its codes stand for."""
    rows = np.arange(0, len(X), -(-len(X) // _ERROR_SAMPLE))
    decoded = worker.ask("decode", rows)
    return ((X[rows] - decoded.astype(np.float64)) ** 2).sum(axis=1).mean()


# -- memory -------------------------------------------------------------------------


def memory(options):
    """Bytes of what a row takes, and of what there is once."""
    data, lines = load_once("sift", options), []
    for m in PARTS["sift"] if data else ():
        peers = {"ours": PeerProcess("_pq_peers:OursPQTraining")}
        with start_workers(peers, data, K) as workers:
            workers["ours"].ask("train", NLISTS["sift"], m, 0)
            workers["ours"].ask("add")
            sizes = workers["ours"].ask("sizes")
        rows = sizes.pop("all") - sum(sizes.values())
        line = {"data": data.name, "m": m, "ours": rows / len(data.X)}
        lines.append({**line, "Faiss": m + _FAISS_ID, **sizes})
    return lines


# -- recall against time ------------------------------------------------------------


class _Curve(NamedTuple):
    """A data set, for peers that train for themselves."""

    data: DataSet
    nlist: int
    truth: tuple


class _Contender(NamedTuple):
    """A peer with codes of some size."""

    peer: str
    codes: str
    start: PeerProcess
    key: str | None = None  # the parameter of refinement


def curve(options):
    """Recall and queries per second of many settings; 1000 queries, two threads."""
    lines = []
    for name, nlist in NLISTS.items():
        data = load_once(name, options)
        if data is not None:
            case = _Curve(data, nlist, truth_of(data))
            lines.append(_curve(case, options))
    return lines


def _curve(case, options):
    contenders = {f"{x.peer} {x.codes}": x for x in _contenders(case, options)}
    peers = {name: contender.start for name, contender in contenders.items()}
    with start_workers(peers, case.data, K) as workers:
        settings = {
            name: _settings(case, contenders[name].key, worker, options)
            for name, worker in workers.items()
        }
        points = measure_points(case, workers, settings, options)
    for point in points:
        contender = contenders[point["peer"]]
        point["peer"] = contender.peer
        point["parameters"] = {"codes": contender.codes, **point["parameters"]}
    return {"data": case.data.name, "nlist": case.nlist, "points": points}


def _contenders(case, options):
    """Codes as Faiss writes them: of 8 bits unless they say x4."""
    d, nlist = case.data.X.shape[1], case.nlist
    lists, parts, pairs = f"IVF{nlist}", CURVE_PARTS[case.data.name], d // 2
    for m in parts[:1] if options.quick else parts:
        yield _ours(nlist, m, 8)
        yield _refined("Faiss IVFPQ, RFlat", f"PQ{m}", f"{lists},PQ{m}")
    yield _ours(nlist, pairs, 4)
    codes = f"PQ{pairs}x4fs"
    yield _refined("Faiss FastScan, RFlat", codes, f"{lists},{codes}")
    codes = f"PQ{2 * parts[0]}x4fs"
    yield _Contender(FAST_SCAN, codes, faiss_index(f"{lists},{codes}", WIDEST))
    # One bit for each feature is made for rotated vectors.
    codes, key = "RaBitQfs", f"RR{d},{lists},RaBitQfs"
    yield _Contender("Faiss RaBitQ", codes, faiss_index(key, WIDEST))
    yield _refined("Faiss RaBitQ, RFlat", codes, key)


def _ours(nlist, m, n_bits):
    start = PeerProcess("_pq_peers:OursRefined", {}, (nlist, m, n_bits))
    codes = f"PQ{m}" if n_bits == 8 else f"PQ{m}x{n_bits}"
    return _Contender("ours", codes, start, "refine_factor")


def _refined(peer, codes, key):
    start = faiss_index(f"{key},RFlat", WIDEST)
    return _Contender(peer, codes, start, "k_factor")


def _settings(case, key, worker, options):
    """What to try: a rough grid, or around the recall where refinement has it."""
    if key is None:
        return [{"nprobe": n} for n in (1, 2, 4, 8, 16, 32, 64) if n < case.nlist]
    factors = FACTORS[::3] if options.quick else FACTORS
    return refine_settings(case, worker, key, factors)


SECTIONS = {
    "speed": speed,
    "agreement": agreement,
    "recall": own_recall,
    "curve": curve,
    "training": training,
    "memory": memory,
    "portable": portable,
}
