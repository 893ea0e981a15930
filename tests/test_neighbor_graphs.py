"""scikit-learn's estimators read exact graphs, and find what they find by themselves.

So does "Neighbour graphs for other libraries" of the user guide say. Other libraries
are in tests/consumers, approximate graphs in test_workflows.py.
"""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import DBSCAN, HDBSCAN, OPTICS, SpectralClustering
from sklearn.datasets import make_blobs
from sklearn.manifold import TSNE, Isomap
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.semi_supervised import LabelSpreading

from sklearn_ann import FlatL2Neighbors
from sklearn_ann.exceptions import DisconnectedGraphWarning

# Old versions of DBSCAN and OPTICS put entries into the rows, and then find it.
pytestmark = pytest.mark.filterwarnings("ignore:Precomputed sparse input was not sort")


@pytest.fixture(scope="module")
def blobs():
    return make_blobs(400, 5, centers=4, cluster_std=3.0, random_state=0)


def test_tsne(blobs):
    X, _ = blobs
    parameters = {"perplexity": 10, "max_iter": 250, "random_state": 0}
    own = TSNE(init="random", **parameters).fit_transform(X)
    graph = FlatL2Neighbors(n_neighbors=31).fit_transform(X)
    tsne = TSNE(init="random", metric="precomputed", **parameters)
    assert_array_equal(tsne.fit_transform(graph), own)
    with pytest.raises(ValueError, match="32 neighbors per samples"):
        tsne.fit(FlatL2Neighbors(n_neighbors=29).fit_transform(X))


@pytest.mark.parametrize("eps", [0.5, 1.5, 3.0])
def test_dbscan(eps, blobs):
    X, _ = blobs
    own = DBSCAN(eps=eps).fit(X)
    # Larger than some of them.
    graph = FlatL2Neighbors(radius=3.0).fit(X).radius_neighbors_graph(mode="distance")
    found = DBSCAN(eps=eps, metric="precomputed").fit(graph)
    assert_array_equal(found.labels_, own.labels_)
    assert_array_equal(found.core_sample_indices_, own.core_sample_indices_)


def test_dbscan_takes_a_graph_of_too_few_neighbors_without_a_word(blobs):
    X, _ = blobs
    graph = FlatL2Neighbors(3).fit_transform(X)
    found = DBSCAN(eps=3.0, metric="precomputed").fit_predict(graph)
    assert adjusted_rand_score(found, DBSCAN(eps=3.0).fit_predict(X)) < 0.9


def reachable(X, max_eps, min_samples):
    """What OPTICS reads: all rows within max_eps, but min_samples at least."""
    index = FlatL2Neighbors(n_neighbors=min_samples, radius=max_eps).fit(X)
    return index.radius_neighbors_graph(mode="distance").maximum(
        index.kneighbors_graph(mode="distance")
    )


@pytest.mark.parametrize("max_eps", [4.0, 8.0])
def test_optics(max_eps, blobs):
    X, _ = blobs
    own = OPTICS(max_eps=max_eps).fit(X)
    graph = reachable(X, max_eps, own.min_samples)
    found = OPTICS(max_eps=max_eps, metric="precomputed").fit(graph)
    assert_array_equal(found.ordering_, own.ordering_)
    assert_array_equal(found.labels_, own.labels_)
    assert_allclose(found.reachability_, own.reachability_)
    assert_allclose(found.core_distances_, own.core_distances_)


def test_optics_refuses_rows_with_few_others_within_reach(blobs):
    X, _ = blobs
    graph = FlatL2Neighbors().fit(X).radius_neighbors_graph(radius=2, mode="distance")
    assert np.diff(graph.indptr).min() < 4
    with pytest.raises(ValueError, match="5 neighbors"):
        OPTICS(max_eps=2, metric="precomputed").fit(graph)


def clustered(X, min_samples):
    """Fitted to the vectors, and to their graph."""
    own = HDBSCAN(min_cluster_size=15, min_samples=min_samples, copy=True).fit(X)
    graph = FlatL2Neighbors(30).fit(X).kneighbors_graph(mode="distance", connected=True)
    found = HDBSCAN(
        min_cluster_size=15,
        # It counts the row itself, which the graph has no entry for.
        min_samples=min_samples - 1,
        metric="precomputed",
        copy=True,
    )
    return own, found.fit(graph.maximum(graph.T))


