"""
===========================================
The walk of the article on Faiss, and times
===========================================

The article `Introduction to Facebook AI Similarity Search (Faiss)
<https://www.pinecone.io/learn/series/faiss/faiss-tutorial/>`__ takes its readers from a
flat index to lists and on to compressed rows, with 14,504 sentences that a language
model has turned into vectors of 768 features. Here is the same walk with estimators,
and at its end what each stage costs and what it finds.
"""

# %%
# The sentences
# -------------
#
# The vectors (43 MiB) are downloaded once into scikit-learn's data folder, which the
# environment variable ``SCIKIT_LEARN_DATA`` can name. Where there are neither files nor
# a network, pieces of a photograph that scikit-learn ships take their place, 14,504 of
# 768 features each: everything below runs, but the comments speak of the sentences.

import copy
import pickle
import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_sample_image

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors, knn_recall
from sklearn_ann.datasets import fetch_sentence_embeddings


def load():
    """Vectors, and a text for each."""
    try:
        return fetch_sentence_embeddings(return_X_y=True)
    except (OSError, ImportError) as error:
        print(error)
        print("Falling back to data that scikit-learn ships: pieces of a photograph.")
        return pieces_of_a_photograph(14_504)


def pieces_of_a_photograph(n):
    """Some squares of 16 x 16 pixels, with three colors: 768 features."""
    image = load_sample_image("china.jpg")
    squares = np.lib.stride_tricks.sliding_window_view(image, (16, 16, 3))[:, :, 0]
    rng = np.random.default_rng(0)
    places = rng.choice(squares[:, :, 0, 0, 0].size, n, replace=False)
    rows, columns = np.unravel_index(places, squares.shape[:2])
    names = [f"row {i}, column {j}" for i, j in zip(rows, columns, strict=True)]
    return squares[rows, columns].reshape(n, -1).astype(np.float32), names


X, sentences = load()
FOOTBALL = 4586
query = X[[FOOTBALL]]
print(X.shape, X.dtype)
print(sentences[FOOTBALL])

# %%
# Flat: every row is looked at
# ----------------------------
#
# ``IndexFlatL2`` of Faiss is :class:`~sklearn_ann.FlatL2Neighbors`. ``fit`` adds the
# rows. There is nothing to train, but like every estimator it answers only once it is
# fitted.

flat = FlatL2Neighbors(n_neighbors=4).fit(X)
print("trained:", flat.is_trained, "- vectors:", flat.ntotal)


def show(index):
    distances, ids = index.kneighbors(query)
    for distance, row in zip(distances[0], ids[0], strict=True):
        print(f"{row:6d}  {distance:6.2f}  {sentences[row]}")


show(flat)

# %%
# The query is row 4586, so it finds itself first. The article asks with a sentence of
# its own, for which it needs the language model, and is given the rows 4586, 10252,
# 12465 and 190: three of them are here too.
#
# A vector comes back by its number, as it was given:

print(flat.reconstruct(FOOTBALL)[:4])

# %%
# Lists: some rows are looked at
# ------------------------------
#
# ``IndexIVFFlat`` is :class:`~sklearn_ann.IVFFlatNeighbors`. Here there is something to
# train: k-means cuts space into 50 cells, and every row goes to the list of its cell. A
# query looks into the list of the nearest centroid only.

lists = IVFFlatNeighbors(n_neighbors=4, nlist=50, nprobe=1, random_state=0).fit(X)
print(f"{lists.nlist_} lists of {lists.list_sizes_.min()} to", end=" ")
print(f"{lists.list_sizes_.max()} vectors")
show(lists)

# %%
# With ``nprobe=10`` it looks into ten lists. That takes no new fit.

show(lists.set_params(nprobe=10))

# %%
# Both answers are those of the flat search: the neighbours of this sentence are in the
# list that is probed first. It is not so for every query, as the table below will show.
# What is found is measured exactly, and ``reconstruct`` needs no ``make_direct_map``.

print((lists.reconstruct(FOOTBALL) == X[FOOTBALL]).all())

# %%
# Codes: rows are not kept
# ------------------------
#
# ``IndexIVFPQ`` is :class:`~sklearn_ann.IVFPQNeighbors`. What a row differs in from its
# centroid is cut into ``m=8`` parts of 96 features, and each part is replaced by the
# number of the nearest of ``2 ** nbits`` codewords: 8 bytes instead of 3072. Codewords
# are trained as well, which makes this ``fit`` the longest.

compressed = IVFPQNeighbors(
    n_neighbors=4, nlist=50, nprobe=1, m=8, nbits=8, random_state=0
)
start = time.perf_counter()
compressed.fit(X)
print(f"fitted in {time.perf_counter() - start:.1f} s")
show(compressed)

# %%
show(compressed.set_params(nprobe=10))

