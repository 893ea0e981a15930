"""Fixtures. Names Numba's cache before a test imports Numba."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

# A run compiles what it tests: it has a cache of its own, shared with the processes
# that it starts.
_CACHE = "SKLEARN_ANN_TEST_CACHE"
_created = None
if _CACHE not in os.environ:
    os.environ[_CACHE] = _created = tempfile.mkdtemp(prefix="sklearn_ann_numba_")
os.environ["NUMBA_CACHE_DIR"] = os.environ[_CACHE]

# Without it scikit-learn skips its check of input by the array API.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

# Doctests of these would need numba-cuda; they have none.
collect_ignore = ["cuda_lane.py", "cuda_simulator.py"]


def pytest_unconfigure():
    if _created is not None:
        shutil.rmtree(_created, ignore_errors=True)


# Files whose tests are about the calibration, or about the rows that it leaves to train
# on.
_CALIBRATED = [
    f"test_{name}" for name in ("calibration", "display", "init", "scorer", "summary")
]


@pytest.fixture(autouse=True)
def few_calibration_queries(request, monkeypatch):
    """What calibrates only because it fits does so with few queries: that is faster."""
    if request.path.stem not in _CALIBRATED:
        monkeypatch.setattr("sklearn_ann._calibration.MOST_QUERIES", 50)


@pytest.fixture
def rng():
    return np.random.default_rng(20240607)


@pytest.fixture
def split_work(monkeypatch):
    """However small a search is, it uses the threads that it may use."""
    monkeypatch.setattr("sklearn_ann._parallel._ONE_THREAD_WORK", 0)
    monkeypatch.setattr("sklearn_ann._cpu._schedule._MIN_WORK", 1)


@pytest.fixture(scope="session")
def data_folder():
    """Scikit-learn's data folder, if it has the data sets too large to be shipped."""
    home = os.environ.get("SCIKIT_LEARN_DATA", "~/scikit_learn_data")
    folder = Path(home).expanduser()
    if not (folder / "sentence_embeddings_15K").is_dir():
        pytest.skip(f"no sentence_embeddings_15K in {folder}: see SCIKIT_LEARN_DATA")
    return folder


@pytest.fixture
def run_script(tmp_path):
    """Run Python source in a new process that finds this sklearn_ann."""
    package = Path(importlib.util.find_spec("sklearn_ann").origin).parent
    paths = [str(package.parent), os.environ.get("PYTHONPATH", "")]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}

    def run(source, *args, **more_environ):
        path = tmp_path / "script.py"
        path.write_text(source, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, path, *map(str, args)],
            env={**environ, **more_environ},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run
