"""
==============
A first search
==============

Find the images of handwritten digits that look most like a given one, and compare the
answers with those of scikit-learn.
"""

# %%
# The data: 1797 images of 8 x 8 pixels, one row of 64 features each. The last 100 are
# the queries, the others are indexed.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

from sklearn_ann import FlatL2Neighbors

X, y = load_digits(return_X_y=True)
X_indexed, y_indexed = X[:-100], y[:-100]
X_queries, y_queries = X[-100:], y[-100:]

# %%
# Index and search
# ----------------
#
# ``fit`` keeps the rows and encodes them; ``kneighbors`` returns distances and row
# numbers, nearest first.

index = FlatL2Neighbors(n_neighbors=6).fit(X_indexed)
distances, ids = index.kneighbors(X_queries)
print("shape:", ids.shape)
print("neighbours of the first query:", ids[0])
print("their distances:", distances[0].round(1))

# %%
# The same as scikit-learn's
# --------------------------
#
# The search is exact, so scikit-learn's brute force finds the same distances. (Row
# numbers can differ between the two where several rows are at the same distance.)

reference = NearestNeighbors(n_neighbors=6, algorithm="brute").fit(X_indexed)
reference_distances, reference_ids = reference.kneighbors(X_queries)
print("same distances:", np.allclose(distances, reference_distances))
print("same row numbers:", f"{(ids == reference_ids).mean():.1%}")

# %%
# Look at the neighbours
# ----------------------
#
# The row numbers lead back to the images, and to their labels. Of the queries here, the
# last one is the one whose nearest neighbour is furthest away.

shown = [0, 1, 2, int(distances[:, 0].argmax())]
fig, axes = plt.subplots(
    len(shown), 7, figsize=(8, 5), subplot_kw={"xticks": [], "yticks": []}
)
for row, query in zip(axes, shown, strict=True):
    row[0].imshow(X_queries[query].reshape(8, 8), cmap="gray_r")
    row[0].set_xlabel(f"query: a {y_queries[query]}", weight="bold")
    for ax, neighbor, distance in zip(
        row[1:], ids[query], distances[query], strict=True
    ):
        ax.imshow(index.reconstruct(neighbor).reshape(8, 8), cmap="gray_r")
        ax.set_xlabel(f"a {y_indexed[neighbor]} at {distance:.1f}")
fig.suptitle("Four queries and their nearest rows")
fig.tight_layout()
plt.show()

# %%
# How often does the nearest image show the same digit?

same_digit = y_indexed[ids[:, 0]] == y_queries
print(f"{same_digit.mean():.0%} of the queries")
