"""Inverted lists from the side of the queries: what they probe, and who probes what."""

from __future__ import annotations

import numpy as np

from sklearn_ann._cpu._arrays import empty, zeros
from sklearn_ann._cpu._jit import jit, jit_maker


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
    panels, at = empty(n_panels, np.int64), 0
    for probe in probes:
        if probe >= 0:
            first, last = offsets[probe], offsets[probe + 1]
            for place in range(first, last):
                panels[at] = all_panels[place]
                at += 1
    return panels


@jit_maker
def group_by_list(
    probes,   # IN  (n, nprobe)   int64  numbers of lists, each once; -1: none
    offsets,  # IN  (nlist + 1,)  int64  where each list starts among the panels
):
    """The lists that are probed; which queries probe each, and by what rank.

    Returns how many lists they are, their numbers, where the members of each start, the
    members, and their ranks: list ``list_numbers[nth]`` is probed by the queries
    ``members[starts[nth]]`` up to ``members[starts[nth + 1]]``. A single query keeps
    the order of its probes.
    """
    (n, nprobe), nlist = probes.shape, len(offsets) - 1
    n_lists, total, most = 0, 0, min(nlist, n * nprobe)
    list_numbers, starts = empty(most, np.int64), empty(most + 1, np.int64)
    members, ranks = empty(n * nprobe, np.int64), empty(n * nprobe, np.int64)
    starts[0] = 0
    if n == 1:
        for rank in range(nprobe):
            if probes[0, rank] >= 0:
                list_numbers[n_lists], members[n_lists] = probes[0, rank], 0
                ranks[n_lists], n_lists = rank, n_lists + 1
                starts[n_lists] = n_lists
        return n_lists, list_numbers, starts, members, ranks
    ends = zeros(nlist + 1, np.int64)
    for i in range(n):
        for rank in range(nprobe):
            ends[probes[i, rank] + 1] += 1
    for number in range(nlist):
        n_members = ends[number + 1]
        ends[number] = total
        if n_members > 0:
            list_numbers[n_lists] = number
            n_lists, total = n_lists + 1, total + n_members
            starts[n_lists] = total
    for i in range(n):
        for rank in range(nprobe):
            probe = probes[i, rank]
            if probe >= 0:
                members[ends[probe]], ranks[ends[probe]] = i, rank
                ends[probe] += 1
    return n_lists, list_numbers, starts, members, ranks
