"""
=================================
Graphs of neighbours in pipelines
=================================

Many estimators of scikit-learn accept a sparse graph of nearest neighbours in place of
the data. Here ``FlatL2Neighbors`` computes the graph, once for a classifier whose
number of neighbours is chosen by cross-validation, and once for a t-SNE embedding.
"""

# %%
# A classifier behind a search
# ----------------------------
#
# ``FlatL2Neighbors`` is a transformer: rows go in, the graph of their neighbours comes
# out. The classifier reads ``metric="precomputed"`` distances from it.

from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.manifold import TSNE
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline

from sklearn_ann import FlatL2Neighbors

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

# %%
# The graph must hold as many neighbours as any classifier of the grid wants. With a
# ``memory`` the pipeline computes it once for each fold and reads it from there for all
# values of the grid.

n_neighbors = [1, 2, 3, 5, 8, 12, 20, 30]
with TemporaryDirectory() as memory:
    model = Pipeline(
        [
            ("graph", FlatL2Neighbors(n_neighbors=max(n_neighbors))),
            ("classifier", KNeighborsClassifier(metric="precomputed")),
        ],
        memory=memory,
    )
    grid = {"classifier__n_neighbors": n_neighbors}
    search = GridSearchCV(model, grid).fit(X_train, y_train)
    print("chosen:", search.best_params_)
    print(f"accuracy on the test set: {search.score(X_test, y_test):.3f}")

# %%
# An embedding of the same kind
# -----------------------------
#
# t-SNE reads ``int(3 * perplexity + 1)`` neighbours of each row. How many others read,
# and recipes for them, are in the user guide: :doc:`/user_guide/neighbor_graphs`.

perplexity = 20
embedding = make_pipeline(
    FlatL2Neighbors(n_neighbors=int(3 * perplexity + 1)),
    TSNE(
        perplexity=perplexity,
        metric="precomputed",
        init="random",
        max_iter=500,
        random_state=0,
    ),
).fit_transform(X_train)

# %%
# Both results:

fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
scores, spread = (search.cv_results_[f"{name}_test_score"] for name in ("mean", "std"))
left.errorbar(n_neighbors, scores, yerr=spread, marker="o", capsize=3)
left.set(
    xscale="log",
    xticks=n_neighbors,
    xticklabels=n_neighbors,
    xlabel="n_neighbors of the classifier",
    ylabel="accuracy, mean and deviation of 5 folds",
    title="KNeighborsClassifier on the graph",
)
left.minorticks_off()
points = right.scatter(*embedding.T, c=y_train, cmap="tab10", s=5)
right.legend(
    *points.legend_elements(), title="digit", loc="center left", bbox_to_anchor=(1, 0.5)
)
right.set(xticks=[], yticks=[], title="t-SNE of the graph")
plt.show()
