"""The results of ``flat.py`` as Markdown, and the bars they are held against."""

from _report import bar, bars_table, disturbances, document, setting, table

# What is asked of ratios: data, queries, threads, peer; bar, stretch.
_RATIO_BARS = [
    ("sentences", 1000, 2, "Faiss Flat", 1.8, 2.5),
    ("sentences", 1, 1, "Faiss Flat", 3.5, 5.0),
    ("sift", 1, 2, "Faiss Flat, better threads", 3.5, 7.0),
    ("sift", 100, 2, "Faiss Flat", 10.0, 20.0),
    ("sift", 1000, 2, "Faiss Flat", 2.5, 4.5),
    ("sentences", 1, 2, "scikit-learn", 30.0, 60.0),
    ("sentences", 1000, 2, "scikit-learn", 12.0, 25.0),
]

# What is asked of the first call: name, unit, units in a second; bar, stretch.
_TIME_BARS = [
    ("small call, ours", "us", 1e6, 30.0, 15.0),
    ("import", "s", 1, 0.3, 0.15),
    ("first search, warm", "s", 1, 0.5, 0.2),
    ("first search, cold", "s", 1, 20.0, 8.0),
]

_MEMORY_BAR = 1.35, 1.27
_TIER_BAR = 4.0


# -- bars ---------------------------------------------------------------------------


def bars(results):
    """Rows (what, measured, bar, stretch, verdict) for all that was measured."""
    lines = results.get("speed", [])
    by_setting = {(x["data"], x["queries"], x["threads"]): x for x in lines}
    rows = []
    for *measured, peer, least, stretch in _RATIO_BARS:
        if tuple(measured) in by_setting:
            ratio = by_setting[tuple(measured)]["ratios"][peer]
            rows.append(bar(f"{setting(*measured)}: x {peer}", ratio, least, stretch))
    for name, unit, scale, least, stretch in _TIME_BARS:
        if name in results.get("first-call", {}):
            seconds = scale * results["first-call"][name]
            rows.append(bar(f"{name}, {unit}", seconds, least, stretch, sign=-1))
    if lines:
        memory = max(line["memory"] for line in lines)
        rows.append(bar("memory over the vectors'", memory, *_MEMORY_BAR, sign=-1))
    for line in results.get("tiers", []):
        if line["threads"] == 2:
            measured = setting("sentences", 1000, 2)
            for peer, ratio in line["ratios"].items():
                what = f"{measured}, tier {line['tier']}: x {peer}"
                rows.append(bar(what, ratio, _TIER_BAR, None))
    return rows


# -- sections -----------------------------------------------------------------------


def _speed(lines):
    head = ["data", "queries", "threads", "ms", "queries/s", "recall@10", "memory"]
    ratios = ["Faiss Flat", "Faiss Panorama", "scikit-learn"]
    rows = [
        [x["data"], x["queries"], x["threads"], 1e3 * x["seconds"]]
        + [x["queries_per_second"], f"{x['recall']:.4f}", x["memory"]]
        + [x["ratios"][peer] for peer in ratios]
        for x in lines
    ]
    return table(head + [f"x {peer}" for peer in ratios], rows)


def _peer_times(lines):
    """Milliseconds of every peer."""
    peers = list(lines[0]["peers"])
    rows = [
        [x["data"], x["queries"], x["threads"]]
        + [1e3 * x["peers"][peer]["seconds"] for peer in peers]
        for x in lines
    ]
    head = ["data", "queries", "threads", *peers]
    return table(head, rows) + "\n\n" + disturbances(lines)


def _answers(lines):
    about = "data", "dtype", "shape", "queries"
    peers = [key for key in lines[0] if key not in about]
    rows = [
        [x["data"], "{} x {}".format(*x["shape"]), x["dtype"]]
        + [f"{x[peer]}/{x['queries']}" for peer in peers]
        for x in lines
    ]
    return table(["data", "shape", "dtype", *peers], rows)


def _first_call(results):
    rows = []
    for name, seconds in results.items():
        is_short = seconds < 1e-3
        scaled = 1e6 * seconds if is_short else seconds
        rows.append([name, scaled, "us" if is_short else "s"])
    return table(["what", "time", "unit"], rows)


def _tiers(lines):
    rows = [
        [
            x["tier"],
            x["threads"],
            1e3 * x["seconds"],
            f"{x['recall']:.4f}",
            *x["ratios"].values(),
        ]
        for x in lines
    ]
    peers = [f"x {peer}" for peer in lines[0]["ratios"]]
    return table(["tier", "threads", "ms", "recall@10", *peers], rows)


_SECTIONS = {
    "speed": (
        "Speed, k = 10",
        """\
First quartiles of interleaved rounds, each after 0.08 s of the same calls, each peer in
its own process. Ratios: time of the
peer over ours, at the same number of threads. Faiss counts with the BLAS that is faster
for it, scikit-learn with the one that it selects itself. Memory: of the fitted
estimator, over that of the vectors.""",
        _speed,
    ),
    "peers": ("Times of all peers, ms", "", _peer_times),
    "answers": (
        "Answers",
        """\
Queries answered with exactly the ids of a float64 oracle, ties by row number. Faiss is
given float32; neither peer promises the order of ties.""",
        _answers,
    ),
    "first-call": (
        "First call, and a small call",
        """\
Import: of sklearn_ann, after sklearn.neighbors. First search: one query on the
sentences in a new process, with an empty (cold) and with a filled (warm) cache of
compiled code; joblib has loaded the estimator before. Small call: `kneighbors` of one
query on 1000 x 16, float64, with the default number of threads.""",
        _first_call,
    ),
    "tiers": (
        "Other processors",
        """\
1000 queries on the sentences, compiled for processors without AVX-512. Such a processor
would give scikit-learn a BLAS without it too.""",
        _tiers,
    ),
    "bars": ("Bars", "", bars_table),
}


def markdown(results):
    """The whole report, of the sections that were run."""
    everything = {**results, "peers": results.get("speed")}
    return document("Exact search: FlatL2Neighbors", everything, _SECTIONS)
