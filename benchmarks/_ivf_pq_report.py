"""The results of ``ivf_pq.py`` as Markdown and as a plot, and their bars."""

from statistics import mean

from _curve_report import curve_table, fastest_table, plot_curves, recall_bars
from _ivf_measure import RECALL
from _report import bar, bars_table, disturbances, document, setting, table

# What is asked of ratios to Faiss: data, m, nprobe, queries, threads; bar, stretch.
_RATIO_BARS = [
    ("sift", 16, 8, 1000, 2, 4.0, 8.0),
    ("sift", 16, 64, 1000, 2, 6.0, 12.0),
    ("sift", 8, 16, 1000, 2, 4.0, 8.0),
    ("sift", 32, 16, 1000, 2, 5.0, 10.0),
    ("sift", 16, 16, 1, 1, 2.0, 3.0),
    ("sift", 16, 64, 1, 1, 4.0, 8.0),
    ("sentences", 8, 10, 1000, 2, 2.0, 4.0),
    ("sentences", 96, 10, 1000, 2, 4.0, 8.0),
]

# Of training and adding: data, m, step; bar, stretch.
_TRAINING_BARS = [
    ("sentences", 96, "training", 8.0, 20.0),
    ("sift", 16, "training", 2.0, 4.0),
    ("sift", 16, "adding", 1.5, 3.0),
]
_CURVE_BAR = 1.0, 2.0
_MEMORY_BAR = 26.0, 24.5
_PORTABLE_BAR = 1.0, 2.0
_RECALL_BAR = 0.005
_FAISS = "Faiss IVFPQ"


# -- bars ---------------------------------------------------------------------------


def bars(results):
    """Rows (what, measured, bar, stretch, verdict) for all that was measured."""
    return [
        *_speed_bars(results.get("speed", [])),
        *recall_bars(results.get("curve", []), *_CURVE_BAR),
        *_training_bars(results.get("training", [])),
        *_memory_bars(results.get("memory", [])),
        *_portable_bars(results.get("portable", [])),
        *_recall_bars(results.get("recall", [])),
        *_agreement_bars(results.get("agreement", [])),
    ]


def _speed_bars(lines):
    keys = "data", "m", "nprobe", "queries", "threads"
    by_setting = {tuple(x[key] for key in keys): x for x in lines}
    for data, m, nprobe, queries, threads, *limits in _RATIO_BARS:
        line = by_setting.get((data, m, nprobe, queries, threads))
        if line:
            case = setting(f"{data}, {m=}, {nprobe=}", queries, threads)
            yield bar(f"{case}: x {_FAISS}", line["ratios"][_FAISS], *limits)


def _training_bars(lines):
    by_case = {(x["data"], x["m"]): x for x in lines}
    for data, m, step, *limits in _TRAINING_BARS:
        line = by_case.get((data, m))
        if line:
            yield bar(f"{data}, {m=}, {step}: x Faiss", line[f"{step}_ratio"], *limits)


def _memory_bars(lines):
    for x in lines:
        if x["m"] == 16:
            what = f"{x['data']}, m=16: bytes of a row"
            yield bar(what, x["ours"], *_MEMORY_BAR, sign=-1)


def _portable_bars(lines):
    for x in lines:
        case = f"{x['data']}, m={x['m']}, nprobe={x['nprobe']}"
        what = f"{setting(case, x['queries'], x['threads'])}, tier {x['tier']}"
        yield bar(f"{what}: x {_FAISS}", x["ratios"][_FAISS], *_PORTABLE_BAR)


def _recall_bars(lines):
    for x in lines:
        what = (
            f"{x['data']}, m={x['m']}, nprobe={x['nprobe']}, each trained by itself: "
        )
        what += "recall@10 below Faiss's, mean of the seeds"
        lost = mean(x["Faiss"]) - mean(x["ours"])
        yield bar(what, lost, _RECALL_BAR, None, sign=-1)


def _agreement_bars(lines):
    if not lines:
        return
    queries = sum(x["queries"] for x in lines)
    explained = queries - sum(x["unexplained"] for x in lines)
    what = "queries with Faiss's ids, but for ties, rounding of centroid distances and "
    yield bar(f"{what}lists too short", explained, queries, None)
    equal = sum(x["distances"] for x in lines)
    yield bar("queries with Faiss's distances, rounding aside", equal, queries, None)


# -- sections -----------------------------------------------------------------------


def _about(x):
    return [x["data"], x["nlist"], x["m"], x["nprobe"]]


_ABOUT = ["data", "nlist", "m", "nprobe"]


def _speed(lines):
    peers = list(dict.fromkeys(peer for x in lines for peer in x["ratios"]))
    rows = [
        [*_about(x), x["queries"], x["threads"], 1e3 * x["seconds"]]
        + [x["queries_per_second"], f"{x['recall']:.4f}"]
        + [x["ratios"].get(peer) for peer in peers]
        for x in lines
    ]
    head = [*_ABOUT, "queries", "threads", "ms", "queries/s", "recall@10"]
    return table(head + [f"x {peer}" for peer in peers], rows)


def _peer_times(lines):
    """Milliseconds of every peer."""
    peers = list(lines[0]["peers"])
    rows = [
        [*_about(x), x["queries"], x["threads"]]
        + [1e3 * x["peers"][peer]["seconds"] for peer in peers]
        + [f"{x['peers'][peers[-1]]['recall']:.4f}"]
        for x in lines
    ]
    head = [*_ABOUT, "queries", "threads", *peers, f"recall@10 of {peers[-1]}"]
    return table(head, rows) + "\n\n" + disturbances(lines)


