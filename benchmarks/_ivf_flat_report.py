"""The results of ``ivf_flat.py`` as Markdown and as a plot, and their bars."""

from statistics import median

from _curve_report import curve_table, fastest_table, plot_curves, recall_bars
from _ivf_measure import RECALL
from _report import bar, bars_table, disturbances, document, setting, table

# What is asked of ratios to Faiss: data, nlist, nprobe, queries, threads; bar, stretch.
_RATIO_BARS = [
    ("sift", 1024, 8, 1000, 2, 5.0, 10.0),
    ("sift", 1024, 32, 1000, 2, 6.0, 10.0),
    ("sift", 1024, 64, 1000, 2, 6.0, 10.0),
    ("sift", 1024, 32, 10_000, 2, 8.0, 15.0),
    ("sift", 1024, 8, 1, 1, 1.5, 2.5),
    ("sift", 1024, 32, 1, 1, 2.5, 4.0),
    ("sentences", 50, 10, 1000, 2, 5.0, 10.0),
    ("sentences", 50, 10, 1, 1, 2.0, 4.0),
]
_RECALL_BAR = 1.0, 2.0
_TRAINING_BAR = 2.0, 4.0
_ADDING_BAR = 2.0, 4.0
_INERTIA_BAR = 0.5, 0.0
_MEMORY_BAR = 1.45, 1.35


# -- bars ---------------------------------------------------------------------------


def bars(results):
    """Rows (what, measured, bar, stretch, verdict) for all that was measured."""
    return [
        *_speed_bars(results.get("speed", [])),
        *recall_bars(results.get("curve", []), *_RECALL_BAR),
        *_training_bars(results.get("training")),
        *_memory_bars(results.get("memory", [])),
        *_answer_bars(results),
    ]


def _speed_bars(lines):
    keys = "data", "nlist", "nprobe", "queries", "threads"
    by_setting = {tuple(x[key] for key in keys): x for x in lines}
    for data, nlist, nprobe, queries, threads, *limits in _RATIO_BARS:
        line = by_setting.get((data, nlist, nprobe, queries, threads))
        if line:
            case = setting(f"{data}, {nlist=}, {nprobe=}", queries, threads)
            ratio = line["ratios"]["Faiss IVFFlat"]
            yield bar(f"{case}: x Faiss IVFFlat", ratio, *limits)


def _training_bars(result):
    if not result:
        return
    case = f"{result['data']}, nlist={result['nlist']}"
    yield bar(f"{case}, training: x Faiss", result["training_ratio"], *_TRAINING_BAR)
    yield bar(f"{case}, adding: x Faiss", result["adding_ratio"], *_ADDING_BAR)
    what = f"{case}, inertia above Faiss's, mean of 3 seeds, %"
    excess = 100 * (result["inertia_ratio"] - 1)
    yield bar(what, excess, *_INERTIA_BAR, sign=-1)


def _memory_bars(lines):
    if lines:
        largest = max(line["memory"] for line in lines)
        yield bar("sift, memory over the vectors'", largest, *_MEMORY_BAR, sign=-1)


def _answer_bars(results):
    for x in results.get("widening", []):
        what = f"{x['data']}, nprobe=1, k={x['k']}: queries with as many neighbours"
        yield bar(what, x["ours"], x["queries"], None)
    lines = results.get("agreement", [])
    if lines:
        explained = sum(x["queries"] - x["unexplained"] for x in lines)
        what = "queries with Faiss's ids, but for ties, rounding of centroid distances "
        what += "and lists too short"
        yield bar(what, explained, sum(x["queries"] for x in lines), None)
        exact = [x for x in lines if "exact" in x]
        found, queries = (sum(x[key] for x in exact) for key in ("exact", "queries"))
        yield bar("exact queries with nprobe=nlist", found, queries, None)


# -- sections -----------------------------------------------------------------------


def _speed(lines):
    ratios = ["Faiss IVFFlat", "Faiss Panorama", "Faiss PCA, Panorama", "scikit-learn"]
    rows = [
        [x["data"], x["nlist"], x["nprobe"], x["queries"], x["threads"]]
        + [1e3 * x["seconds"], x["queries_per_second"], f"{x['recall']:.4f}"]
        + [x["ratios"].get(peer) for peer in ratios]
        for x in lines
    ]
    head = ["data", "nlist", "nprobe", "queries", "threads", "ms", "queries/s"]
    head += ["recall@10", *(f"x {peer}" for peer in ratios)]
    return table(head, rows)


def _peer_times(lines):
    """Milliseconds of every peer."""
    peers = list(lines[0]["peers"])
    rows = [
        [x["data"], x["nlist"], x["nprobe"], x["queries"], x["threads"]]
        + [
            1e3 * x["peers"][peer]["seconds"] if peer in x["peers"] else None
            for peer in peers
        ]
        for x in lines
    ]
    head = ["data", "nlist", "nprobe", "queries", "threads", *peers]
    return table(head, rows) + "\n\n" + disturbances(lines)


