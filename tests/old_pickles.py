"""Small pickles of every kind of estimator, which later versions must read.

``python tests/old_pickles.py`` writes them to ``tests/data``. Do it only when the
saved form is changed on purpose: test_old_pickles.py checks that files written
before still give the same answers. The first files have the form of 0.1.0; files of
development versions before it cannot be read.
"""

import pickle
from pathlib import Path

import numpy as np

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors

FOLDER = Path(__file__).with_name("data")

# Understood by every supported Python.
_PROTOCOL = 4


def make_estimators():
    """Unfitted estimators by the names of their files."""
    lists = {"n_neighbors": 3, "nlist": 2, "nprobe": 1, "random_state": 0}
    grid = [-3.0, -1.0, 1.0, 3.0]
    codes = {**lists, "m": 2, "nbits": 4}
    return {
        "flat": FlatL2Neighbors(3),
        "flat_cosine": FlatL2Neighbors(3, metric="cosine"),
        "flat_frame": FlatL2Neighbors(3, mode="connectivity"),
        "lists": IVFFlatNeighbors(**lists),
        "lists_cosine": IVFFlatNeighbors(**lists, metric="cosine"),
        "codes": IVFPQNeighbors(**codes),
        "codes_stored": IVFPQNeighbors(**codes, store_vectors=True, refine_factor=2),
        "codes_given": IVFPQNeighbors(
            3,
            init=[[1.0, 0.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0]],
            max_iter=0,
            codebooks=[[[x, y] for x in grid for y in grid]] * 2,
            metric="sqeuclidean",
        ),
    }


def answers(index, Q):
    """What an estimator answers, as arrays."""
    distances, ids = index.kneighbors(Q)
    graph = index.transform(Q)
    near, near_ids = index.radius_neighbors(Q, 1.0)
    return {
        "distances": distances,
        "ids": ids,
        "near": np.concatenate(near),
        "near_ids": np.concatenate(near_ids),
        "n_near": np.array([len(ids) for ids in near_ids]),
        "graph_columns": graph.indices,
        "graph_values": graph.data,
        "vectors": index.reconstruct([0, 1, 40, 89]),
    }


def main():
    FOLDER.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    # Small integers and halves: all sums are exact.
    X = (rng.integers(-6, 7, (90, 4)) / 2).astype(np.float32)
    for name, estimator in make_estimators().items():
        if name == "codes_stored":
            X = X.astype(np.float64)
        rows, Q = X, X[:7] + 0.25
        if name == "flat_frame":
            import pandas as pd

            rows, Q = (pd.DataFrame(part, columns=list("abcd")) for part in (X, Q))
        estimator.fit(rows[:80]).partial_fit(rows[80:])
        content = {
            "estimator": estimator,
            "Q": np.asarray(Q),
            "answers": answers(estimator, Q),
        }
        data = pickle.dumps(content, _PROTOCOL)
        (FOLDER / f"{name}.pkl").write_bytes(data)
        print(f"{name}: {len(data):,} bytes")


if __name__ == "__main__":
    main()
