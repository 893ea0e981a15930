"""The journey of the article "Introduction to Faiss", in scikit-learn's words.

Build an index of 14,504 sentence embeddings, search it, read the neighbours, get a
vector back, and compare the time with scikit-learn's brute force::

    python examples/quickstart.py

The embeddings (43 MiB) are downloaded once, into scikit-learn's data folder. To use
another folder, name it with ``--data-home`` or in the environment variable
``SCIKIT_LEARN_DATA``. Without a network the handwritten digits that scikit-learn ships
take their place.
"""

import argparse
import statistics
import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

from sklearn_ann import FlatL2Neighbors
from sklearn_ann.datasets import fetch_sentence_embeddings

FOOTBALL = 4586  # the row of the article: football players running in the field


def load(data_home):
    """Vectors, a text for each, and the row to ask for."""
    try:
        dataset = fetch_sentence_embeddings(data_home)
    except (OSError, ImportError) as error:
        print(error)
        print("\nFalling back to data that scikit-learn ships: images of digits.\n")
        digits = load_digits()
        texts = [f"an image of the digit {label}" for label in digits.target]
        return digits.data.astype(np.float32), texts, 0
    return dataset.data, dataset.sentences, FOOTBALL


def median_ms(search, repeat):
    """Median time of a call, after one to warm up."""
    search()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        search()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description="Search sentence embeddings.")
    parser.add_argument("--data-home", help="folder of data sets, else scikit-learn's")
    X, texts, row = load(parser.parse_args().data_home)

    start = time.perf_counter()
    index = FlatL2Neighbors(n_neighbors=4).fit(X)
    print(
        f"Indexed {index.ntotal} vectors of {index.n_features_in_} features in", end=""
    )
    print(f" {time.perf_counter() - start:.2f} s (the first call loads the kernels)\n")

    distances, ids = index.kneighbors(X[[row]])
    print(f"Nearest to row {row}, {texts[row]!r}:")
    for distance, neighbor in zip(distances[0], ids[0], strict=True):
        print(f"  {neighbor:6d}  {distance:7.3f}  {texts[neighbor]}")
    print(f"\nreconstruct({row}) begins {index.reconstruct(row)[:4]}\n")

    brute = NearestNeighbors(n_neighbors=4, algorithm="brute").fit(X)
    rng = np.random.default_rng(0)
    some = X[rng.choice(len(X), min(1000, len(X)), replace=False)]
    for name, Q, repeat in (
        ("one query", some[:1], 50),
        (f"{len(some)} queries", some, 5),
    ):
        ours = median_ms(lambda Q=Q: index.kneighbors(Q), repeat)
        theirs = median_ms(lambda Q=Q: brute.kneighbors(Q), repeat)
        print(f"{name:12}  FlatL2Neighbors {ours:8.2f} ms", end="")
        print(f"   scikit-learn brute force {theirs:8.2f} ms   {theirs / ours:4.1f}x")
    distances, ids = index.kneighbors(some)
    expected, expected_ids = brute.kneighbors(some)
    same_distances = np.isclose(distances, expected, atol=1e-5).all(axis=1).mean()
    same_rows = (ids == expected_ids).all(axis=1).mean()
    print(f"\nThe same distances for {same_distances:.1%} of the queries, and the same")
    print(f"rows in the same order for {same_rows:.1%}: the others have ties.")


if __name__ == "__main__":
    main()
