"""Results as Markdown and JSON, and the machine they were measured on."""

import json
import os
import platform
import subprocess
import sys
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from _harness import ROOT, describe

_PACKAGES = ("numpy", "scipy", "scikit-learn", "numba", "faiss-cpu")


# -- Markdown -----------------------------------------------------------------------


def table(head, rows):
    """A Markdown table, aligned to be read as text too; all but text to the right."""
    cells = [[_text(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    columns = zip(*rows, strict=True)
    is_text = [all(isinstance(cell, str) for cell in column) for column in columns]
    align = [str.ljust if left else str.rjust for left in is_text]
    rule = [
        "-" * width if left else "-" * (width - 1) + ":"
        for width, left in zip(widths, is_text, strict=True)
    ]
    lines = [
        [pad(cell, width) for pad, cell, width in zip(align, line, widths, strict=True)]
        for line in [head, *cells]
    ]
    lines.insert(1, rule)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value):
    """Three significant digits, never with an exponent."""
    if value == 0:
        return "0"
    digits = 2 - int(f"{value:.2e}".partition("e")[2])
    return f"{round(value, digits):,.{max(digits, 0)}f}"


def _text(cell):
    if cell is None:
        return "-"
    return number(cell) if isinstance(cell, float) else f"{cell}"


def setting(data, queries, threads):
    """What a line of a table was measured with, in words."""
    batch = "1 query" if queries == 1 else f"{queries} queries"
    return f"{data}, {batch}, {threads} thread{'' if threads == 1 else 's'}"


def bar(what, measured, least, stretch, sign=1):
    """A line of the table of bars. More is better, or less with ``sign=-1``."""
    verdict = "FAIL"
    if sign * measured >= sign * least:
        verdict = "pass"
        if stretch is not None and sign * measured >= sign * stretch:
            verdict = "pass, stretch too"
    return what, measured, least, stretch, verdict


def bars_table(rows):
    return table(["what", "measured", "bar", "stretch", "verdict"], rows)


def disturbances(lines):
    """How many measurements began on a busy machine, as a sentence."""
    measured = [peer for x in lines for peer in x["peers"].values()]
    disturbed = sum(peer["disturbed_rounds"] for peer in measured)
    total = sum(peer["rounds"] for peer in measured)
    return f"{disturbed} of {total} rounds began while the machine was not idle."


def document(title, results, sections):
    """The whole report, of the sections that were run.

    Parameters
    ----------
    title : str
    results : dict
        What each section measured, by name.
    sections : dict
        Heading, text, and the function that makes a table of the results, by name.
    """
    parts = [f"# {title}"]
    if results["quick"]:
        parts.append("A quick run on shrunk data: the figures mean nothing.")
    parts.append(environment_section(results["environment"]))
    for name, (heading, text, show) in sections.items():
        if results.get(name):
            parts += [f"## {heading}", text, show(results[name])]
    return "\n\n".join(part for part in parts if part)


def environment_section(environment):
    lines = [f"- {key}: {value}" for key, value in environment["machine"].items()]
    peers = [
        [name, about["package"], about["simd"] or "-", "; ".join(about["blas"])]
        for name, about in environment["peers"].items()
    ]
    head = ["process", "package", "SIMD", "BLAS in the process"]
    return "\n".join([*lines, "", table(head, peers)])


def save(folder, name, markdown, results):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(markdown + "\n", encoding="utf-8")
    text = json.dumps(results, indent=1, default=float)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


# -- the machine --------------------------------------------------------------------


def load(folder, name):
    """The results that were saved."""
    return json.loads((Path(folder) / f"{name}.json").read_text(encoding="utf-8"))


def environment(peers):
    """The machine now, and what each peer's process uses of it."""
    machine = {
        "date": datetime.now().astimezone().isoformat(timespec="minutes"),
        "commit": _commit(),
        "CPU": _cpu_model(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "OS": platform.platform(),
        "Python": sys.version.split()[0],
        "packages": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
        "load average before the run": _load_average(),
    }
    return {"machine": machine, "peers": describe(peers)}


def _load_average():
    if not hasattr(os, "getloadavg"):
        return "unknown"
    return ", ".join(f"{load:.2f}" for load in os.getloadavg())


def _commit():
    """The commit, and whether the package differs from it."""
    commit = _git("rev-parse", "--short", "HEAD")
    is_changed = _git("status", "--porcelain", "--", "sklearn_ann", "benchmarks/*.py")
    return f"{commit}, with changes" if is_changed else commit


def _git(*arguments):
    try:
        return subprocess.check_output(
            ["git", *arguments], cwd=ROOT, text=True, stderr=subprocess.DEVNULL
        ).strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _cpu_model():
    """Name, and for x86 family and model: names of virtual machines say little."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine()
    first = info.read_text().partition("\n\n")[0]
    pairs = (line.partition(":")[::2] for line in first.splitlines())
    fields = {key.strip(): value.strip() for key, value in pairs}
    name = fields.get("model name", platform.machine())
    return f"{name} (family {fields.get('cpu family')}, model {fields.get('model')})"
