"""How searches of inverted lists are measured: times, recall, settings to try.

A case, wherever it is an argument, has at least `data`, and `truth`: the exact answers
to its first queries.
"""

from _data import N_QUERIES, exact_neighbors, load, mean_recall, recall
from _harness import Tuned, blas_settings, log, measure

K = 10

# The recall that settings are tuned for.
RECALL = 0.95

# The widest kernels: what is not measured with all settings has these.
WIDEST = list(blas_settings().values())[-1]

# Seconds for one peer and one line of a table, after which five measurements do.
_BUDGET = 4.0
CURVE_BUDGET = 1.0

# A round of single queries calls with so many, one after the other.
_SINGLES = 100

# Rows found with codes for each neighbour, as good as all.
_MOST_FACTOR = 64

_cache = {}


def once(key, make, *args):
    """What does not change during a run."""
    if key not in _cache:
        _cache[key] = make(*args)
    return _cache[key]


def load_once(name, options, n_queries=N_QUERIES):
    """The data set, or None if its files are not there."""
    return once(name, load, name, options, n_queries)


def truth_of(data):
    """The exact answers to the first queries."""
    return once((data.name, "truth"), _truth, data)


def _truth(data):
    log(f"{data.name}: exact answers")
    return exact_neighbors(data.X, data.Q[:N_QUERIES], K)


# -- lines of a table ---------------------------------------------------------------


def measure_batch(workers, nq, n_threads, options, budget=_BUDGET):
    return measure(
        workers,
        nq,
        n_threads,
        max(nq, N_QUERIES),
        quick=options.quick,
        n_singles=_SINGLES if nq == 1 else None,
        budget=budget,
    )


def timed_recall(case, timing):
    """Over the queries that were timed and whose true neighbours are known."""
    answers = [(first, ids[:N_QUERIES]) for first, ids in timing.answers]
    return mean_recall(case.data, answers, case.truth)


def make_line(case, about, nq, n_threads, timings, rivals):
    """A line of a table.

    Parameters
    ----------
    about : dict
        What was searched, and how.
    timings : dict of Timing
        By name of the peer; ours is called that.
    rivals : dict of lists
        Names of the peers that a rival is the fastest of, by the name it gets.
    """
    peers = {
        name: timing.as_dict() | {"recall": timed_recall(case, timing)}
        for name, timing in timings.items()
    }
    ours = peers["ours"]["seconds"]
    return {
        **about,
        "queries": nq,
        "threads": n_threads,
        "seconds": ours,
        "queries_per_second": nq / ours,
        "recall": peers["ours"]["recall"],
        "ratios": {
            rival: min(peers[name]["seconds"] for name in names) / ours
            for rival, names in rivals.items()
            if all(name in peers for name in names)
        },
        "peers": peers,
    }


# -- recall against time ------------------------------------------------------------


def measure_points(case, workers, settings, options):
    """A point of the curve for each setting; all queries at once, two threads.

    Parameters
    ----------
    workers : dict
        By name.
    settings : dict of lists
        Parameters to search with, by name of the worker.

    Returns
    -------
    points : list of dict
        Their `peer` is the name of the worker.
    """
    tuned, parameters = {}, {}
    for name, own in settings.items():
        for number, setting in enumerate(own):
            tuned[name, number] = Tuned(workers[name], **setting)
            parameters[name, number] = setting
    log(f"{case.data.name}: recall against time, {len(tuned)} settings")
    nq = len(case.data.Q)
    timings = measure_batch(tuned, nq, 2, options, CURVE_BUDGET)
    return [
        {
            "peer": name,
            "parameters": parameters[name, number],
            "recall": timed_recall(case, timing),
            "queries_per_second": nq / timing.seconds,
            "seconds": timing.seconds,
            "slowest_round": max(timing.rounds),
            "fastest_round": min(timing.rounds),
            "rounds": len(timing.rounds),
            "disturbed_rounds": timing.n_disturbed,
        }
        for (name, number), timing in timings.items()
    ]


def least(is_enough, fewest, most):
    """The smallest number from `fewest` to `most` that is enough."""
    low, high = fewest - 1, fewest
    while high < most and not is_enough(high):
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def has_recall(case, worker, **parameters):
    ids = Tuned(worker, **parameters).ask("search_all")
    return recall(case.data, 0, ids, case.truth) >= RECALL


def refine_settings(case, worker, key, factors):
    """Of a grid around the recall, what nothing else beats in a first look.

    The settings that reach the recall fastest are kept whether beaten or not: they are
    too close to be told apart by one look. `key` is the name of the second parameter,
    which has `factors`.
    """
    worker.ask("set_threads", 2)
    most = case.nlist
    whole = least(
        lambda n: has_recall(case, worker, **{"nprobe": n, key: _MOST_FACTOR}), 1, most
    )
    nprobes = {2, 4, 8, 16, 32, 64} | {whole + n for n in (0, 1, 2, 4, 8)}
    looks = []
    for nprobe in sorted(n for n in nprobes if n < case.nlist):
        for factor in factors:
            setting = {"nprobe": nprobe, key: factor}
            request = "time", 0, len(case.data.Q), 2, True
            seconds, ids = Tuned(worker, **setting).ask(*request)
            looks.append((min(seconds), recall(case.data, 0, ids, case.truth), setting))
    looks.sort(key=lambda look: look[0])
    best, kept = 0.0, []
    for _, found, setting in looks:
        if found > best:
            best = found
            kept.append(setting)
    close = [setting for _, found, setting in looks if found >= RECALL][:4]
    return kept + [setting for setting in close if setting not in kept]
