"""Identical rows against a dictionary of their bytes."""

from collections import Counter

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sklearn_ann._cpu._duplicates import _rank_duplicates, rank_duplicates


def ranks_of(rows):
    """How many rows before have the same bytes."""
    seen, ranks = Counter(), []
    for row in rows:
        ranks.append(seen[row.tobytes()])
        seen[row.tobytes()] += 1
    return ranks


DATA = {
    "distinct": lambda rng, d: rng.standard_normal((300, d)),
    "all equal": lambda rng, d: np.full((300, d), 3.7),
    "groups": lambda rng, d: rng.standard_normal((20, d))[rng.integers(0, 20, 300)],
    "bits": lambda rng, d: rng.integers(0, 2, (300, d)).astype(float),
    "signed zeros": lambda rng, d: np.where(rng.random((300, d)) < 0.3, -0.0, 0.0),
    "subnormal": lambda rng, d: rng.integers(0, 2, (300, d)) * 5e-324,
}


@pytest.fixture(params=DATA)
def make_rows(request, rng):
    return lambda d, dtype: DATA[request.param](rng, d).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [1, 5, 64])
def test_ranks_are_those_of_equal_bytes(dtype, d, make_rows, rng):
    X = make_rows(d, dtype)
    assert_array_equal(rank_duplicates(X, np.arange(300)), ranks_of(X))
    some = rng.permutation(300)[:77]
    assert_array_equal(rank_duplicates(X, some), ranks_of(X[some]))
    assert_array_equal(rank_duplicates(X, some[:1]), [0])


def test_rows_that_collide_are_told_apart(make_rows):
    X = make_rows(3, np.float32)
    words, ranks = X.view(np.uint32), np.empty(300, np.int64)
    _rank_duplicates(words, np.arange(300), np.zeros(3, np.uint64), ranks)
    assert_array_equal(ranks, ranks_of(X))
