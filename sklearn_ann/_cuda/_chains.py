"""Chains: the panels that each query visits, one after the other.

A chain has the panels of the lists that the query probes, the nearest list first, or
all panels. Filters read it in this order, a part at a time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sklearn_ann._cuda._compat import device


class Chains(NamedTuple):
    """The panels that each of some queries visits; arrays on the GPU."""

    panels: Any  # (n_panels,)  int32  list after list
    offsets: Any  # (nlist + 1,)  int64  where each list starts among them
    probes: Any  # (n, nprobe)  int32  lists of each query; -1: none
    ends: Any  # (n, nprobe)  int32  panels of its chain up to the end of each list


@device
def probe_of_chain(ends, query, place):
    """Which of its probes a place of the chain of a query is in; -1 behind its end."""
    n_probes = ends.shape[1]
    if place >= ends[query, n_probes - 1]:
        return -1
    low, high = 0, n_probes - 1
    while low < high:
        middle = (low + high) // 2
        if place < ends[query, middle]:
            high = middle
        else:
            low = middle + 1
    return low


@device
def panel_of_probe(panels, offsets, probes, ends, query, probe, place):
    """The panel at a place of the chain of a query, which is in this probe."""
    start = ends[query, probe - 1] if probe > 0 else 0
    return panels[offsets[probes[query, probe]] + place - start]


@device
def panel_of_chain(panels, offsets, probes, ends, query, place):
    """The panel at a place of the chain of a query, see Chains; -1 behind its end."""
    probe = probe_of_chain(ends, query, place)
    if probe < 0:
        return -1
    return panel_of_probe(panels, offsets, probes, ends, query, probe, place)
