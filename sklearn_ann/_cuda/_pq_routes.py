"""The route to the codes of inverted lists, with the filter of codes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sklearn_ann._cuda._chains import Chains
from sklearn_ann._cuda._compat import WARP, launch
from sklearn_ann._cuda._distance import MEASURE_THREADS
from sklearn_ann._cuda._fp32_filter import MOST_BLOCKS
from sklearn_ann._cuda._memory import split_counts
from sklearn_ann._cuda._pq_codes import decode_panels, measure_codes
from sklearn_ann._cuda._pq_filter import FILTERS, PANELS_OF_BLOCK, table_dtype
from sklearn_ann._cuda._pq_filter import THREADS as FILTER_THREADS
from sklearn_ann._cuda._pq_tables import (
    BOUND,
    CENTER_THREADS,
    TOGETHER,
    center_queries,
    fill_tables,
)
from sklearn_ann._cuda._routes import Probed
from sklearn_ann._cuda._scratch import new_scratch, scratch_copy
from sklearn_ann._layout import CODEWORDS, PANEL


class TableQueries(NamedTuple):
    """Queries on the GPU, to be searched among codes."""

    n: int
    Q: Any  # (n, d)  float
    errors: Any  # (n,)  float32  of their values: see ``_pq_tables.BOUND``
    tables: Any  # (n * m * 256,)  float32 or float16
    scales: Any  # (n,)  float32  what entries of the tables are multiplied by
    shifts: Any  # (n, nprobe)  float32

    @property
    def spreads(self):
        """What the gap between the bounds of a distance grows with: see ``Bound``."""
        return self.errors


class ProbedCodes(Probed):
    """The probed lists hold codes."""

    bound = BOUND

    def __init__(self, image, lists, probes, probe_sqdists):
        super().__init__(lists, probes)
        self._image, self._probe_sqdists = image, probe_sqdists

    def some(self, queries):
        """The same for some of the queries."""
        return ProbedCodes(
            self._image,
            self._lists,
            self._probes[queries],
            self._probe_sqdists[queries],
        )

    def upload(self, Q, sqradius):
        """Queries on the GPU, and thresholds that no row within a radius exceeds."""
        image, n = self._image, len(Q)
        m, dsub, _ = image.codebooks_t.shape
        shifts, origins, spans, farthest = self._shifts()
        padded = -(-n // TOGETHER) * TOGETHER
        centered = new_scratch(m * dsub * padded, np.float32)
        thresholds = new_scratch(n, np.float32)
        queries = TableQueries(
            n=n,
            Q=scratch_copy(Q),
            errors=new_scratch(n, np.float32),
            tables=new_scratch(n * m * CODEWORDS, table_dtype(m)),
            scales=new_scratch(n, np.float32),
            shifts=scratch_copy(shifts),
        )
        rounding = float(np.finfo(queries.tables.dtype).eps) / 2
        launch(
            center_queries, -(-n // (CENTER_THREADS // WARP)), CENTER_THREADS,
            queries.Q, image.center, image.radii, dsub, image.largest_row_term,
            scratch_copy(spans), scratch_copy(farthest), scratch_copy(origins),
            sqradius, rounding, padded,
            centered, queries.scales, queries.errors, thresholds,
        )  # fmt: skip
        launch(
            fill_tables, padded // TOGETHER * m, CODEWORDS,
            centered, queries.scales, padded, image.codebooks_t, m, queries.tables,
        )  # fmt: skip
        return queries, thresholds

    def _shifts(self):
        """Shifts of the lists, and by query the origin, largest shift and distance."""
        sqdists = self._probe_sqdists
        is_none = self._probes < 0
        if some_none := is_none.any():
            sqdists = np.where(is_none, 0.0, sqdists)
        # The nearest list is the first one: shifts are as short as they can be.
        origins, farthest = sqdists[:, 0], sqdists.max(axis=1)
        with np.errstate(over="ignore", invalid="ignore"):
            shifts = sqdists - origins[:, None]
            if some_none:
                shifts[is_none] = 0.0
            # The others are not below the origin.
            spans = shifts.max(axis=1)
            if np.isnan(spans).any():
                # Squares overflow: all rows are measured, so any number will do.
                shifts[np.isnan(shifts)] = 0.0
            return shifts.astype(np.float32), origins, spans, farthest

    def visit(self, queries, first, last, thresholds, candidates):
        """Append the candidates in some tiles."""
        image, chains = self._image, self.chains
        most = MOST_BLOCKS * PANELS_OF_BLOCK
        for start in range(2 * first, 2 * last, most):
            end = min(2 * last, start + most)
            grid = queries.n, -(-(end - start) // PANELS_OF_BLOCK)
            launch(
                FILTERS[queries.tables.dtype], grid, FILTER_THREADS,
                queries.tables, queries.scales, len(image.radii),
                image.codes, image.row_terms, queries.shifts, thresholds,
                chains.panels, chains.offsets, chains.probes, chains.ends,
                start, end,
                candidates.starts, candidates.counts,
                candidates.lowers, candidates.uppers, candidates.positions,
            )  # fmt: skip

    def measure(self, queries, candidates):
        """Measure the candidates."""
        image = self._image
        launch(
            measure_codes, queries.n, MEASURE_THREADS,
            image.codes, image.owners, image.centroids, image.codebooks, image.ids,
            queries.Q, candidates.starts, candidates.counts, candidates.positions,
            candidates.rows, candidates.sqdists,
        )  # fmt: skip

    def rows(self):
        """Start and end of a part of the queries, its rows and its chains.

        As for vectors. Here the rows of the chains are decoded first.
        """
        lists, d = self._lists, self._image.center.shape[0]
        lengths, n_panels = self._lengths, self._ends[:, -1]
        for start, stop in split_counts(n_panels, PANEL * (8 * d + 4)):
            of_part = lengths[start:stop].ravel()
            shift = lists.offsets[self._probes[start:stop]].ravel()
            shift -= np.cumsum(of_part) - of_part
            panels = lists.panels[np.repeat(shift, of_part) + np.arange(of_part.sum())]
            X, ids = decode_panels(panels, self._image)
            yield start, stop, X, ids, True, _chains_in_a_row(n_panels[start:stop])


def _chains_in_a_row(n_panels):
    """Chains of queries each of which has some panels, one after the other."""
    n = len(n_panels)
    return Chains(
        panels=scratch_copy(np.arange(n_panels.sum(), dtype=np.int32)),
        offsets=scratch_copy(np.append(0, np.cumsum(n_panels))),
        probes=scratch_copy(np.arange(n, dtype=np.int32)[:, None]),
        ends=scratch_copy(n_panels.astype(np.int32)[:, None]),
    )
