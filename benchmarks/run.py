"""Measure an estimator of this package beside its peers.

``python benchmarks/run.py flat`` prints tables, and saves them as Markdown and JSON in
``benchmarks/results``. Runs with ``--quick`` or ``--only``, and those of some data sets
that are not ``--again``, are saved only where ``--output`` says.
"""

import argparse
import importlib
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # this checkout, installed or not

import _report  # noqa: E402
from _data import default_data_home  # noqa: E402
from _harness import log  # noqa: E402


def _parse():
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        epilog="Peers run in processes of their own. Keep the machine idle meanwhile.",
    )
    parser.add_argument("module", help="what to measure: flat, ivf_flat, ivf_pq")
    parser.add_argument(
        "--data-home",
        default=default_data_home(),
        help="folder of the data sets (default: %(default)s)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, to try the harness"
    )
    parser.add_argument("--only", help="sections to run, separated by commas")
    parser.add_argument(
        "--again", help="sections to measure again and to replace in the saved results"
    )
    parser.add_argument(
        "--data",
        type=lambda names: names.split(","),
        help="data sets to measure, separated by commas; saved lines of others stay",
    )
    parser.add_argument("--output", help="folder of the results")
    return parser.parse_args()


def _sections(module, only):
    """The sections to run, by name."""
    names = only.split(",") if only else list(module.SECTIONS)
    for name in names:
        if name not in module.SECTIONS:
            sys.exit(f"No section {name!r}. There are: {', '.join(module.SECTIONS)}")
    return {name: module.SECTIONS[name] for name in names}


def main():
    options = _parse()
    module = importlib.import_module(options.module)
    sections = _sections(module, options.only or options.again)
    environment = _report.environment(module.PEERS)
    results = {"quick": options.quick, "environment": environment}
    if options.again:
        results = _report.load(HERE / "results", options.module)
        about = "commit {commit}, {date}, load {load average before the run}"
        of_data = f" of {', '.join(options.data)}" if options.data else ""
        for name in sections:
            key = f"section {name!r}{of_data} measured again"
            results["environment"]["machine"][key] = about.format(
                **environment["machine"]
            )
    for name, section in sections.items():
        log(f"== {name}")
        saved, results[name] = results.get(name, []), section(options)
        if options.data:
            results[name] += [x for x in saved if x["data"] not in options.data]
    results["bars"] = module.bars(results)
    markdown = module.markdown(results)
    print(markdown)
    is_complete = not options.only and not options.quick
    is_complete &= options.again is not None or not options.data
    output = options.output or (HERE / "results" if is_complete else None)
    if output:
        _report.save(output, options.module, markdown, results)
        if hasattr(module, "plot"):
            module.plot(results, Path(output) / f"{options.module}.png")
        log(f"Saved to {output}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Interrupted.")
