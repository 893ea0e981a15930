"""The recall of a search does not depend on the device."""

import cuda_lane  # noqa: F401
import numpy as np
import pytest

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors

LISTS = {"nlist": 3, "nprobe": 1, "max_iter": 1, "random_state": 0}
CODES = {**LISTS, "m": 2, "nbits": 4, "store_vectors": True}


@pytest.mark.filterwarnings("ignore::sklearn_ann.exceptions.FewTrainingRowsWarning")
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize(
    "estimator",
    [FlatL2Neighbors(3), IVFFlatNeighbors(3, **LISTS), IVFPQNeighbors(3, **CODES)],
)
def test_score_is_that_of_the_cpu(estimator, metric, rng):
    X, Q = rng.normal(size=(80, 4)), rng.normal(size=(5, 4)).astype(np.float32)
    X[3] = Q[2] = 0
    index = estimator.set_params(metric=metric).fit(X)
    score = index.score(Q)
    assert index.set_params(device="cuda").score(Q) == score
    assert score == 1 if type(index) is FlatL2Neighbors else 0 < score < 1
