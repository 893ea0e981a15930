"""Compile everything before it is needed, as a function and as a command.

A folder, because Python warns of a command that is a module and imported already. The
package imports it first, so that its function, and not the module, has the name
``sklearn_ann.warm_up`` from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from sklearn_ann._flat import FlatL2Neighbors
from sklearn_ann._ivf_flat import IVFFlatNeighbors
from sklearn_ann._ivf_pq import IVFPQNeighbors


def warm_up() -> None:
    """Compile all that estimators need on the CPU, or load it from Numba's cache.

    The first fit and the first searches of a process do that otherwise, each for what
    it uses. A server that loads its estimators and then forks calls this before: its
    workers share the compiled code and compile nothing. So does a container that is
    built with the ``NUMBA_CACHE_DIR`` that it will run with.

    See Also
    --------
    FlatL2Neighbors : Exact search.
    IVFFlatNeighbors : Search of some inverted lists.
    IVFPQNeighbors : The same among compressed rows.

    Notes
    -----
    Estimators of each kind are fitted on a few hundred random vectors, of float32 and
    of float64, and searched in every way. That takes half a minute where nothing has
    been compiled yet, and one to two seconds with a cache. No random state of yours is
    touched, and no thread is started.

    ``python -m sklearn_ann.warm_up`` does the same, says how far it is, and in the end
    where the compiled code is.

    Examples
    --------
    >>> import sklearn_ann
    >>> sklearn_ann.warm_up()
    """
    for _, step in steps():
        step()


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    """The parts of `warm_up`, each with its name."""
    lists: dict[str, Any] = {"nlist": 4, "nprobe": 2, "random_state": 0, "n_jobs": 1}
    estimators = {
        "FlatL2Neighbors": FlatL2Neighbors(n_jobs=1),
        "IVFFlatNeighbors": IVFFlatNeighbors(**lists),
        "IVFPQNeighbors": IVFPQNeighbors(m=2, nbits=4, **lists),
        "IVFPQNeighbors with vectors": IVFPQNeighbors(
            m=2, store_vectors=True, refine_factor=2, **lists
        ),
    }
    for dtype in (np.float32, np.float64):
        for name, index in estimators.items():
            yield f"{name}, {np.dtype(dtype)}", partial(_use, index, dtype)


def _use(index, dtype):
    X = np.random.default_rng(0).standard_normal((320, 8))
    index.fit(X.astype(dtype)).partial_fit(X.astype(dtype))
    # Queries of float64 stay what they are, also among rows of float32.
    for queries in {dtype, np.float64}:
        _search(index, X.astype(queries))


def _search(index, Q):
    # One query searches its lists by itself; many share lists, and read them once.
    for queries in (Q[:1], Q, None):
        index.kneighbors(queries)
        index.radius_neighbors(queries)
    index.reconstruct(0)
