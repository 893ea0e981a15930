"""UMAP and openTSNE make of our neighbors what they make of exact ones of their own."""

import numpy as np
import openTSNE
import umap
from numpy.testing import assert_allclose, assert_array_equal
from openTSNE.affinity import PerplexityBasedNN
from openTSNE.nearest_neighbors import PrecomputedNeighbors
from sklearn.manifold import trustworthiness

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors


def test_umap(blobs):
    X, _ = blobs
    parameters = {"n_neighbors": 15, "random_state": 0, "n_jobs": 1}
    own = umap.UMAP(**parameters).fit(X)
    graph = FlatL2Neighbors(14).fit_transform(X)
    ids, distances = (a.reshape(len(X), 15) for a in (graph.indices, graph.data))
    found = umap.UMAP(precomputed_knn=(ids, distances), **parameters).fit(X)
    assert_allclose(found.graph_.toarray(), own.graph_.toarray(), atol=1e-5)
    expected = trustworthiness(X, own.embedding_)
    assert trustworthiness(X, found.embedding_) > expected - 0.01


def test_umap_of_approximate_neighbors(blobs):
    X, _ = blobs
    index = IVFFlatNeighbors(15, nlist=10, nprobe=3, random_state=0)
    distances, ids = index.fit(X).kneighbors(X)
    mapper = umap.UMAP(
        n_neighbors=15, precomputed_knn=(ids, distances), random_state=0, n_jobs=1
    )
    assert trustworthiness(X, mapper.fit_transform(X)) > 0.9


def test_opentsne(blobs):
    X, _ = blobs
    perplexity = 10
    own = PerplexityBasedNN(X, perplexity, method="exact", random_state=0)
    distances, ids = FlatL2Neighbors(3 * perplexity).fit(X).kneighbors()
    found = PerplexityBasedNN(
        perplexity=perplexity, knn_index=PrecomputedNeighbors(ids, distances)
    )
    assert_allclose(found.P.toarray(), own.P.toarray(), atol=1e-12)
    init = openTSNE.initialization.pca(X, random_state=0)
    embeddings = [
        openTSNE.TSNE(random_state=0, n_jobs=1).fit(
            affinities=affinities, initialization=init
        )
        for affinities in (own, found)
    ]
    assert_array_equal(*map(np.asarray, embeddings))
