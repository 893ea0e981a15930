"""Measure an estimator of this package beside its peers, or draw the pictures.

``python benchmarks/run.py flat`` replaces the tables in ``benchmarks/results/flat.md``;
``picture`` draws what the tables say, and ``all`` does everything. A run that is quick,
or of some data sets only, is saved only where ``--output`` says. Keep the machine idle.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout

import _compile
import _flat
import _graph
import _ivf_flat
import _ivf_pq
import _measure
import _recall
from _harness import log
from _picture import draw
from _report import RESULTS, clear, machine, replace_block, stamp, table

SUBJECTS = {"flat": _flat, "ivf_flat": _ivf_flat, "ivf_pq": _ivf_pq}
SUBJECTS |= {"graph": _graph, "recall": _recall, "compile": _compile}


def _parse():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("subject", choices=[*SUBJECTS, "picture", "all"])
    parser.add_argument("--data-home", help="folder, by default scikit-learn's")
    parser.add_argument("--quick", action="store_true", help="tiny, to try it all")
    parser.add_argument("--only", help="sections to run, separated by commas")
    parser.add_argument("--data", help="data sets to measure, separated by commas")
    parser.add_argument("--output", type=Path, help="folder of the results")
    options = parser.parse_args()
    if options.output is None and not options.quick and not options.data:
        options.output = RESULTS
    return options


def _run_sections(subject, options):
    """Run the sections of a subject; print and save each table when it is known."""
    module, run = SUBJECTS[subject], _measure.Run(options)
    wanted = options.only.split(",") if options.only else module.SECTIONS
    report = (RESULTS / f"{subject}.md").read_text(encoding="utf-8")
    if options.output != RESULTS:
        report = clear(report)
    lines = [f"- {key}: {value}" for key, value in machine().items()]
    for name in wanted:
        log(f"== {subject}: {name}")
        (getattr(module, name, None) or getattr(_measure, name))(run, module)
        note = ""
        if run.n_rounds:
            note = f" So far {run.n_disturbed} of {run.n_rounds} rounds began on a "
            note += "busy machine."
        processes = [{"process": x, **about} for x, about in run.processes.items()]
        content = "\n".join([*lines, "", table(processes)] if processes else lines)
        if not options.only or options.output != RESULTS:
            report = replace_block(report, "machine", content)
        for block, rows in run.tables.items():
            content = f"{table(rows)}\n\nMeasured {stamp()}.{note}"
            report = replace_block(report, block, content)
            print(f"{subject}: {block}\n\n{content}\n")
        run.tables.clear()
        if options.output:
            options.output.mkdir(parents=True, exist_ok=True)
            path = options.output / f"{subject}.md"
            path.write_text(report, encoding="utf-8")
    return run.failures


def main():
    options = _parse()
    failures = []
    for subject in SUBJECTS:
        if options.subject in (subject, "all"):
            failures += _run_sections(subject, options)
    if options.subject in ("picture", "all") and options.output:
        draw(options.output)
    sys.exit("\n".join(failures) or 0)


if __name__ == "__main__":
    main()
