"""The page of the user guide runs as it stands."""

import doctest
from pathlib import Path

PAGE = Path(__file__).parents[2] / "doc" / "user_guide" / "neighbor_graphs.rst"


def test_neighbor_graphs():
    results = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert results.attempted > 80
    assert results.failed == 0
