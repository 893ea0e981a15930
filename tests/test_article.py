"""What readers of the article, and of the SIFT benchmark, can check themselves."""

import numpy as np
import pytest
import reference
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_ann import FlatL2Neighbors
from sklearn_ann.datasets import fetch_sentence_embeddings


@pytest.fixture(scope="module")
def embeddings(data_folder):
    return fetch_sentence_embeddings(data_folder, download_if_missing=False)


@pytest.fixture(scope="module")
def index(embeddings):
    return FlatL2Neighbors(4).fit(embeddings.data)


def test_the_sentence_of_the_article_is_row_4586(embeddings, index):
    assert embeddings.data.shape == (14504, 768)
    sentence = "A group of football players is running in the field"
    assert embeddings.sentences[4586] == sentence
    printed = [0.01627046, 0.22325929, -0.15037425, -0.30747262]
    assert_allclose(index.reconstruct(4586)[:4], printed, rtol=0, atol=5e-9)


def test_a_thousand_sentences_have_the_neighbors_of_the_oracle(embeddings, index):
    Q = embeddings.data[::14][:1000]
    assert len(Q) == 1000
    sqdists, ids = reference.knn_of_many(Q, embeddings.data, 4)
    distances, found_ids = index.kneighbors(Q)
    assert_array_equal(found_ids, ids)
    assert_allclose(distances**2, sqdists, rtol=1e-12)


def test_sift_descriptors_have_the_neighbors_of_the_oracle(data_folder):
    paths = [data_folder / f"sift_bsds_{name}.npy" for name in ("base_1m", "query_10k")]
    if not all(path.is_file() for path in paths):
        pytest.skip(f"the SIFT descriptors are not in {data_folder}")
    X, Q = (
        np.load(path, mmap_mode="r")[:stop].astype(np.float32)
        for path, stop in zip(paths, (20000, 200), strict=True)
    )
    sqdists, ids = reference.knn_of_many(Q, X, 10)
    found_sqdists, found_ids = (
        FlatL2Neighbors(10, metric="sqeuclidean").fit(X).kneighbors(Q)
    )
    assert_array_equal(found_ids, ids)
    assert_array_equal(found_sqdists, sqdists)