@pytest.mark.filterwarnings("ignore::sklearn_ann.exceptions.DisconnectedGraphWarning")
@pytest.mark.parametrize("min_samples", [5, 10])
def test_hdbscan(min_samples):
    X, _ = make_blobs(400, 5, centers=4, cluster_std=0.5, random_state=0)
    own, found = clustered(X, min_samples)
    assert len(set(own.labels_)) == 4
    assert adjusted_rand_score(found.labels_, own.labels_) == 1
    assert_allclose(found.probabilities_, own.probabilities_)


@pytest.mark.filterwarnings("ignore::sklearn_ann.exceptions.DisconnectedGraphWarning")
@pytest.mark.parametrize("min_samples", [5, 10])
def test_hdbscan_breaks_ties_of_blurred_clusters_in_another_way(min_samples, blobs):
    own, found = clustered(blobs[0], min_samples)
    assert len(set(own.labels_)) > 2
    assert adjusted_rand_score(found.labels_, own.labels_) > 0.98
    assert np.mean((found.labels_ == -1) == (own.labels_ == -1)) > 0.98


def test_hdbscan_refuses_several_components():
    X, _ = make_blobs(400, 5, centers=4, cluster_std=0.5, random_state=0)
    graph = FlatL2Neighbors(30).fit(X).kneighbors_graph(mode="distance")
    graph = graph.maximum(graph.T)
    with pytest.raises(ValueError, match="4 connected components"):
        HDBSCAN(metric="precomputed", copy=True).fit(graph)


def test_local_outlier_factor(blobs):
    X, _ = blobs
    own = LocalOutlierFactor(10).fit(X)
    graph = FlatL2Neighbors(10).fit_transform(X)
    found = LocalOutlierFactor(10, metric="precomputed").fit(graph)
    assert_allclose(found.negative_outlier_factor_, own.negative_outlier_factor_)
    assert_array_equal(found.fit_predict(graph), own.fit_predict(X))


def test_isomap(blobs):
    X, _ = blobs
    own = Isomap(n_neighbors=10).fit(X)
    graph = FlatL2Neighbors(10).fit_transform(X)
    found = Isomap(n_neighbors=10, metric="precomputed").fit(graph)
    assert_allclose(found.dist_matrix_, own.dist_matrix_)


@pytest.mark.filterwarnings("ignore:The number of connected components:UserWarning")
@pytest.mark.filterwarnings("ignore:Changing the sparsity structure")
def test_isomap_of_two_components():
    X, _ = make_blobs(200, 3, centers=2, cluster_std=0.5, random_state=0)
    own = Isomap(n_neighbors=5).fit(X)
    index = FlatL2Neighbors(5).fit(X)
    with pytest.raises(RuntimeError, match="cannot be completed"):
        Isomap(n_neighbors=5, metric="precomputed").fit(index.transform(X))
    with pytest.warns(DisconnectedGraphWarning, match="2 connected"):
        graph = index.kneighbors_graph(mode="distance", connected=True)
    assert connected_components(graph, directed=False)[0] == 1
    found = Isomap(n_neighbors=None, radius=np.inf, metric="precomputed").fit(graph)
    assert_allclose(found.dist_matrix_, own.dist_matrix_)


def test_spectral_clustering(blobs):
    X, _ = blobs
    parameters = {"n_clusters": 4, "n_neighbors": 10, "random_state": 0}
    own = SpectralClustering(affinity="nearest_neighbors", **parameters).fit(X)
    graph = FlatL2Neighbors(10).fit_transform(X)
    found = SpectralClustering(
        affinity="precomputed_nearest_neighbors", **parameters
    ).fit(graph)
    assert (found.affinity_matrix_ != own.affinity_matrix_).nnz == 0
    assert adjusted_rand_score(found.labels_, own.labels_) == 1


def test_label_spreading(blobs):
    X, y = blobs
    partly = np.where(np.arange(len(y)) % 8, -1, y)

    def neighbors_kernel(X, Y):
        graph = FlatL2Neighbors(7).fit(X).kneighbors_graph(Y)
        return graph if Y is X else graph.T

    own = LabelSpreading(kernel="knn", n_neighbors=7).fit(X[:300], partly[:300])
    found = LabelSpreading(kernel=neighbors_kernel).fit(X[:300], partly[:300])
    assert_allclose(found.label_distributions_, own.label_distributions_)
    assert_array_equal(found.transduction_, own.transduction_)
    assert_allclose(found.predict_proba(X[300:]), own.predict_proba(X[300:]))
    # The kernel would take the very array of `fit` for another call of `fit`.
    rows, expected = found.X_.copy(), own.predict_proba(own.X_)
    assert_allclose(found.predict_proba(rows), expected)
