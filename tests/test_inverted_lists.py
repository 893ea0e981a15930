"""Lists as chains of panels: whatever is added, each row has one place."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sklearn_ann._inverted_lists import (
    empty_lists,
    extend_lists,
    group_by_label,
    imbalance,
)

PANEL = 64


def add_all(nlist, pieces):
    """Lists of several additions, and the row at each place, -1 for none."""
    lists, rows, n = empty_lists(nlist), np.empty(0, np.int64), 0
    for labels in pieces:
        before, kept = lists, [array.copy() for array in lists]
        lists, order, positions = extend_lists(lists, labels)
        for array, expected in zip(before, kept, strict=True):
            assert_array_equal(array, expected)
        longer = np.full(PANEL * len(lists.panels), -1)
        longer[: len(rows)] = rows
        assert (longer[positions] == -1).all(), "a place is taken"
        longer[positions] = n + order
        rows, n = longer, n + len(labels)
    return lists, rows


PIECES = {
    "nothing": [[]],
    "one row": [[3]],
    "row by row": [[label] for label in [0, 4, 4, 0, 1, 4] * 30],
    "a panel": [[2] * 64],
    "a panel and a row": [[2] * 64, [2]],
    "up to a panel": [[1, 2] * 63, [2], [1], [1, 2]],
    "one long list": [[0] * 1000, [0] * 7, [0] * 500],
    "all lists": [np.arange(300) % 5, [], np.arange(299, 0, -1) % 5],
}


@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES.keys())
def test_each_list_holds_its_rows_in_order(pieces):
    pieces = [np.array(piece, np.int64) for piece in pieces]
    lists, rows = add_all(5, pieces)
    labels = np.concatenate(pieces)
    assert_array_equal(lists.sizes, np.bincount(labels, minlength=5), strict=True)
    lengths = np.diff(lists.offsets)
    # No more panels than the rows need, each in one list.
    assert_array_equal(lengths, -(-lists.sizes // PANEL))
    assert_array_equal(np.sort(lists.panels), np.arange(lengths.sum()))
    for number in range(5):
        chain = lists.panels[lists.offsets[number] : lists.offsets[number + 1]]
        in_list = rows.reshape(-1, PANEL)[chain].ravel()
        size = lists.sizes[number]
        assert_array_equal(in_list[:size], np.flatnonzero(labels == number))
        assert (in_list[size:] == -1).all()


@pytest.mark.parametrize("n_labels", [1, 5, 2**16, 2**16 + 1])
def test_rows_are_grouped_in_order(n_labels, rng):
    labels = rng.integers(0, n_labels, 3000)
    labels[:2] = 0, n_labels - 1
    order, starts = group_by_label(labels, n_labels)
    assert_array_equal(order, np.argsort(labels, kind="stable"))
    assert_array_equal(np.diff(starts), np.bincount(labels, minlength=n_labels))
    assert starts[0] == 0


@pytest.mark.parametrize(
    ("sizes", "factor"),
    [([5], 1), ([7, 7, 7], 1), ([6, 0, 0], 3), ([3, 1], 2 * (9 + 1) / 16)],
)
def test_imbalance(sizes, factor):
    assert imbalance(np.array(sizes)) == pytest.approx(factor)