# %%
# The sentences are about football still, but the distances have changed. They are the
# distances to what the codes stand for, so that the query is no longer at distance 0
# from itself, and rows whose codes agree in most parts can hardly be told apart.
# More lists change nothing here: what is missing was lost when the rows were encoded.
#
# ``reconstruct`` shows what has been kept, and ``reconstruction_error_`` is its mean
# squared distance from the rows. Compare it with that of the rows from their mean.

print("decoded:", compressed.reconstruct(FOOTBALL)[:4])
print("given:  ", X[FOOTBALL, :4])
variance = X.var(axis=0, dtype=np.float64).sum()
print(f"lost: {compressed.reconstruction_error_:.0f} of {variance:.0f}")

# %%
# Side by side
# ------------
#
# For a fair count of what is found, the queries must not be among the rows: 300
# sentences are taken out, and the others are indexed again. Times are those of one
# thread; *alone* is the median of queries that come one by one, *in a batch* the share
# of a query in all 300 at a time. The bytes are what the index grows by when rows are
# added, so that centroids and codewords, which all rows share, do not count.

order = np.random.default_rng(0).permutation(len(X))
queries, rows = X[order[:300]], X[order[300:]]


def microseconds(index):
    """Median time of a query that comes alone."""
    times = []
    for one in queries:
        start = time.perf_counter()
        index.kneighbors(one[None])
        times.append(time.perf_counter() - start)
    return 1e6 * np.median(times)


def microseconds_in_a_batch(index):
    times = []
    for _ in range(5):
        start = time.perf_counter()
        index.kneighbors(queries)
        times.append(time.perf_counter() - start)
    return 1e6 * np.median(times) / len(queries)


def bytes_per_vector(index):
    more = copy.deepcopy(index).partial_fit(rows)
    return (len(pickle.dumps(more)) - len(pickle.dumps(index))) / len(rows)


flat, lists, compressed = (
    clone(index).fit(rows).set_params(n_jobs=1) for index in (flat, lists, compressed)
)
true_distances, _ = flat.kneighbors(queries)


def report(name, index):
    ids = index.kneighbors(queries, return_distance=False)
    # Not those of the codes, but those of the rows.
    distances = np.linalg.norm(rows[ids] - queries[:, None], axis=2)
    recall = knn_recall(true_distances, distances)
    alone, batch = microseconds(index), microseconds_in_a_batch(index)
    figures = f"{recall:8.3f} {alone:8.0f} {batch:9.0f}"
    print(f"{name:24} {figures} {bytes_per_vector(index):10.0f}")


print(f"{'':24} recall@4    alone  in batch  bytes each")
report("flat", flat)
report("lists, nprobe=1", lists.set_params(nprobe=1))
report("lists, nprobe=10", lists.set_params(nprobe=10))
report("codes, nprobe=1", compressed.set_params(nprobe=1))
report("codes, nprobe=10", compressed.set_params(nprobe=10))

# %%
# The flat index keeps each vector twice, as it was given and in a byte a feature for
# its filter. Lists keep the same. What they save is time, since few rows are read, and
# they save most in a batch, where a list is read once for all queries that probe it.
#
# Codes save memory, and scanning a list of them costs next to nothing: ten lists take
# about as long as one. What a query pays for is its table, the products of its 8 parts
# with the 256 codewords of each, which is the same work for any number of rows.
#
# Eight bytes for 768 features are very few, and recall says so. There are two remedies.
# One is more parts. The other is to keep the vectors too, where memory is cheap, and to
# measure the best candidates again: a search reads few of them, so that a memory map
# does as well.

finer = clone(compressed).set_params(m=96).fit(rows)
report("codes, m=96", finer)
finer.set_params(store_vectors=True, refine_factor=4).fit(rows)
report("and refined", finer)

# %%
# Time and the number of vectors
# ------------------------------
#
# The article ends with the time of a query against the number of vectors. Here the
# indexes are fitted with 2000 rows and grow: ``partial_fit`` puts more rows into lists
# and codes that it does not train again.

sizes = [2000, 4000, 6000, 8000, 10_000, 12_000, len(rows)]
fig, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
for index, marker in ((flat, "o"), (lists, "s"), (compressed, "^")):
    growing, n, times = clone(index), 0, []
    for size in sizes:
        growing.partial_fit(rows[n:size])
        n = size
        times.append(microseconds(growing))
    ax.plot(sizes, times, marker=marker, label=type(index).__name__)
ax.set(
    xlim=0,
    ylim=0,
    xlabel="vectors",
    ylabel="microseconds a query, one thread",
    title="A query alone, nprobe=10 of 50 lists",
)
ax.grid(alpha=0.3)
ax.legend()
plt.show()

# %%
# The time of the flat search grows with all vectors, that of the lists with a fifth of
# them. For the codes they hardly count: a row that is read costs eight bytes and eight
# look-ups. Where the curves start is what does not depend on the number of vectors: the
# call, the centroids, and for the codes the table. So the more vectors there are, the
# further the codes are ahead, in time as in memory. What they find is decided by ``m``
# and by refinement.
