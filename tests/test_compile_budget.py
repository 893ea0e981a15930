"""What compiling may cost: instructions, because seconds depend on the machine.

``python benchmarks/run.py compile`` measures both.
"""

import platform
import sys
from pathlib import Path

import numba
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
if not FOLDER.is_dir():
    pytest.skip("they come with the repository only", allow_module_level=True)
sys.path.append(str(FOLDER))

import _compile  # noqa: E402
import _report  # noqa: E402

REPORT = (FOLDER / "results" / "compile.md").read_text(encoding="utf-8")
BUDGETS = _report.read_table(REPORT, "budget")


def version(text):
    return tuple(int(part) for part in text.split(".")[:2])


@pytest.mark.parametrize("budget", BUDGETS, ids=lambda budget: budget["estimator"])
def test_compiling_costs_what_it_did(budget, tmp_path):
    if version(numba.__version__) < version(budget["Numba"]):
        pytest.skip("an older Numba gives LLVM other instructions")
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("the budget is that of x86-64")
    functions = _compile.portable_functions(budget["estimator"], str(tmp_path))
    ratio = _compile.n_instructions(functions) / int(budget["instructions"])
    hint = "Run `python benchmarks/run.py compile --only budget` if that must be so."
    assert ratio < 1.1, f"{ratio:.2f} times as many instructions. {hint}"
    assert ratio > 0.9, f"{ratio:.2f} times as many instructions: lower it. {hint}"
