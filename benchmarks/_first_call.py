"""What a program waits for once: the import, and the first search."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import joblib
import numpy as np
from _harness import clean_environment

_IMPORT = """
import time, sklearn.neighbors
start = time.perf_counter()
import sklearn_ann
print(time.perf_counter() - start)
"""

# The import of Numba is part of the search: the package puts it off until then.
_FIRST_SEARCH = """
import sys, time, joblib, numpy, sklearn_ann
Q = numpy.load(sys.argv[2])
start = time.perf_counter()
index = joblib.load(sys.argv[1])
loaded = time.perf_counter()
index.kneighbors(Q)
print(time.perf_counter() - loaded, loaded - start)
"""


def import_seconds(n_repeats):
    """Seconds that ``import sklearn_ann`` takes after ``import sklearn.neighbors``."""
    _seconds(_IMPORT)  # the files are read from the disk once
    return median(_seconds(_IMPORT)[0] for _ in range(n_repeats))


def first_search_seconds(index, Q, *, n_cold, n_warm):
    """Seconds of the first search of a new process that has loaded a fitted estimator.

    Returns
    -------
    results : dict
        `cold`: nothing was compiled before. `warm`: compiled code is in Numba's cache.
        `load`: what joblib.load took before, not part of the others.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / "index.joblib", Path(folder) / "Q.npy"]
        joblib.dump(index, files[0])
        np.save(files[1], Q)
        cold, warm = [], []
        for repeat in range(n_cold):
            cache = {"NUMBA_CACHE_DIR": os.path.join(folder, f"cache_{repeat}")}
            cold.append(_seconds(_FIRST_SEARCH, *files, **cache))
        for _ in range(n_warm):
            warm.append(_seconds(_FIRST_SEARCH, *files, **cache))
    return {
        "cold": median(search for search, _ in cold),
        "warm": median(search for search, _ in warm),
        "load": median(load for _, load in warm),
    }


def _seconds(code, *arguments, **environment):
    """What a new process prints when it runs `code`, as numbers."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    output = subprocess.check_output(
        command, env=clean_environment(environment), text=True
    )
    return [float(word) for word in output.split()]
