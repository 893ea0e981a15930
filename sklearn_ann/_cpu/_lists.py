"""Inverted lists from the side of the queries: what they probe, and who probes what."""

from __future__ import annotations

import numpy as np

from sklearn_ann._cpu._jit import jit


@jit
def chain(
    probes,  # IN  (nprobe,)  int64  numbers of lists; -1: none
    lists,   # IN  InvertedLists
):
    """The panels of some lists, one list after the other."""
    offsets, all_panels, n_panels = lists.offsets, lists.panels, 0
    for probe in probes:
        if probe >= 0:
            n_panels += offsets[probe + 1] - offsets[probe]
    panels, at = np.empty(n_panels, np.int64), 0
    for probe in probes:
        if probe >= 0:
            first, last = offsets[probe], offsets[probe + 1]
            panels[at : at + last - first] = all_panels[first:last]
            at += last - first
    return panels


@jit
def group_by_list(
    probes,  # IN  (n, nprobe)  int64  numbers of lists; -1: none
    nlist,   # IN  int
):
    """The lists that are probed; which queries probe each, and by what rank.

    Returns the numbers of these lists, where the members of each start, the members,
    and their ranks: list ``list_numbers[n]`` is probed by the queries
    ``members[starts[n]]`` up to ``members[starts[n + 1]]``.
    """
    # Loops, because functions of NumPy take longer to compile.
    if probes.shape[0] == 1:
        return _lists_of_one(probes)
    ends = np.zeros(nlist + 1, np.int64)
    for i in range(probes.shape[0]):
        for probe in probes[i]:
            ends[probe + 1] += 1
    n_lists, total = 0, 0
    list_numbers = np.empty(min(nlist, probes.size), np.int64)
    starts = np.zeros(len(list_numbers) + 1, np.int64)
    for number in range(nlist):
        n_members = ends[number + 1]
        ends[number] = total
        if n_members > 0:
            list_numbers[n_lists] = number
            n_lists, total = n_lists + 1, total + n_members
            starts[n_lists] = total
    members, ranks = np.empty(total, np.int64), np.empty(total, np.int64)
    for i in range(probes.shape[0]):
        for rank in range(probes.shape[1]):
            probe = probes[i, rank]
            if probe >= 0:
                members[ends[probe]], ranks[ends[probe]] = i, rank
                ends[probe] += 1
    return list_numbers[:n_lists], starts[: n_lists + 1], members, ranks


@jit
def _lists_of_one(probes):
    """The lists that one query probes, in the order of its probes."""
    nprobe = probes.shape[1]
    list_numbers, ranks = np.empty(nprobe, np.int64), np.empty(nprobe, np.int64)
    starts, n_lists = np.empty(nprobe + 1, np.int64), 0
    for rank in range(nprobe):
        if probes[0, rank] >= 0:
            list_numbers[n_lists], ranks[n_lists] = probes[0, rank], rank
            starts[n_lists] = n_lists
            n_lists += 1
    starts[n_lists] = n_lists
    members = np.zeros(n_lists, np.int64)
    return list_numbers[:n_lists], starts[: n_lists + 1], members, ranks[:n_lists]
