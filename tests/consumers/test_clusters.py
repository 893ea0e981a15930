"""hdbscan finds in our graphs the clusters that it finds in the vectors."""

import hdbscan
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score

from sklearn_ann import FlatL2Neighbors

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn_ann.exceptions.DisconnectedGraphWarning"
)


def both(X, **parameters):
    """Fitted to the vectors, and to their graph."""
    own = hdbscan.HDBSCAN(approx_min_span_tree=False, **parameters).fit(X)
    graph = FlatL2Neighbors(30).fit(X).kneighbors_graph(mode="distance", connected=True)
    found = hdbscan.HDBSCAN(metric="precomputed", **parameters)
    return own, found.fit(graph.maximum(graph.T))


@pytest.mark.parametrize("min_samples", [5, 10])
def test_hdbscan(min_samples):
    X, _ = make_blobs(400, 5, centers=4, cluster_std=0.5, random_state=0)
    own, found = both(X, min_cluster_size=15, min_samples=min_samples)
    assert len(set(own.labels_)) == 4
    assert adjusted_rand_score(found.labels_, own.labels_) == 1
    assert_array_equal(found.labels_ == -1, own.labels_ == -1)
    assert_allclose(found.probabilities_, own.probabilities_)


@pytest.mark.parametrize("min_samples", [5, 10])
def test_hdbscan_breaks_ties_of_blurred_clusters_in_another_way(min_samples, blobs):
    own, found = both(blobs[0], min_cluster_size=15, min_samples=min_samples)
    assert len(set(own.labels_)) > 2
    assert adjusted_rand_score(found.labels_, own.labels_) > 0.98
    assert np.mean((found.labels_ == -1) == (own.labels_ == -1)) > 0.98


def test_hdbscan_refuses_several_components():
    X, _ = make_blobs(400, 5, centers=4, cluster_std=0.5, random_state=0)
    graph = FlatL2Neighbors(30).fit(X).kneighbors_graph(mode="distance")
    with pytest.raises(ValueError, match="connected components"):
        hdbscan.HDBSCAN(metric="precomputed").fit(graph.maximum(graph.T))
