"""Selection by a block, in every order of threads."""

import cuda_lane
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sklearn_ann._cuda import _topk
from sklearn_ann._cuda._compat import launch, to_device

EACH_ORDER = pytest.mark.parametrize("order", cuda_lane.ORDERS)


def shrink(k, candidates, room, thresholds=None, counts=None):
    """The candidates of some queries after it, and thresholds and losses."""
    n = len(candidates)
    counts = [len(values) for values in candidates] if counts is None else counts
    lowers, uppers = np.full((2, n, room), np.nan, np.float32)
    positions = np.full((n, room), -9, np.int32)
    for i, values in enumerate(candidates):
        uppers[i, : len(values)] = values
        lowers[i, : len(values)] = values
        positions[i, : len(values)] = range(len(values))
    thresholds = np.full(n, np.inf) if thresholds is None else thresholds
    arrays = [
        np.zeros(n, np.float32),
        np.arange(n + 1) * room,
        np.asarray(thresholds, np.float32),
        np.array(counts, np.int32),
        np.zeros(n, np.int32),
        *(lowers.ravel(), uppers.ravel(), positions.ravel()),
    ]
    arrays = [to_device(array) for array in arrays]
    zero = np.float32(0)
    launch(_topk.shrink_candidates, n, _topk.THREADS, k, zero, zero, *arrays)
    on_host = [array.copy_to_host() for array in arrays[2:]]
    thresholds, counts, is_lost, _, _, positions = on_host
    rows = zip(positions.reshape(n, room), counts, strict=True)
    kept = [list(row[:count]) for row, count in rows]
    return kept, thresholds, is_lost


@EACH_ORDER
@pytest.mark.parametrize("k", [1, 5, 129, 300])
def test_the_k_smallest_stay_in_their_order(order, k, rng):
    cuda_lane.set_order(order)
    values = rng.permutation(np.linspace(-1, 1, 300).astype(np.float32))
    kept, thresholds, is_lost = shrink(k, [values], 512)
    expected = np.flatnonzero(values <= np.sort(values)[k - 1])
    assert_array_equal(kept[0], expected)
    assert np.sort(values)[k - 1] <= thresholds[0]
    assert not is_lost.any()


VALUES = {
    "all equal": np.full(200, 3.5),
    "zeros of both signs": np.where(np.arange(200) % 2, 0.0, -0.0),
    "a huge range": np.append(np.linspace(1, 2, 199), 3e38),
    "negative": -np.geomspace(1e-40, 1e30, 200),
    "some unknown": np.where(np.arange(200) < 20, np.inf, np.arange(200)),
}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_the_threshold_is_not_below_the_kth(values):
    values = values.astype(np.float32)
    _, thresholds, _ = shrink(10, [values, values[::-1]], 256)
    kth, next_larger = np.sort(values)[9], np.sort(values)[10]
    assert (kth <= thresholds).all()
    assert (thresholds <= max(kth, next_larger) + 1e-6 * abs(next_larger)).all()


def test_fewer_than_k_stay_as_they_are():
    kept, thresholds, _ = shrink(4, [[3.0, 1.0, 2.0], [1, np.inf, np.inf, 3, 4]], 8)
    assert kept == [[0, 1, 2], [0, 1, 2, 3, 4]]
    assert_array_equal(thresholds, np.inf)


def test_a_threshold_never_grows():
    kept, thresholds, _ = shrink(2, [[3.0, 1.0, 2.0]], 4, thresholds=[1.5])
    assert kept == [[1]]
    assert thresholds[0] == 1.5


def test_more_than_there_is_room_for_are_lost():
    kept, _, is_lost = shrink(1, [[3.0, 1.0], [3.0, 1.0]], 2, counts=[5, 2])
    assert kept == [[1], [1]]
    assert_array_equal(is_lost, [1, 0])


@EACH_ORDER
@pytest.mark.parametrize("count", [0, 1, 2, 127, 200, 256])
def test_pairs_are_sorted_by_distance_and_row(order, count, rng):
    cuda_lane.set_order(order)
    k, room = 130, 256
    sqdists = rng.integers(0, 20, count).astype(np.float64)
    sqdists[sqdists == 19] = np.inf
    rows = rng.permutation(count).astype(np.int32)
    arrays = [
        np.array([0, room]),
        np.array([count], np.int32),
        np.append(rows, np.zeros(room - count, np.int32)).astype(np.int32),
        np.append(sqdists, np.zeros(room - count)),
        np.full((1, k), np.nan),
        np.full((1, k), -9),
    ]
    arrays = [to_device(array) for array in arrays]
    launch(_topk.select, 1, _topk.THREADS, k, *arrays)
    found_sqdists, found_ids = (array.copy_to_host()[0] for array in arrays[-2:])
    order = np.lexsort((rows, sqdists))[:k]
    n_found = min(k, count)
    assert_array_equal(found_sqdists[:n_found], sqdists[order])
    assert_array_equal(found_ids[:n_found], rows[order])
    assert_array_equal(found_sqdists[n_found:], np.inf)
    assert_array_equal(found_ids[n_found:], -1)
