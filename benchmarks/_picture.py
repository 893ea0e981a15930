"""Recall against speed, drawn from the tables of the results."""

import re

from _report import read_table

# What the README shows: label, report, peer, and color. The color says how rows are
# stored; our lines are solid, others are dashed.
_SERIES = [
    ("IVFFlatNeighbors", "ivf_flat", "ours", "C0"),
    ("IVFPQNeighbors, refined", "ivf_pq", "ours", "C3"),
    ("Faiss IVFFlat", "ivf_flat", "Faiss IVFFlat", "C0"),
    ("Faiss IVFPQ, refined", "ivf_pq", "Faiss IVFPQ, RFlat", "C3"),
    ("Faiss FastScan, refined", "ivf_pq", "Faiss FastScan, RFlat", "C1"),
    ("hnswlib", "ivf_flat", "hnswlib", "C2"),
]

# Exact searches, by the column of their rate or of the ratio to ours.
_EXACT = [
    ("FlatL2Neighbors (exact)", "queries/s", "black"),
    ("Faiss Flat", "x Faiss Flat", "C7"),
    ("scikit-learn brute force", "x scikit-learn", "C6"),
]

# The ways to a graph: a color for each, and whether it is ours.
_WAYS = {
    "FlatL2Neighbors": ("black", True),
    "IVFFlatNeighbors": ("C0", True),
    "Faiss IVFFlat": ("C0", False),
    "pynndescent": ("C4", False),
    "hnswlib": ("C2", False),
    "Faiss Flat": ("C7", False),
    "scikit-learn brute force": ("C6", False),
}


def draw(folder):
    """Write ``recall.png`` and ``graph.png`` beside the reports that they show."""
    _draw_searches(folder)
    _draw_graphs(folder)


def _draw_graphs(folder):
    from matplotlib.figure import Figure

    report = (folder / "graph.md").read_text(encoding="utf-8")
    rows = [x for x in read_table(report, "graph") if "left" not in x["seconds"]]
    shown = [*dict.fromkeys(row["data"] for row in rows)]
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for axis, data in zip(axes, shown, strict=True):
        for way, (color, is_ours) in _WAYS.items():
            points = [
                (float(row["recall@15"]), _number(row["seconds"]))
                for row in rows
                if (row["data"], row["way"]) == (data, way)
            ]
            look = {"linestyle": "--", "marker": ".", "alpha": 0.9}
            if is_ours:
                look = {"linewidth": 2.2, "marker": "o", "markersize": 5}
            if points:
                axis.plot(*zip(*points, strict=True), color=color, label=way, **look)
        axis.set(title=data, xlabel="recall@15", yscale="log")
        axis.grid(alpha=0.3, which="both")
    axes[0].set_ylabel("seconds, index included")
    cpu = re.search("- CPU: (.*)", report)[1]
    figure.suptitle(f"15 neighbours of all rows, 2 threads of {cpu}")
    place = {"loc": "outside lower center", "ncols": 4, "fontsize": "small"}
    figure.legend(*axes[0].get_legend_handles_labels(), **place)
    figure.savefig(folder / "graph.png", dpi=200)


def _draw_searches(folder):
    from matplotlib.figure import Figure

    names = "flat", "ivf_flat", "ivf_pq"
    reports = {n: (folder / f"{n}.md").read_text(encoding="utf-8") for n in names}
    measured = [row["data"] for row in read_table(reports["ivf_flat"], "curve")]
    shown = [name for name in ("sentences", "sift", "tiny") if name in measured]
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axis, data in zip(axes, shown, strict=True):
        _draw_panel(axis, data, reports)
    axes[0].set_ylabel("queries per second")
    cpu = re.search("- CPU: (.*)", reports["ivf_flat"])[1]
    figure.suptitle(f"10 neighbours, 1000 queries at a time, 2 threads of {cpu}")
    place = {"loc": "outside lower center", "ncols": 3, "fontsize": "small"}
    figure.legend(*axes[0].get_legend_handles_labels(), **place)
    figure.savefig(folder / "recall.png", dpi=200)


def _draw_panel(axis, data, reports):
    for label, report, peer, color in _SERIES:
        rows = read_table(reports[report], "curve")
        rows = [row for row in rows if (row["data"], row["peer"]) == (data, peer)]
        points = _unbeaten(
            [(float(x["recall@10"]), _number(x["queries/s"])) for x in rows]
        )
        look = {"linewidth": 2.2, "marker": "o", "markersize": 4}
        if peer != "ours":
            look = {"linewidth": 1.2, "linestyle": "--", "marker": ".", "alpha": 0.9}
        if points:
            axis.plot(*zip(*points, strict=True), color=color, label=label, **look)
    for row in read_table(reports["flat"], "speed"):
        if (row["data"], row["queries"], row["threads"]) == (data, "1000", "2"):
            ours = {"marker": "*", "markersize": 12, "zorder": 3}
            for label, column, color in _EXACT:
                if column in row:
                    rate = _number(row["queries/s"])
                    rate /= 1 if column == "queries/s" else _number(row[column])
                    look = ours if column == "queries/s" else {"marker": "s"}
                    look = {"linestyle": "none", "clip_on": False, **look}
                    axis.plot(1, rate, color=color, label=label, **look)
    axis.set(title=data, xlabel="recall@10", yscale="log", xlim=(0.7, 1))
    axis.set_xticks([0.7, 0.8, 0.9, 1.0])
    axis.grid(alpha=0.3, which="both")


def _number(text):
    return float(text.replace(",", ""))


def _unbeaten(points):
    """The settings that no other beats in both, from the highest recall down."""
    kept = []
    for point in sorted(points, reverse=True):
        if not kept or point[1] > kept[-1][1]:
            kept.append(point)
    return kept
