"""Inverted lists: which panels, and which positions in them, the rows of a cell fill.

A list is a chain of panels, all full but the last. Rows that are added fill that one
up, then a new panel at the end of all: nothing is moved, however long the lists are.
"""

from __future__ import annotations

import numpy as np

from sklearn_ann._layout import PANEL, InvertedLists


def empty_lists(nlist):
    """Lists without rows."""
    return lists_of_chains(np.empty(0, np.int64), np.zeros(nlist, np.int64))


def lists_of_chains(panels, sizes):
    """Lists with so many rows each, whose chains of panels follow one another."""
    offsets = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(n_panels_for(sizes), out=offsets[1:])
    return InvertedLists(panels=panels, offsets=offsets, sizes=sizes)


def n_panels_for(sizes):
    """How many panels so many rows fill."""
    return -(-sizes // PANEL)


def owners_of(lists):
    """The list of each panel."""
    owners = np.empty(len(lists.panels), np.int64)
    n_panels = np.diff(lists.offsets)
    owners[lists.panels] = np.repeat(np.arange(len(n_panels)), n_panels)
    return owners


def labels_of_rows(lists, ids):
    """The list of each row, by the row at each position."""
    is_filled = filled_positions(lists)
    labels = np.empty(lists.sizes.sum(), np.int64)
    labels[ids[is_filled]] = np.repeat(owners_of(lists), PANEL)[is_filled]
    return labels


def rows_by_list(lists, ids):
    """All rows, list by list, by the row at each position."""
    is_filled = filled_positions(lists).reshape(-1, PANEL)[lists.panels]
    return ids.reshape(-1, PANEL)[lists.panels][is_filled].astype(np.int64)


def filled_positions(lists):
    """Whether there is a row, for each position of all panels."""
    n_panels = np.diff(lists.offsets)
    nth = np.arange(len(lists.panels)) - np.repeat(lists.offsets[:-1], n_panels)
    n_rows = np.empty(len(lists.panels), np.int64)
    n_rows[lists.panels] = np.repeat(lists.sizes, n_panels) - nth * PANEL
    return (np.arange(PANEL) < n_rows[:, None]).ravel()


def extend_lists(lists, labels):
    """Lists with more rows, and where these go.

    Parameters
    ----------
    lists : InvertedLists
        Stays as it is.
    labels : ndarray of shape (m,), int64
        The list of each new row.

    Returns
    -------
    lists : InvertedLists
    order : ndarray of shape (m,), int64
        The new rows, list by list, ascending in each.
    positions : ndarray of shape (m,), int64
        Where they go, in that order.
    """
    order, starts = group_by_label(labels, len(lists.sizes))
    counts = np.diff(starts)
    sizes = lists.sizes + counts
    longer = _extend_chains(lists, sizes)
    # Places if all chains were laid end to end: first that of the first new row.
    first = longer.offsets[:-1] * PANEL + lists.sizes - starts[:-1]
    places = np.repeat(first, counts)
    places += np.arange(len(places))
    positions = longer.panels[places // PANEL]
    positions *= PANEL
    positions += places % PANEL
    return longer, order, positions


def group_by_label(labels, n_labels):
    """Row numbers sorted by label, ascending in each, and where each label starts."""
    # NumPy sorts 16-bit integers by radix, ten times faster than wider ones.
    keys = labels.astype(np.uint16) if n_labels <= 2**16 else labels
    starts = np.zeros(n_labels + 1, np.int64)
    np.cumsum(np.bincount(labels, minlength=n_labels), out=starts[1:])
    return np.argsort(keys, kind="stable"), starts


def _extend_chains(lists, sizes):
    """The lists with room for so many rows."""
    longer = lists_of_chains(np.empty(n_panels_for(sizes).sum(), np.int64), sizes)
    panels, offsets = longer.panels, longer.offsets
    chain = np.repeat(np.arange(len(sizes)), np.diff(offsets))
    places = np.arange(offsets[-1]) - offsets[chain]
    is_new = places >= np.diff(lists.offsets)[chain]
    panels[~is_new] = lists.panels
    panels[is_new] = np.arange(len(lists.panels), offsets[-1])
    return longer


def imbalance(sizes):
    """How much longer a search of the lists takes than if all had the same size."""
    return float(len(sizes) * np.square(sizes / sizes.sum()).sum())
