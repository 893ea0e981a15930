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
from sklearn_ann._cuda._compat import to_device
from sklearn_ann._cuda._image import lists_of


class Probed:
    """A query visits the panels of the lists that it probes, the nearest list first."""

    def __init__(self, lists, probes):
        self._lists, self._probes = lists, probes
        lengths = np.diff(lists.offsets)[probes]
        lengths[probes < 0] = 0
        self._ends = np.cumsum(lengths, axis=1)
        self._starts = self._ends - lengths
        self.n_tiles = -(-int(self._ends[:, -1].max()) // 2)

    @cached_property
    def chains(self):
        """The chains, on the GPU."""
        image = lists_of(self._lists)
        return Chains(
            panels=image.panels,
            offsets=image.offsets,
            probes=to_device(self._probes.astype(np.int32)),
            ends=to_device(self._ends.astype(np.int32)),
        )
