"""A run, and its sections: what is measured of a subject.

A subject is a module with the cases and the peers of an estimator: ``_flat.py``,
``_ivf_flat.py`` and ``_ivf_pq.py``. A section adds rows to the tables of a run.
"""

from collections import defaultdict
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from _data import DataSet, exact_neighbors, found_sqdists, load
from _harness import (
    WIDEST,
    PeerProcess,
    class_of,
    faiss_index,
    log,
    measure,
    on_each_blas,
    settle,
    start,
)

from sklearn_ann import FlatL2Neighbors, knn_recall

K = 10
N_QUERIES = 1000

# The recall that the fastest settings of a curve must have.
RECALL = 0.95

# What a curve tries: lists, and how often a neighbour is measured again.
_NPROBES = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_FACTORS = (1, 2, 4, 8, 16)

# Seconds for one peer and one line of a table, after which five rounds do.
_BUDGET, _CURVE_BUDGET = 10.0, 1.0

# Distances are equal that differ by less than so many units in the last place of the
# square of |q| + |y| in float32: Faiss adds up parts as large.
_UNITS = 8


class Case(NamedTuple):
    """Rows and queries, the sizes of the index, and what the peers get of it."""

    data: DataSet
    sizes: dict = {}
    arrays: dict = {}

    @property
    def about(self):
        return {"data": self.data.name, **self.sizes}


class Run:
    """The options of a run, what it has loaded, and the rows of its tables."""

    def __init__(self, options):
        self.quick, self._data_home = options.quick, options.data_home
        self._names = options.data and options.data.split(",")
        self.tables, self.failures, self.processes = defaultdict(list), [], {}
        self._cache = {}
        self.n_rounds = self.n_disturbed = 0

    def once(self, key, make, *args):
        """What does not change during the run."""
        if key not in self._cache:
            self._cache[key] = make(*args)
        return self._cache[key]

    def data_sets(self, names, n_queries=N_QUERIES):
        """Those of some data sets that are wanted and there; in a quick run "tiny"."""
        for name in names:
            is_named = name in self._names if self._names else name != "tiny"
            if name == "tiny" if self.quick else is_named:
                arguments = name, self._data_home, n_queries
                try:
                    yield self.once(arguments, load, *arguments)
                except OSError as error:
                    log(f"{name} is left out: {error}")

    @contextmanager
    def start(self, peers, case):
        """Functions that ask those of the peers whose library is installed, by name."""
        arrays = {"X": case.data.X, "Q": case.data.Q, **case.arrays}
        if self.quick:  # one setting of BLAS will do
            last = {(peer.name, str(peer.arguments)): x for x, peer in peers.items()}
            peers = {name: peers[name] for name in last.values()}
        with ExitStack() as stack:
            folder = stack.enter_context(TemporaryDirectory())
            for name, array in arrays.items():
                np.save(Path(folder) / f"{name}.npy", array)
            running = {}
            for name, peer in installed(peers).items():
                log(f"building {name}")
                ask = running[name] = stack.enter_context(start(peer))
                self.first_seconds = ask("prepare", folder, K)
                self.processes.setdefault(name, ask("describe"))
            yield running

    def measure(self, peers, nq, n_threads, budget=_BUDGET):
        n_queries = max(nq, N_QUERIES)
        timings = measure(peers, nq, n_threads, n_queries, budget, self.quick)
        self.n_rounds += sum(len(timing.rounds) for timing in timings.values())
        self.n_disturbed += sum(timing.n_disturbed for timing in timings.values())
        return timings

    def exact(self, data):
        """Squared distances and ids of the true neighbours of the first queries."""
        key = "exact", data.name
        return self.once(key, exact_neighbors, data.X, data.Q[:N_QUERIES], K)

    def recall(self, data, ids, first=0):
        """Of those of the queries from number `first` on whose neighbours are known."""
        ids = ids[: N_QUERIES - first]
        asked = slice(first, first + len(ids))
        found = found_sqdists(data.X, data.Q[asked], ids)
        return knn_recall(self.exact(data)[0][asked], found)

    def timed_recall(self, data, timing):
        """Over the queries that were timed, as text of four digits."""
        answers = timing.answers.items()
        found = mean(self.recall(data, ids, first) for first, ids in answers)
        return f"{found:.4f}"

    def expect(self, is_true, what):
        """Answers that are not what they must be fail the run at its end."""
        if not is_true:
            log(f"FAILED: {what}")
            self.failures.append(what)


