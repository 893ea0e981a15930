"""The selection of the k smallest against NumPy's sort."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from parts import called

from sklearn_ann._cpu import _topk

above_kth_smallest = called(_topk.above_kth_smallest)
bracket_kth_smallest = called(_topk.bracket_kth_smallest)
sort_pairs, sort_smallest = called(_topk.sort_pairs), called(_topk.sort_smallest)

VALUES = {
    "distinct": lambda rng, n: rng.standard_normal(n),
    "duplicates": lambda rng, n: rng.integers(0, 4, n).astype(np.float64),
    "equal": lambda rng, n: np.full(n, 3.5),
    "ascending": lambda rng, n: np.arange(n, dtype=np.float64),
    "descending": lambda rng, n: np.arange(n, 0, -1, dtype=np.float64),
    "some inf": lambda rng, n: np.where(rng.random(n) < 0.3, np.inf, rng.random(n)),
    "all inf": lambda rng, n: np.full(n, np.inf),
    "signed zeros": lambda rng, n: np.where(rng.random(n) < 0.5, 0.0, -0.0),
}


@pytest.fixture(params=VALUES)
def make_values(request, rng):
    return lambda n: VALUES[request.param](rng, n)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 64, 200])
def test_bound_of_the_kth_smallest_is_not_below_it_and_hardly_above(make_values, count):
    values = np.abs(make_values(count))
    before = values.copy()
    for k in {1, 2, count // 2, count - 1, count} & set(range(1, count + 1)):
        kth = np.sort(values)[k - 1]
        bound = above_kth_smallest(values, count, k)
        assert bound >= kth
        below, above = bracket_kth_smallest(values, count, k)
        assert below <= kth and above == bound
        finite = values[np.isfinite(values)]
        assert np.isinf(kth) or bound - below <= finite.max() / 1000
    assert_array_equal(values, before)


def test_bound_of_the_kth_smallest_ignores_what_lies_behind_count(rng):
    values = 1 + rng.random(50)
    values[20:] = 0
    assert above_kth_smallest(values, 20, 3) >= np.sort(values[:20])[2]


def test_bound_of_the_kth_smallest_is_infinite_for_fewer_than_k():
    assert above_kth_smallest(np.array([1.0, 2.0, np.inf]), 3, 3) == np.inf
    assert above_kth_smallest(np.ones(2), 2, 3) == np.inf


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10, 64, 200])
def test_pairs_are_sorted_by_distance_then_row(make_values, count, rng):
    sqdists = make_values(count + 3)
    ids = rng.permutation(count + 3)
    order = np.lexsort((ids[:count], sqdists[:count]))
    expected = np.append(sqdists[order], sqdists[count:])
    expected_ids = np.append(ids[order], ids[count:])
    sort_pairs(sqdists, ids, count)
    assert_array_equal(sqdists, expected)
    assert_array_equal(ids, expected_ids)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10, 64, 200])
def test_smallest_pairs_are_sorted_by_distance_then_row(make_values, count, rng):
    sqdists = np.abs(make_values(count + 3))
    ids = rng.permutation(count + 3)
    order = np.lexsort((ids[:count], sqdists[:count]))
    for k in {1, 2, count // 2, count, count + 1} - {0}:
        found, found_ids = sqdists.copy(), ids.copy()
        n_found = sort_smallest(found, found_ids, count, k)
        assert n_found == min(k, count)
        assert_array_equal(found[:n_found], sqdists[order[:k]])
        assert_array_equal(found_ids[:n_found], ids[order[:k]])
        assert_array_equal(found[count:], sqdists[count:])