def _curve(cases):
    parts = [curve_table(cases)]
    for case in cases:
        if "hnswlib_build_seconds" in case:
            seconds = case["hnswlib_build_seconds"]
            took = "was given up" if seconds is None else f"took {seconds:.1f} s"
            parts.append(f"{case['data']}: the build of hnswlib {took}.")
    return "\n\n".join(parts)


def _agreement(lines):
    reasons = "equal", "short", "ties", "probes", "lists", "unexplained"
    rows = [
        [x["data"], x["nlist"], x["nprobe"], x["queries"]]
        + [x[reason] for reason in reasons]
        + [f"{x['equal'] / x['queries']:.4f}", x["rows_in_other_lists"], x.get("exact")]
        for x in lines
    ]
    head = ["data", "nlist", "nprobe", "queries", *reasons]
    head += ["share equal", "rows in other lists", "exact with nprobe=nlist"]
    return table(head, rows)


def _training(result):
    rows = [
        [name, median(times["training"]), median(times["adding"])]
        for name, times in result["times"].items()
    ]
    about = f"{result['rows']} rows of {result['data']}, nlist={result['nlist']}"
    inertias = [
        [name, *(f"{value:.6g}" for value in values)]
        for name, values in result["inertia"].items()
    ]
    parts = [f"{about}, 2 threads; medians of 3 seeds, in seconds."]
    parts.append(table(["peer", "training", "adding"], rows))
    parts.append("Inertia of all rows:")
    parts.append(table(["peer", "seed 0", "seed 1", "seed 2"], inertias))
    return "\n\n".join(parts)


def _memory(lines):
    rows = [
        [x["data"], x["nlist"], f"{x['memory']:.3f}"]
        + [1e6 * x[key] for key in ("median", "first", "slowest")]
        for x in lines
    ]
    head = ["data", "nlist", "memory", "partial_fit, us", "first, us", "slowest, us"]
    return table(head, rows)


def _widening(lines):
    head = list(lines[0])
    return table(head, [list(x.values()) for x in lines])


_SECTIONS = {
    "speed": (
        "Speed at equal lists, k = 10",
        """\
First quartiles of interleaved rounds, each after 0.08 s of the same calls, each peer in
its own process, with the centroids and
the lists that Faiss trained. Single queries: one call for each of many different ones.
Ratios: time of the peer over ours at the same number of threads. Faiss IVFFlat counts
with the BLAS that is fastest for it. Panorama with PCA searches rotated vectors, as it
is meant to. scikit-learn searches everything (`algorithm="brute"`).""",
        _speed,
    ),
    "peers": ("Times of all peers, ms", "", _peer_times),
    "with_recall": (
        f"Fastest setting with a recall@10 of {RECALL}",
        """\
Of those in the next table: 1000 queries, 2 threads. "Faiss refine" is
`IVF...,PQ...x4fs,RFlat` with 4 bits for each pair of features; its two parameters were
searched in a grid. Faiss has the widest BLAS kernels that the processor runs.""",
        fastest_table,
    ),
    "curve": ("Recall against time, 1000 queries, 2 threads", "", _curve),
    "agreement": (
        "Agreement with Faiss",
        """\
Queries by how their ten ids compare with Faiss's. Equal: in the same order. Short:
Faiss found fewer than ten, where we search further lists. Ties: other ids, the same
distances but for the rounding of a sum in float32. Probes: the nearest centroids are
others. Lists: a row that one found is in another list of the other. Exact: our ids are
those of a float64 oracle when all lists are searched, ties by row number.""",
        _agreement,
    ),
    "training": (
        "Training and adding",
        """\
k-means on 256 rows a list, 10 iterations, and the assignment of all rows to lists.
Inertia is computed by one code for both.""",
        _training,
    ),
    "memory": (
        "Memory, and rows one by one",
        """\
Memory: of the fitted estimator, over that of the vectors. `partial_fit` adds one row
in each call; the first one makes room for more.""",
        _memory,
    ),
    "widening": (
        "More neighbours than a list holds",
        "Queries that get all k neighbours, of all queries.",
        _widening,
    ),
    "bars": ("Bars", "", bars_table),
}


def markdown(results):
    """The whole report, of the sections that were run."""
    everything = {**results, "peers": results.get("speed")}
    everything["with_recall"] = results.get("curve")
    title = "Search of inverted lists: IVFFlatNeighbors"
    return document(title, everything, _SECTIONS)


_COLORS = {
    "ours": "C0",
    "Faiss IVFFlat": "C1",
    "Faiss Panorama": "C2",
    "Faiss PCA, Panorama": "C3",
    "Faiss refine": "C4",
    "hnswlib": "C5",
}


def plot(results, path):
    """Recall against queries per second, one panel for each data set."""
    plot_curves(results.get("curve"), path, _COLORS)