def _portable(lines):
    return "\n\n".join([_speed(lines), disturbances(lines)])


def _agreement(lines):
    reasons = "equal", "short", "ties", "probes", "unexplained"
    rows = [
        [
            *(*_about(x), x["queries"], *(x[reason] for reason in reasons)),
            *(f"{x['equal'] / x['queries']:.4f}", x["distances"], x["units"]),
        ]
        for x in lines
    ]
    head = [*_ABOUT, "queries", *reasons, "share equal"]
    return table([*head, "equal distances", "largest difference"], rows)


def _recall(lines):
    rows = [
        [
            *(x["data"], x["m"], x["nprobe"], peer, f"{mean(x[peer]):.4f}"),
            ", ".join(f"{value:.4f}" for value in x[peer]),
        ]
        for x in lines
        for peer in ("ours", "Faiss")
    ]
    return table(["data", "m", "nprobe", "peer", "mean", "seeds"], rows)


def _training(lines):
    parts = []
    for x in lines:
        about = f"{x['rows']} rows of {x['data']}, nlist={x['nlist']}, m={x['m']}"
        parts.append(f"{about}, 2 threads; medians of {x['seeds']} seeds, in seconds.")
        rows = [
            [
                *(peer, x["training"][peer], x["adding"][peer], f"{mean(errors):.6g}"),
                ", ".join(f"{error:.6g}" for error in errors),
            ]
            for peer, errors in x["errors"].items()
        ]
        head = ["peer", "training", "adding", "error", "of each seed"]
        parts.append(table(head, rows))
    return "\n\n".join(parts)


def _memory(lines):
    rows = [
        [
            *(x["data"], x["m"], f"{x['ours']:.2f}", f"{x['Faiss']:.2f}"),
            *(x["centroids"], x["codebooks"]),
        ]
        for x in lines
    ]
    head = ["data", "m", "ours", "Faiss", "our centroids", "our codebooks"]
    return table(head, rows)


_SECTIONS = {
    "speed": (
        "Speed at equal codes, k = 10",
        """\
First quartiles of interleaved rounds, each after 0.08 s of the same calls, each peer in
its own process. Centroids, codebooks,
codes and lists are those of one `IndexIVFPQ` that Faiss trained; ours is made of it by
`from_faiss`. Single queries: one call for each of many different ones. Ratios: time of
the peer over ours at the same number of threads. Faiss IVFPQ has precomputed tables and
counts with the BLAS that is fastest for it. Faiss FastScan is `IndexIVFPQFastScan` with
the same centroids and other codes of the same size, twice as many of 4 bits.""",
        _speed,
    ),
    "peers": ("Times of all peers, ms", "", _peer_times),
    "with_recall": (
        f"Fastest setting with a recall@10 of {RECALL}",
        """\
Of those in the next table: 1000 queries, 2 threads. Each peer trained for itself. Codes
as `index_factory` of Faiss names them; RaBitQ has randomly rotated vectors. Two
parameters of what is refined with exact distances were searched in a grid. Faiss has
the widest BLAS kernels that the processor runs.""",
        fastest_table,
    ),
    "curve": ("Recall against time, 1000 queries, 2 threads", "", curve_table),
    "agreement": (
        "Agreement with Faiss at equal codes",
        """\
Queries by how their ten ids compare with Faiss's. Equal: in the same order. Short:
Faiss found fewer than ten, where we search further lists. Ties: other ids, the same
distances but for rounding in float32. Probes: the nearest centroids are others. Equal
distances: those of all rows that both found are the same but for rounding in float32.
The largest difference is in units in the last place of (|q| + |y|)^2, of which up to 8
are rounding: Faiss adds up parts as large as that.""",
        _agreement,
    ),
    "recall": (
        "Recall with own training",
        "Against exact answers, each peer with centroids and codebooks of its own.",
        _recall,
    ),
    "training": (
        "Training and adding",
        """\
Training: k-means for centroids, and for codebooks on the residuals of 65,536 rows at
most. Adding: all rows are assigned, encoded and placed. Error: mean squared distance of
a row and what its codes stand for, of 65,536 rows at most, by one code for all.""",
        _training,
    ),
    "memory": (
        "Bytes of a row",
        """\
Of all arrays that a fitted estimator without stored vectors holds, but for centroids
and codebooks, which are listed apart: codes, ids, a term of the distance, and the empty
places of lists. For Faiss its codes and an id, without what its lists keep free.""",
        _memory,
    ),
    "portable": (
        "Without SIMD instructions",
        """\
Ours compiled as for any x86-64 processor. Faiss uses what this one has.""",
        _portable,
    ),
    "bars": ("Bars", "", bars_table),
}


def markdown(results):
    """The whole report, of the sections that were run."""
    everything = {**results, "peers": results.get("speed")}
    everything["with_recall"] = results.get("curve")
    title = "Search of product-quantized rows: IVFPQNeighbors"
    return document(title, everything, _SECTIONS)


_COLORS = {
    "ours": "C0",
    "Faiss IVFPQ, RFlat": "C1",
    "Faiss FastScan, RFlat": "C4",
    "Faiss FastScan": "C2",
    "Faiss RaBitQ, RFlat": "C3",
    "Faiss RaBitQ": "C5",
}


def plot(results, path):
    """Recall against queries per second, one panel for each data set."""
    plot_curves(results.get("curve"), path, _COLORS)
