"""Candidates: rows that may be neighbours of a query.

A filter computes two bounds of each distance. Every query has a threshold that none of
its neighbours exceeds. A row whose lower bound does not exceed the threshold is
appended to the candidates of the query, which are measured in the end. A filter writes
nothing else.

The candidates of all queries lie one after the other: query q has the slots from
starts[q] to starts[q + 1]. Its count may grow beyond that room: then some are lost.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sklearn_ann._cuda._compat import cuda, device, float32
from sklearn_ann._cuda._scratch import new_scratch, scratch_copy, scratch_zeros

# Bytes of one: two bounds, a position, a row, a distance.
CANDIDATE_BYTES = 4 + 4 + 4 + 4 + 8


class Candidates(NamedTuple):
    """The candidates of some queries; arrays on the GPU."""

    starts: Any  # (padded + 1,)  int64  where the room of each query begins
    counts: Any  # (padded,)  int32
    lowers: Any  # (n_candidates,)  float32  bounds of the distances
    uppers: Any  # (n_candidates,)  float32
    positions: Any  # (n_candidates,)  int32  where the row is in the index
    rows: Any  # (n_candidates,)  int32  the number of the row, when it is measured
    sqdists: Any  # (n_candidates,)  float64  its distance, when it is measured


def empty_candidates(starts):
    """No candidates yet, and room for them; the last start is the end of all rooms."""
    n_candidates = max(1, int(starts[-1]))
    return Candidates(
        starts=scratch_copy(starts),
        counts=scratch_zeros(len(starts) - 1, np.int32),
        lowers=new_scratch(n_candidates, np.float32),
        uppers=new_scratch(n_candidates, np.float32),
        positions=new_scratch(n_candidates, np.int32),
        rows=new_scratch(n_candidates, np.int32),
        sqdists=new_scratch(n_candidates, np.float64),
    )


def equal_starts(n, padded, capacity):
    """Starts for the same capacity of each query; the padding has no room."""
    return np.minimum(np.arange(padded + 1), n) * capacity


@device
def append(query, position, lower, upper, starts, counts, lowers, uppers, positions):
    """Add a row to the candidates of a query.

    Threads of many blocks append in any order: the atomic count gives each of them a
    slot of its own. The count includes rows that find no room, so a loss is noticed.
    """
    slot = starts[query] + cuda.atomic.add(counts, query, 1)
    if slot < starts[query + 1]:
        lowers[slot], uppers[slot], positions[slot] = lower, upper, position


@device
def rounded_up(value):
    """A float32 that is not below a number, and a little above it.

    Thresholds and errors are upper bounds, so they may only be rounded upwards. The
    margin is 4 rounding units of float32. One pays for the conversion to float32, the
    others for the last operations that have computed the number.
    """
    return float32(value + abs(value) * float32(2.0**-22))
