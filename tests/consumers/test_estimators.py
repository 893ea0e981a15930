"""scanpy and imbalanced-learn search with our estimators."""

import anndata
import numpy as np
import scanpy
from imblearn.over_sampling import SMOTE
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_ann import FlatL2Neighbors


def test_scanpy(blobs):
    X, _ = blobs
    own, found = anndata.AnnData(X), anndata.AnnData(X)
    scanpy.pp.neighbors(own, n_neighbors=15, use_rep="X")
    scanpy.pp.neighbors(found, transformer=FlatL2Neighbors(15), use_rep="X")
    connectivities, expected = (
        data.obsp["connectivities"].toarray() for data in (found, own)
    )
    assert_allclose(connectivities, expected, atol=1e-6)
    assert found.uns["neighbors"]["params"]["n_neighbors"] == 15
    # What it keeps of the distances is all that it was given, the rows themselves too.
    assert np.diff(found.obsp["distances"].indptr).max() == 16
    assert np.diff(own.obsp["distances"].indptr).max() == 14


def test_smote(blobs):
    X, y = blobs
    is_rare = (y == 0) & (np.arange(len(y)) % 5 > 0)
    X, y = X[~is_rare], (y == 0)[~is_rare]
    own = SMOTE(k_neighbors=5, random_state=0).fit_resample(X, y)
    found = SMOTE(k_neighbors=FlatL2Neighbors(6), random_state=0).fit_resample(X, y)
    assert len(own[0]) > len(X)
    assert_array_equal(found[0], own[0])
    assert_array_equal(found[1], own[1])
