"""Inverted lists: which panels, and which positions in them, the rows of a cell fill.

A list is a chain of panels, all full but the last. Rows that are added fill that one
up, then a new panel at the end of all: nothing is moved, however long the lists are.
"""

from __future__ import annotations

import numpy as np

from sklearn_ann._layout import PANEL, InvertedLists


def empty_lists(nlist):
    """Lists without rows."""
    return InvertedLists(
        panels=np.empty(0, np.int64),
        offsets=np.zeros(nlist + 1, np.int64),
        sizes=np.zeros(nlist, np.int64),
    )


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
    panels, offsets = _extend_chains(lists, -(-sizes // PANEL))
    # Places if all chains were laid end to end: first that of the first new row.
    places = np.repeat(offsets[:-1] * PANEL + lists.sizes - starts[:-1], counts)
    places += np.arange(len(places))
    positions = panels[places // PANEL]
    positions *= PANEL
    positions += places % PANEL
    return InvertedLists(panels, offsets, sizes), order, positions


def group_by_label(labels, n_labels):
    """Row numbers sorted by label, ascending in each, and where each label starts."""
    # NumPy sorts 16-bit integers by radix, ten times faster than wider ones.
    keys = labels.astype(np.uint16) if n_labels <= 2**16 else labels
    starts = np.zeros(n_labels + 1, np.int64)
    np.cumsum(np.bincount(labels, minlength=n_labels), out=starts[1:])
    return np.argsort(keys, kind="stable"), starts


def _extend_chains(lists, lengths):
    """Panels and offsets of chains that have grown to these lengths."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    chain = np.repeat(np.arange(len(lengths)), lengths)
    places = np.arange(offsets[-1]) - offsets[chain]
    is_new = places >= np.diff(lists.offsets)[chain]
    panels = np.empty(offsets[-1], np.int64)
    panels[~is_new] = lists.panels
    panels[is_new] = np.arange(len(lists.panels), offsets[-1])
    return panels, offsets


def imbalance(sizes):
    """How much longer a search of the lists takes than if all had the same size."""
    return float(len(sizes) * np.square(sizes / sizes.sum()).sum())
