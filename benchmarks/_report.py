"""Tables in the blocks of a report, and the machine they were measured on.

A report is prose with blocks between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``.
A run replaces the blocks that it has measured. The rest is written by hand.
"""

import os
import platform
import re
import subprocess
from datetime import datetime
from importlib.metadata import distributions
from pathlib import Path

from _harness import ROOT

RESULTS = Path(__file__).with_name("results")

_PACKAGES = ("numpy", "scipy", "scikit-learn", "numba", "faiss-cpu", "hnswlib")


# -- Markdown ------------------------------------------------------------------------


def table(rows):
    """A Markdown table of dicts with a column for each key, aligned to be read as text.

    Columns of strings are aligned to the left. Floats have three significant digits.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    columns = [_column(name, [row.get(name) for row in rows]) for name in names]
    lines = zip(*columns, strict=True)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _column(name, values):
    """The padded cells of a column: its name, the rule below, and the values."""
    cells = [name, *map(_text, values)]
    width = max(2, *map(len, cells))
    is_text = all(isinstance(value, str) for value in values)
    head, *cells = (c.ljust(width) if is_text else c.rjust(width) for c in cells)
    rule = "-" * width if is_text else "-" * (width - 1) + ":"
    return [head, rule, *cells]


def _text(cell):
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return _three_digits(cell)
    return str(cell).replace("\n", " ").replace("|", "/")


def _three_digits(value):
    """Three significant digits, never with an exponent."""
    if value == 0:
        return "0"
    digits = 2 - int(f"{value:.2e}".partition("e")[2])
    return f"{round(value, digits):,.{max(digits, 0)}f}"


def replace_block(report, name, content):
    """The report with other content in one of its blocks."""
    before, _, after = _split(report, name)
    return f"{before}\n\n{content}\n\n{after}"


def clear(report):
    """The report without what was measured."""
    for name in re.findall("<!-- begin (.*?) -->", report):
        report = replace_block(report, name, "Not measured.")
    return report


def read_block(report, name):
    return _split(report, name)[1].strip()


def read_table(report, name):
    """The rows of the last table of a block, as dicts of strings."""
    block = read_block(report, name).split("\n\n")
    tables = [part for part in block if part.startswith("|")]
    if not tables:
        return []
    cells = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in tables[-1].splitlines()
    ]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def _split(report, name):
    """What is before the content of a block, the content, and what is after it."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    if report.count(begin) != 1 or report.count(end) != 1:
        raise ValueError(f"The report must have one block {name!r}.")
    before, rest = report.split(begin)
    content, after = rest.split(end)
    return before + begin, content, end + after


# -- the machine ---------------------------------------------------------------------


def machine():
    """What a measurement depends on, by what it is."""
    versions = {x.name: x.version for x in distributions() if x.name in _PACKAGES}
    return {
        "CPU": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "OS": platform.platform(),
        "Python": platform.python_version(),
        "packages": ", ".join(f"{name} {versions[name]}" for name in sorted(versions)),
    }


def stamp():
    """When, where and on what code something was measured."""
    time = datetime.now().astimezone().isoformat(timespec="minutes")
    return f"{time}, commit {commit()}, {cpu_model()}"


def commit():
    """The commit, and whether the code differs from it."""
    name = output_of("git", "-C", ROOT, "rev-parse", "--short", "HEAD")
    code = ("sklearn_ann", "benchmarks/*.py")
    changes = output_of("git", "-C", ROOT, "status", "--porcelain", "--", *code)
    return f"{name}, with changes" if changes not in ("", "unknown") else name


def output_of(*command):
    """What a program prints, or "unknown" where it is missing or fails."""
    command = [*map(str, command)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def cpu_model():
    """Name, and for x86 family and model: names of virtual machines say little."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine()
    fields = dict(re.findall(r"(?m)^(.*?)\s*: (.*)$", info.read_text()))
    name = fields.get("model name", platform.machine())
    return f"{name} (family {fields.get('cpu family')}, model {fields.get('model')})"
