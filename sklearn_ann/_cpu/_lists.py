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
    if probes.shape[0] == 1:
        ranks = np.flatnonzero(probes[0] >= 0)
        starts = np.arange(len(ranks) + 1)
        return probes[0][ranks], starts, np.zeros(len(ranks), np.int64), ranks
    ends = np.zeros(nlist + 1, np.int64)
    for i in range(probes.shape[0]):
        for probe in probes[i]:
            ends[probe + 1] += 1
    ends[0] = 0
    list_numbers = np.flatnonzero(ends[1:])
    ends = np.cumsum(ends)
    starts = np.append(ends[list_numbers], ends[-1])
    members, ranks = np.empty((2, ends[-1]), np.int64)
    for i in range(probes.shape[0]):
        for rank in range(probes.shape[1]):
            probe = probes[i, rank]
            if probe >= 0:
                members[ends[probe]], ranks[ends[probe]] = i, rank
                ends[probe] += 1
    return list_numbers, starts, members, ranks
