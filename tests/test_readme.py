"""The README keeps what it promises."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_runs():
    (source,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    found = {}
    exec(source, found)
    assert found["ids"].shape == (3, 5)
    assert found["index"].ntotal == 10_010
    assert (found["vector"] == found["X"][0] + 1).all()


@pytest.mark.parametrize("name", ["flat", "ivf_flat", "ivf_pq"])
def test_the_figures_are_those_of_the_benchmark(name):
    results = ROOT / "benchmarks" / "results" / f"{name}.md"
    if not results.exists():
        pytest.skip("the results of the benchmarks come with the repository only")
    block = README.partition(f"<!-- results: lines of benchmarks/results/{name}.md -->")
    quoted = block[2].partition("<!-- end of results")[0].splitlines()
    quoted = [line for line in quoted if line.startswith("|")]
    assert len(quoted) > 2
    assert set(quoted) <= set(results.read_text(encoding="utf-8").splitlines())
