"""Doctests of the pages: python -m pytest --doctest-glob="*.rst" doc."""

import os
import tempfile

# A run compiles what it shows.
_cache = tempfile.TemporaryDirectory(prefix="sklearn_ann_numba_")
os.environ.setdefault("NUMBA_CACHE_DIR", _cache.name)

import pytest  # noqa: E402

# What Sphinx writes, and the Python files that only Sphinx reads.
collect_ignore = ["_build", "_ext", "auto_examples", "conf.py", "generated"]

# It needs other libraries: tests/consumers runs it.
collect_ignore += ["user_guide/neighbor_graphs.rst"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    """Examples may write files."""
    monkeypatch.chdir(tmp_path)