def installed(peers):
    """Those of some peers whose library is there."""
    classes = {name: class_of(peer.name) for name, peer in peers.items()}
    missing = [name for name in peers if not find_spec(classes[name].module)]
    if missing:
        log(f"left out, not installed: {', '.join(missing)}")
    return {name: peers[name] for name in peers if name not in missing}


def speed(run, subject):
    """A line for each case, number of lists probed, batch size, number of threads."""
    for case in subject.cases(run):
        with run.start(subject.peers(case), case) as peers:
            size = peers["ours"]("memory")
            for nprobe in subject.NPROBES[case.data.name]:
                for nq, n_threads in subject.batches(case, nprobe):
                    setting = subject.RIVALS, nprobe, nq, n_threads
                    row = _add_speed(run, case, peers, *setting)
                    row["memory"] = size / case.data.X.nbytes


def _add_speed(run, case, peers, rivals, nprobe, nq, n_threads):
    """Add a line, and one with the times of all peers; return the first.

    `rivals` names the workers that a rival is the fastest of, by the name it gets.
    """
    about = case.about
    if nprobe is not None:
        about["nprobe"] = nprobe
        peers = {name: partial(ask, nprobe=nprobe) for name, ask in peers.items()}
    about |= {"queries": nq, "threads": n_threads}
    timings = run.measure(peers, nq, n_threads)
    log(", ".join(f"{key}={value}" for key, value in about.items()))
    ms = {name: 1e3 * timing.seconds for name, timing in timings.items()}
    ours = {"ms": ms["ours"], "queries/s": 1e3 * nq / ms["ours"]}
    ours["recall@10"] = run.timed_recall(case.data, timings["ours"])
    row, others = {**about, **ours}, {}
    for rival, names in rivals.items():
        if present := [name for name in names if name in ms]:
            row[f"x {rival}"] = min(ms[name] for name in present) / ms["ours"]
            # All of them find the same.
            found = run.timed_recall(case.data, timings[present[0]])
            others[f"recall@10 of {rival}"] = found
    run.tables["speed"].append(row)
    run.tables["peers"].append({**about, **ms, **others})
    return row


def agreement(run, subject):
    """Whether Faiss answers the same and, if not, why; whether all lists are exact."""
    for case in subject.cases(run):
        both = {"ours": subject.OURS, "Faiss": faiss_index(subject.key(**case.sizes))}
        with run.start(both, case) as peers:
            nprobes = subject.NPROBES[case.data.name] if "Faiss" in peers else ()
            for nprobe in nprobes:
                _add_agreement(run, case, peers, nprobe)
            if "labels" in case.arrays:
                nprobe = case.sizes["nlist"]
                _, ids = peers["ours"]("answers", N_QUERIES, nprobe=nprobe)
                n_exact = int((ids == run.exact(case.data)[1]).all(axis=1).sum())
                row = {**case.about, "nprobe": nprobe, "queries": N_QUERIES}
                run.tables["agreement"].append({**row, "exact": n_exact})
                run.expect(n_exact == N_QUERIES, f"exact ids: {row}")


def _add_agreement(run, case, peers, nprobe):
    """Count queries by why our ids differ from those of Faiss, and equal distances.

    Short: Faiss found fewer than ten. Ties: the distances to the other rows are the
    same but for rounding in float32. Probes: the nearest lists are others.
    """
    Q = case.data.Q[:N_QUERIES]
    found, exact, errors = [], [], []
    for name in ("ours", "Faiss"):
        sqdists, ids = peers[name]("answers", N_QUERIES, nprobe=nprobe)
        rows = np.maximum(ids, 0).ravel()
        vectors = peers["Faiss"]("decode", rows).astype(np.float64)
        vectors = vectors.reshape(*ids.shape, -1)
        longest = np.sqrt((vectors**2).sum(axis=2).max())
        unit = 2.0**-24 * (np.linalg.norm(Q, axis=1) + longest)[:, None] ** 2
        found.append(ids)
        exact.append(((vectors - Q[:, None]) ** 2).sum(axis=2))
        errors.append((np.abs(sqdists - exact[-1]) / unit)[ids >= 0].max())
    ids, their_ids = found
    probes = np.sort(nearest_lists(Q, case.arrays["centroids"], nprobe))
    their_probes = np.sort(peers["Faiss"]("probes", N_QUERIES, nprobe))
    difference = np.abs(np.diff(np.sort(exact), axis=0)[0])
    reasons = {
        "equal": (ids == their_ids).all(axis=1),
        "short": (their_ids < 0).any(axis=1) & (ids >= 0).all(axis=1),
        "ties": (difference < _UNITS * unit).all(axis=1),
        "probes": (probes != their_probes).any(axis=1),
    }
    reason = np.select([*reasons.values()], [*reasons], "unexplained")
    counts = {x: int((reason == x).sum()) for x in [*reasons, "unexplained"]}
    row = {**case.about, "nprobe": nprobe, "queries": len(Q), **counts}
    row["share equal"] = f"{counts['equal'] / len(Q):.4f}"
    row["largest error of a distance"] = float(max(errors))
    run.tables["agreement"].append(row)
    is_good = counts["unexplained"] == 0 and max(errors) < _UNITS
    run.expect(is_good, f"the answers of Faiss: {row}")


