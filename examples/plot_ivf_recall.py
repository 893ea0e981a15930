"""
============================
Recall and time of the lists
============================

How much of the true neighbours ``IVFFlatNeighbors`` finds, and in what time, is chosen
by two numbers: ``nlist``, the number of lists, and ``nprobe``, how many of them each
query searches. Here both are varied: first against the exact answers, then in a grid
search by what a classifier makes of the neighbours.
"""

# %%
# Two hundred thousand rows
# -------------------------
#
# The rows form a thousand groups that overlap. The queries come from the same groups
# and are not indexed. The exact search tells what should be found, and how long it
# takes to look at everything.

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits, make_blobs
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors

X, _ = make_blobs(200_300, 32, centers=1000, cluster_std=4.0, random_state=0)
X = X.astype(np.float32)
rows, queries = X[:-300], X[-300:]


def microseconds(index):
    """Median time of a query that comes alone."""
    times = []
    for query in queries:
        start = time.perf_counter()
        index.kneighbors(query[None])
        times.append(time.perf_counter() - start)
    return 1e6 * np.median(times)


exact = FlatL2Neighbors(n_neighbors=10, n_jobs=1).fit(rows)
exact_time = microseconds(exact)
print(f"exact search: {exact_time:.0f} microseconds a query")

# %%
# Three indexes, many probes
# --------------------------
#
# ``nprobe`` is read when a search begins, so each index is fitted once. ``score``
# returns the recall: the share of the ten true neighbours that are found.

nprobes = [1, 2, 4, 8, 16, 32, 64]
recalls, times = {}, {}
for nlist in (100, 450, 2000):
    index = IVFFlatNeighbors(n_neighbors=10, nlist=nlist, random_state=0, n_jobs=1)
    start = time.perf_counter()
    index.fit(rows)
    print(f"{nlist:4} lists: fitted in {time.perf_counter() - start:.1f} s", end=", ")
    print(f"imbalance {index.imbalance_factor_:.2f}")
    recalls[nlist], times[nlist] = [], []
    for nprobe in nprobes:
        index.set_params(nprobe=nprobe)
        recalls[nlist].append(index.score(queries))
        times[nlist].append(microseconds(index))

# %%
# On the left, recall against ``nprobe``: the first probes bring most. On the right,
# recall against the time that it costs. There the curves can be compared: the best one
# is furthest to the upper left. With few lists a probe reads many rows; with many lists
# the neighbours are spread over more of them, and each query is compared with more
# centroids. More lists also take longer to train.

fig, (left, right) = plt.subplots(
    1, 2, figsize=(10, 4.2), sharey=True, layout="constrained"
)
for nlist, marker in zip(recalls, "os^", strict=True):
    label = f"nlist={nlist}"
    left.plot(nprobes, recalls[nlist], marker=marker, label=label)
    right.plot(times[nlist], recalls[nlist], marker=marker, label=label)
left.set(
    xscale="log",
    xticks=nprobes,
    xticklabels=nprobes,
    xlabel="nprobe",
    ylabel="recall of 10 neighbours",
    title="Recall grows with the lists that are probed",
)
left.minorticks_off()
left.legend(loc="lower right")
right.axvline(exact_time, color="black", linestyle="--")
right.annotate(
    "exact search",
    (exact_time, 0.7),
    xytext=(-4, 0),
    textcoords="offset points",
    rotation=90,
    ha="right",
    va="center",
)
right.set(xlim=0, xlabel="microseconds a query, one thread", title="What it costs")
for ax in (left, right):
    ax.grid(alpha=0.3)
plt.show()

# %%
# A grid search
# -------------
#
# Who searches in order to classify does not need recall as such. A grid search scores
# each pair of ``nlist`` and ``nprobe`` by the accuracy of the classifier behind it.
#
# ``memory`` names a folder for centroids. k-means depends on the rows of a fold and on
# ``nlist``, not on ``nprobe``, so its results are found there for all values of
# ``nprobe`` but the first. The seed must be an int.

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

grid = {"index__nlist": [6, 12, 24], "index__nprobe": [1, 2, 4, 6]}
with TemporaryDirectory() as folder:
    model = Pipeline(
        [
            ("scaler", StandardScaler()),
            ("index", IVFFlatNeighbors(5, random_state=0, memory=folder)),
            ("classifier", KNeighborsClassifier(5, metric="precomputed")),
        ]
    )
    search = GridSearchCV(model, grid, cv=5).fit(X_train, y_train)
    n_trained = len(list(Path(folder).glob("**/train_centroids/*/output.pkl")))

n_fits = len(search.cv_results_["params"]) * search.n_splits_ + 1
print(f"{n_fits} fits of the pipeline, {n_trained} of k-means")
print("chosen:", search.best_params_)
print(f"accuracy on the test set: {search.score(X_test, y_test):.3f}")

# %%
# From some ``nprobe`` on the accuracy changes by no more than the folds differ: the
# classifier is content with fewer true neighbours than there are. ``nprobe=6`` with 6
# lists is the exact search.

scores = search.cv_results_["mean_test_score"].reshape(3, 4)
fig, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
image = ax.imshow(scores, cmap="viridis", aspect="auto")
middle = (scores.min() + scores.max()) / 2
for (i, j), score in np.ndenumerate(scores):
    color = "white" if score < middle else "black"
    ax.text(j, i, f"{score:.3f}", ha="center", va="center", color=color)
ax.set(
    xticks=range(4),
    xticklabels=grid["index__nprobe"],
    yticks=range(3),
    yticklabels=grid["index__nlist"],
    xlabel="nprobe",
    ylabel="nlist",
    title="Accuracy of the classifier, mean of 5 folds",
)
fig.colorbar(image, label="accuracy")
plt.show()
