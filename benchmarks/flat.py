"""Exact search: FlatL2Neighbors beside Faiss and scikit-learn's brute force."""

from _data import exact_neighbors, load, mean_recall
from _first_call import first_search_seconds, import_seconds
from _flat_report import bars, markdown  # noqa: F401  (run.py calls them)
from _harness import TIERS, PeerProcess, log, measure, on_each_blas, start_workers

from sklearn_ann import FlatL2Neighbors

K = 10
BATCH_SIZES = (1, 10, 100, 1000)
THREADS = (1, 2)

OURS = PeerProcess("_peers:Ours")
SKLEARN = PeerProcess("_peers:SklearnBrute")

SKLEARNS = on_each_blas("scikit-learn", SKLEARN.peer)
FAISSES = on_each_blas("Faiss Flat", "_peers:FaissFlat")
# Panorama calls no BLAS: its times at all settings are the same.
PANORAMA = PeerProcess("_peers:FaissPanorama")
PEERS = {"ours": OURS, **FAISSES, "Faiss Panorama": PANORAMA, **SKLEARNS}


# -- time, recall, memory -----------------------------------------------------------


def speed(options):
    """A line for each data set, batch size and number of threads."""
    lines = []
    for name in ("sentences", "sift"):
        data = load(name, options)
        if data is None:
            continue
        log(f"{name}: exact answers")
        truth = exact_neighbors(data.X, data.Q, K)
        with start_workers(PEERS, data, K) as workers:
            memory = workers["ours"].ask("memory") / data.X.nbytes
            for n_threads in THREADS:
                for nq in BATCH_SIZES:
                    timings = measure(
                        workers, nq, n_threads, len(data.Q), quick=options.quick
                    )
                    line = _line(data, nq, n_threads, timings, truth)
                    log(f"{name}: measured {nq} queries, {n_threads} threads")
                    lines.append({**line, "memory": memory})
    _add_better_threads(lines)
    return lines


def _line(data, nq, n_threads, timings, truth):
    peers = {
        name: timing.as_dict() | {"recall": mean_recall(data, timing.answers, truth)}
        for name, timing in timings.items()
    }
    ours = peers["ours"]
    return {
        "data": data.name,
        "n": len(data.X),
        "d": data.X.shape[1],
        "queries": nq,
        "threads": n_threads,
        "seconds": ours["seconds"],
        "queries_per_second": nq / ours["seconds"],
        "recall": ours["recall"],
        "ratios": _ratios(peers),
        "peers": peers,
    }


def _ratios(peers):
    """Times of the peers over ours; Faiss at the better of its BLAS settings."""
    seconds = {name: peer["seconds"] for name, peer in peers.items()}
    ours = seconds.pop("ours")
    ratios = {name: value / ours for name, value in seconds.items()}
    ratios["Faiss Flat"] = min(ratios[name] for name in FAISSES)
    ratios["scikit-learn"] = ratios["scikit-learn (default BLAS)"]
    return ratios


def _add_better_threads(lines):
    """The ratio to Faiss at whatever number of threads it is faster with."""
    for line in lines:
        line["ratios"]["Faiss Flat, better threads"] = min(
            other["ratios"]["Faiss Flat"] * other["seconds"] / line["seconds"]
            for other in lines
            if (other["data"], other["queries"]) == (line["data"], line["queries"])
        )


# -- answers ------------------------------------------------------------------------


def answers(options):
    """Queries whose ids are the true ones, in order, ties by row number."""
    peers = {"ours": OURS, "Faiss Flat": PeerProcess("_peers:FaissFlat")}
    peers["scikit-learn"] = SKLEARN
    lines = []
    for name in ("sentences", "sift", "offset", "integers", "duplicates"):
        data = load(name, options)
        if data is None:
            continue
        _, true_ids = exact_neighbors(data.X, data.Q, K)
        line = {"data": name, "dtype": str(data.X.dtype), "shape": data.X.shape}
        with start_workers(peers, data, K) as workers:
            for peer, worker in workers.items():
                is_equal = (worker.ask("search_all") == true_ids).all(axis=1)
                line[peer] = int(is_equal.sum())
        lines.append({**line, "queries": len(data.Q)})
    return lines


# -- the first call, and the shortest -----------------------------------------------


def first_call(options):
    n_repeats, n_cold = (2, 1) if options.quick else (5, 3)
    data = load("sentences", options)
    log("import, first search")
    index = FlatL2Neighbors(n_neighbors=K).fit(data.X)
    search = first_search_seconds(index, data.Q[:1], n_cold=n_cold, n_warm=n_repeats)
    results = {"import": import_seconds(n_repeats)}
    results |= {f"first search, {name}": value for name, value in search.items()}
    small = load("small", options)
    with start_workers({"ours": OURS, "scikit-learn": SKLEARN}, small, K) as workers:
        timings = measure(workers, 1, None, len(small.Q), quick=options.quick, loops=70)
    for name, timing in timings.items():
        results[f"small call, {name}"] = timing.seconds
    return results


def tiers(options):
    """1000 queries on the sentences as other processors would compute them."""
    ours = {name: PeerProcess(OURS.peer, TIERS[name]) for name in TIERS}
    brutes = {name: SKLEARNS[name] for name in SKLEARNS if "SkylakeX" not in name}
    data = load("sentences", options)
    truth = exact_neighbors(data.X, data.Q, K)
    lines = []
    with start_workers({**ours, **brutes}, data, K) as workers:
        for n_threads in THREADS:
            timings = measure(
                workers, len(data.Q), n_threads, len(data.Q), quick=options.quick
            )
            for name in TIERS:
                tier = workers[name].ask("describe")["simd"]
                seconds = timings[name].seconds
                ratios = {peer: timings[peer].seconds / seconds for peer in brutes}
                line = {"tier": tier, "threads": n_threads, "seconds": seconds}
                line["recall"] = mean_recall(data, timings[name].answers, truth)
                lines.append({**line, "ratios": ratios})
    return lines


SECTIONS = {
    "speed": speed,
    "answers": answers,
    "first-call": first_call,
    "tiers": tiers,
}
