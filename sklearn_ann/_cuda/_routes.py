"""Routes: which panels a query visits, in what order, and what it is compared with.

A query visits a chain of panels, and a search cuts the chain into rounds. ``AllRows``
is the route to all vectors, ``ProbedLists`` the route to the vectors of the lists that
a query probes (``_fp32_routes.py``), ``ProbedCodes`` the route to the codes of these
lists (``_pq_routes.py``).

``_knn`` and ``_radius`` search along any route. A route offers them

- `n_tiles`, the length of the longest chain in tiles of two panels;
- `bound`, the error that filtered distances may have;
- ``upload(Q, sqradius)``: queries on the GPU, and thresholds for a radius;
- ``visit(queries, first, last, thresholds, candidates)``, which appends the candidates
  in some tiles;
- ``measure(queries, candidates)``, which fills in their rows and exact distances;
- ``some(queries)``: the same route for some of the queries;
- ``rows()``: all rows of the chains, in parts, for queries whose candidates overflow.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from sklearn_ann._cuda._chains import Chains
from sklearn_ann._cuda._image import lists_of
from sklearn_ann._cuda._scratch import scratch_copy


class Probed:
    """A query visits the panels of the lists that it probes, the nearest list first."""

    def __init__(self, lists, probes):
        self._lists, self._probes = lists, probes
        # A probe of -1 reads the zero at the end.
        n_panels = np.append(np.diff(lists.offsets), 0).astype(np.int32)
        self._lengths = n_panels[probes]
        self._ends = np.cumsum(self._lengths, axis=1, dtype=np.int32)
        self.n_tiles = -(-int(self._ends[:, -1].max()) // 2)

    @cached_property
    def chains(self):
        """The chains, on the GPU."""
        image = lists_of(self._lists)
        return Chains(
            panels=image.panels,
            offsets=image.offsets,
            probes=scratch_copy(self._probes.astype(np.int32)),
            ends=scratch_copy(self._ends),
        )
