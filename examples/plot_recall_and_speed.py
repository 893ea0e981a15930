"""
======================
Tune recall and speed
======================

More lists to search find more neighbours and take more time. ``fit`` finds the number
that a recall needs. This example draws what other recalls would cost, and lets a grid
search find the fastest index.
"""

# %%
# The recall curve
# ----------------
#
# 60,000 rows of 32 features in groups that overlap, and a thousand queries like them.

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_blobs
from sklearn.model_selection import GridSearchCV, ShuffleSplit

from sklearn_ann import (
    IVFFlatNeighbors,
    IVFPQNeighbors,
    RecallCurveDisplay,
    SpeedScorer,
)

X, _ = make_blobs(61_000, 32, centers=1000, cluster_std=4.0, random_state=0)
X = X.astype(np.float32)
rows, queries = X[:-1000], X[-1000:]

vectors = IVFFlatNeighbors(n_neighbors=10, random_state=0).fit(rows)
codes = IVFPQNeighbors(n_neighbors=10, store_vectors=True, random_state=0).fit(rows)
print(vectors.summary(), codes.summary(), sep="\n\n")

# %%
# ``recall_`` is that of the calibration: some of the rows were queries, each without
# itself. Queries that were not in the fit find as much:

print(
    f"recall of new queries: {vectors.score(queries):.3f}, {codes.score(queries):.3f}"
)

# %%
# A curve shows every number of lists. The large points are the numbers that the
# estimators have chosen for a recall of 0.95.

display = RecallCurveDisplay.from_estimator(vectors, queries)
RecallCurveDisplay.from_estimator(codes, queries, ax=display.ax_)
display.ax_.grid(alpha=0.3)
plt.show()

# %%
# A grid search
# -------------
#
# How many lists should there be? A grid search measures recall and speed of each
# candidate. ``memory`` keeps the centroids and the exact answers: k-means is trained
# once for each fold and ``nlist``, and each fold has one exact search for the
# calibration and one for the scores.


def recall(index, X, y=None):
    return index.score(X)


grid = {"nlist": [60, 245, 980], "nprobe": [1, 2, 4, 8, 16, 32]}
folds = ShuffleSplit(3, test_size=1000, random_state=0)
with TemporaryDirectory() as folder:
    search = GridSearchCV(
        IVFFlatNeighbors(n_neighbors=10, random_state=0, memory=folder),
        grid,
        scoring={
            "recall": recall,
            "speed": SpeedScorer(target_recall=0),
            "speed_with_recall": SpeedScorer(target_recall=0.95),
        },
        refit="speed_with_recall",
        cv=folds,
    ).fit(X)
    n_trained = len(list(Path(folder).glob("**/train_centroids/*/output.pkl")))

results = search.cv_results_
n_fits = len(results["params"]) * search.n_splits_ + 1
print(f"{n_fits} fits, {n_trained} trainings of k-means")
print("chosen:", search.best_params_)

# %%
# Each candidate is a point. Those on the line are not beaten: every other one that is
# as fast finds less.

recalls, speeds = results["mean_test_recall"], results["mean_test_speed"]
fig, ax = plt.subplots(layout="constrained")
for nlist, marker in zip(grid["nlist"], "os^", strict=True):
    is_shown = results["param_nlist"] == nlist
    ax.plot(recalls[is_shown], speeds[is_shown], marker, label=f"nlist={nlist}")
order = np.argsort(-speeds)
is_unbeaten = recalls[order] >= np.maximum.accumulate(recalls[order])
ax.plot(recalls[order][is_unbeaten], speeds[order][is_unbeaten], "k-", linewidth=0.8)
best = search.best_index_
ax.annotate(
    "chosen", (recalls[best], speeds[best]), (-50, -15), textcoords="offset points"
)
ax.set(xlabel="recall of 10 neighbours", ylabel="queries per second", yscale="log")
ax.axvline(0.95, color="black", linestyle=":")
ax.grid(alpha=0.3)
ax.legend()
plt.show()
