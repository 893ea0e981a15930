"""Recall against time as tables, as a bar, and as a plot."""

from pathlib import Path

from _harness import log
from _ivf_measure import RECALL
from _report import bar, disturbances, table


def recall_bars(cases, least, stretch):
    """Our fastest setting with the recall on sift, beside the fastest of Faiss."""
    best = _fastest([case for case in cases if case["data"] == "sift"])
    theirs = [x["queries_per_second"] for x in best if x["peer"].startswith("Faiss")]
    ours = [x["queries_per_second"] for x in best if x["peer"] == "ours"]
    if ours and theirs:
        what = f"sift, recall@10 >= {RECALL}, 1000 queries, 2 threads: x best of Faiss"
        yield bar(what, max(ours) / max(theirs), least, stretch)


def _fastest(cases):
    """The fastest setting of each peer in each case that has the recall."""
    best = {}
    for case in cases:
        for point in case["points"]:
            key = case["data"], case["nlist"], point["peer"]
            others = best.get(key, {"queries_per_second": 0.0})
            is_faster = point["queries_per_second"] > others["queries_per_second"]
            if point["recall"] >= RECALL and is_faster:
                best[key] = {"data": key[0], "nlist": key[1], **point}
    return list(best.values())


def fastest_table(cases):
    rows = [[x["data"], x["nlist"], *_point(x)[:-1]] for x in _fastest(cases)]
    if not rows:
        return "No setting has this recall."
    head = ["data", "nlist", "peer", "setting", "recall@10", "queries/s"]
    return table(head, rows)


def curve_table(cases):
    rows = [
        [case["data"], case["nlist"], *_point(x)]
        for case in cases
        for x in case["points"]
    ]
    head = ["data", "nlist", "peer", "setting", "recall@10", "queries/s", "ms"]
    points = [point for case in cases for point in case["points"]]
    disturbed = disturbances([{"peers": dict(enumerate(points))}])
    return table(head, rows) + "\n\n" + disturbed


def _point(point):
    setting = ", ".join(f"{key}={value}" for key, value in point["parameters"].items())
    found = point["recall"], point["queries_per_second"], 1e3 * point["seconds"]
    return point["peer"], setting, f"{found[0]:.4f}", *found[1:]


# -- the plot -----------------------------------------------------------------------


def plot_curves(cases, path, colors):
    """Recall against queries per second, one panel for each data set.

    `colors` has one for each peer to show.
    """
    if not cases:
        return
    try:
        from matplotlib.figure import Figure
    except ImportError:
        log(f"{Path(path).name} is left out: matplotlib is not installed")
        return
    names = list(dict.fromkeys(case["data"] for case in cases))
    figure = Figure(figsize=(4.5 * len(names), 4.2), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for axis, name in zip(axes, names, strict=True):
        own = [case for case in cases if case["data"] == name]
        _plot_panel(axis, own, colors)
    axes[0].set_ylabel("queries/s, 1000 at a time, 2 threads")
    handles = {}
    for axis in axes:
        lines, labels = axis.get_legend_handles_labels()
        handles |= dict(zip(labels, lines, strict=True))
    n_columns = min(len(handles), 2 * len(names))
    place = {"loc": "outside lower center", "ncols": n_columns}
    figure.legend(handles.values(), handles.keys(), **place)
    figure.savefig(path, dpi=120)


def _plot_panel(axis, cases, colors):
    styles = ["-", "--", ":"]
    for case, style in zip(cases, styles, strict=False):
        for peer, color in colors.items():
            points = _unbeaten([x for x in case["points"] if x["peer"] == peer])
            if points:
                width = 2 if peer == "ours" else 1
                look = {"color": color, "linewidth": width, "marker": "."}
                label = peer if style == "-" else None
                axis.plot(*zip(*points, strict=True), style, label=label, **look)
    lists = " (-), ".join(str(case["nlist"]) for case in cases)
    lists += " (- -)" if len(cases) > 1 else ""
    title = f"{cases[0]['data']}, nlist={lists}"
    axis.set(title=title, xlabel="recall@10", yscale="log")
    axis.grid(alpha=0.3, which="both")


def _unbeaten(points):
    """Pairs (recall, queries/s) of the settings that no other beats in both."""
    pairs = sorted((x["recall"], x["queries_per_second"]) for x in points)[::-1]
    kept = []
    for pair in pairs:
        if not kept or pair[1] > kept[-1][1]:
            kept.append(pair)
    return kept
