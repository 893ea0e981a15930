"""Other libraries are fed with our graphs. They are in the extra "test-consumers".

One that is missing is an error: nothing here is skipped.
"""

import pytest
from sklearn.datasets import make_blobs

# What UMAP says when it is imported, and of neighbors that come without an index.
_WARNINGS = [
    "ignore:Tensorflow not installed:ImportWarning",
    "ignore:precomputed_knn.2. .*is not an NNDescent object:UserWarning",
]


def pytest_configure(config):
    for warning in _WARNINGS:
        config.addinivalue_line("filterwarnings", warning)


@pytest.fixture(scope="session")
def blobs():
    return make_blobs(400, 5, centers=4, cluster_std=3.0, random_state=0)