def nearest_lists(rows, centroids, n_lists):
    """The nearest lists of some rows, as our estimators find them."""
    return FlatL2Neighbors(n_lists).fit(centroids).kneighbors(rows)[1]


class Contender(NamedTuple):
    """A peer of a curve: `factor` is its parameter of refinement, `codes` its codes."""

    peer: str
    start: PeerProcess
    factor: str | None = None
    codes: str = ""


def curve(run, subject):
    """Recall and queries/s of many settings: 1000 queries at once, two threads."""
    for case in getattr(subject, "curve_cases", subject.cases)(run):
        listed = subject.contenders(case)
        contenders = {f"{x.peer} {x.codes}".rstrip(): x for x in listed}
        starts = {name: contender.start for name, contender in contenders.items()}
        with run.start(starts, case) as peers:
            tuned = {
                (name, *setting.items()): partial(ask, **setting)
                for name, ask in peers.items()
                for setting in _settings(run, case, contenders[name])
            }
            log(f"{case.about}: recall against time, {len(tuned)} settings")
            timings = run.measure(tuned, N_QUERIES, 2, _CURVE_BUDGET)
        best = {}
        for (name, *setting), timing in timings.items():
            contender = contenders[name]
            codes = [("codes", contender.codes)] if contender.codes else []
            words = [f"{key}={value}" for key, value in codes + setting]
            row = {**case.about, "peer": contender.peer, "setting": ", ".join(words)}
            row["recall@10"] = run.timed_recall(case.data, timing)
            row["queries/s"] = rate = N_QUERIES / timing.seconds
            run.tables["curve"].append({**row, "ms": 1e3 * timing.seconds})
            fastest = best.get(contender.peer, row)
            if float(row["recall@10"]) >= RECALL and rate >= fastest["queries/s"]:
                best[contender.peer] = row
        run.tables["recall"] += best.values()


def _settings(run, case, contender):
    """A grid of the parameters of a contender."""
    if contender.peer == "hnswlib":
        return [{"ef": ef} for ef in (10, 20, 40, 80, 160, 320)]
    step = 3 if run.quick else 1
    nprobes = [n for n in _NPROBES[::step] if n < case.sizes["nlist"]]
    if contender.factor is None:
        return [{"nprobe": n} for n in nprobes]
    factors = _FACTORS[::step]
    return [{"nprobe": n, contender.factor: f} for n in nprobes for f in factors]


def trained(run, case, ours, key):
    """The centroids and the index that Faiss trains; without Faiss our centroids."""
    faiss = installed({"trainer": PeerProcess("FaissTraining", {"key": key}, WIDEST)})
    ours = PeerProcess("OursTraining", {**ours.arguments, **case.sizes})
    with run.start(faiss or {"trainer": ours}, case) as peers:
        peers["trainer"]("train", 0)
        return peers["trainer"]("trained")


def training(run, subject):
    """Times of training and of adding, and the recall, for several seeds."""
    for case in subject.training_cases(run):
        faisses = on_each_blas("Faiss", "FaissTraining", key=subject.key(**case.sizes))
        ours = {**subject.OURS.arguments, **case.sizes}
        trainers = {"ours": PeerProcess("OursTraining", ours), **faisses}
        results, nprobe = defaultdict(list), subject.NPROBES[case.data.name][-1]
        with run.start(trainers, case) as peers:
            for seed in range(1 if run.quick else 3):
                for name, ask in peers.items():
                    log(f"{case.about}: training of {name}, {seed=}")
                    ask("set_threads", 2)
                    settle(run.quick)
                    times = ask("train", seed)
                    _, ids = ask("answers", N_QUERIES, nprobe=nprobe)
                    results[name].append((*times, run.recall(case.data, ids)))
        for name, seeds in results.items():
            times, adding, recalls = zip(*seeds, strict=True)
            row = {**case.about, "peer": name, "training": median(times)}
            row |= {"adding": median(adding), "nprobe": nprobe}
            row["recall@10"] = f"{mean(recalls):.4f}"
            row["of each seed"] = ", ".join(f"{found:.4f}" for found in recalls)
            run.tables["training"].append(row)
