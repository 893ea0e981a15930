"""Tables in the blocks of a report, and the machine they were measured on.

A report is prose with blocks between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``.
A run replaces the blocks that it has measured. The rest is written by hand.
"""

import os
import platform
import re
import subprocess
from datetime import datetime
from pathlib import Path

from _harness import ROOT

RESULTS = Path(__file__).with_name("results")

_BLOCK = r"(?s)(<!-- begin {0} -->\n\n)(.*?)(\n\n<!-- end {0} -->)"


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
    """Of floats three significant digits, never with an exponent."""
    if not isinstance(cell, float):
        return "-" if cell is None else str(cell).replace("\n", " ").replace("|", "/")
    digits = 2 - int(f"{cell:.2e}".partition("e")[2]) if cell else 0
    return f"{round(cell, digits):,.{max(digits, 0)}f}"


def replace_block(report, name, content):
    """The report with other content in one of its blocks."""
    pattern = _BLOCK.format(name)
    if len(re.findall(pattern, report)) != 1:
        raise ValueError(f"The report must have one block {name!r}.")
    return re.sub(pattern, lambda found: f"{found[1]}{content}{found[3]}", report)


def clear(report):
    """The report without what was measured."""
    for name in re.findall("<!-- begin (.*?) -->", report):
        report = replace_block(report, name, "Not measured.")
    return report


def read_table(report, name):
    """The rows of the first table of a block, as dicts of strings."""
    block = re.search(_BLOCK.format(name), report)[2]
    lines = [line for line in block.partition("\n\n")[0].splitlines() if "|" in line]
    cells = [re.split(r" +\| +", line.strip("| ")) for line in lines]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def machine():
    """What a measurement depends on, by what it is."""
    system, python = platform.platform(), platform.python_version()
    return {"CPU": cpu_model(), "cores": os.cpu_count(), "OS": system, "Python": python}


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
