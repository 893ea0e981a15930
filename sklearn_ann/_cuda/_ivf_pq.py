"""Search among product-quantized rows in inverted lists.

As in lists of vectors, along the lists that a query probes: ``_knn`` and ``_radius``
lower thresholds, shorten lists of candidates and sort. Only what is filtered is other,
the sums of table entries, and what is measured, the decoded rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sklearn_ann._cuda._compat import WARP, empty, launch, to_device
from sklearn_ann._cuda._distance import MEASURE_THREADS
from sklearn_ann._cuda._filter import MOST_BLOCKS
from sklearn_ann._cuda._image import image_of, split_counts
from sklearn_ann._cuda._knn import knn_of
from sklearn_ann._cuda._pq_codes import codes_of, decode_panels, measure_codes
from sklearn_ann._cuda._pq_filter import FILTERS, PANELS_OF_BLOCK, table_dtype
from sklearn_ann._cuda._pq_filter import THREADS as FILTER_THREADS
from sklearn_ann._cuda._pq_tables import (
    BOUND,
    CENTER_THREADS,
    TOGETHER,
    center_queries,
    fill_tables,
)
from sklearn_ann._cuda._radius import radius_of
from sklearn_ann._cuda._refine import nearest_of
from sklearn_ann._cuda._routes import Chains, Probed
from sklearn_ann._layout import CODEWORDS, PANEL


class _Queries(NamedTuple):
    """Queries on the GPU, to be searched among codes."""

    n: int
    Q: Any  # (n, d)  float
    norms: Any  # (n,)  float32  errors of values: see ``_pq_tables.BOUND``
    tables: Any  # (n * m * 256,)  float32 or float16
    scales: Any  # (n,)  float32  what entries of the tables are multiplied by
    shifts: Any  # (n, nprobe)  float32


class ProbedCodes(Probed):
    """The probed lists hold codes."""

    bound = BOUND

    def __init__(self, image, lists, probes, probe_sqdists):
        super().__init__(lists, probes)
        self._image, self._probe_sqdists = image, probe_sqdists

    def some(self, queries):
        """The same for some of the queries."""
        some = self._probes[queries], self._probe_sqdists[queries]
        return ProbedCodes(self._image, self._lists, *some)

    def upload(self, Q, sqradius):
        """Queries on the GPU, and thresholds that nothing within a radius is above."""
        image, n = self._image, len(Q)
        m, dsub, _ = image.codebooks_t.shape
        probe_sqdists = np.where(self._probes >= 0, self._probe_sqdists, 0.0)
        # The nearest list is the first one: shifts are as short as they can be.
        origins = probe_sqdists[:, 0]
        with np.errstate(over="ignore", invalid="ignore"):
            shifts = np.where(self._probes >= 0, probe_sqdists - origins[:, None], 0.0)
            # NaN where squares overflow: all rows are measured, so any number will do.
            narrow = np.where(np.isnan(shifts), 0.0, shifts).astype(np.float32)
        of_queries = np.abs(shifts).max(axis=1), probe_sqdists.max(axis=1), origins
        padded = -(-n // TOGETHER) * TOGETHER
        vectors, centered = to_device(Q), empty(m * dsub * padded, np.float32)
        scales, errors, thresholds = (empty(n, np.float32) for _ in range(3))
        tables = empty(n * m * CODEWORDS, table_dtype(m))
        rounding = float(np.finfo(tables.dtype).eps) / 2
        launch(
            center_queries, -(-n // (CENTER_THREADS // WARP)), CENTER_THREADS,
            vectors, image.center, image.radii, dsub, image.largest_row_term,
            *map(to_device, of_queries), sqradius, rounding, padded,
            centered, scales, errors, thresholds,
        )  # fmt: skip
        launch(
            fill_tables, padded // TOGETHER * m, CODEWORDS,
            centered, scales, padded, image.codebooks_t, m, tables,
        )  # fmt: skip
        tables = tables, scales, to_device(narrow)
        return _Queries(n, vectors, errors, *tables), thresholds

    def visit(self, queries, first, last, thresholds, lists):
        """Append to the lists what is below the thresholds in some tiles."""
        image = self._image
        operands = queries.tables, queries.scales, len(image.radii)
        operands = *operands, image.codes, image.row_terms, queries.shifts, thresholds
        outputs = lists.starts, lists.counts, lists.lows, lists.uppers, lists.places
        most = MOST_BLOCKS * PANELS_OF_BLOCK
        for start in range(2 * first, 2 * last, most):
            end = min(2 * last, start + most)
            grid = queries.n, -(-(end - start) // PANELS_OF_BLOCK)
            launch(
                FILTERS[queries.tables.dtype], grid, FILTER_THREADS,
                *operands, *self.chains, start, end, *outputs,
            )  # fmt: skip

    def measure(self, queries, lists):
        """Measure the candidates."""
        image = self._image
        launch(
            measure_codes, queries.n, MEASURE_THREADS,
            image.codes, image.owners, image.centroids, image.codebooks, image.ids,
            queries.Q, lists.starts, lists.counts, lists.places,
            lists.rows, lists.sqdists,
        )  # fmt: skip

    def rows(self):
        """Parts of the queries, the rows of their chains, decoded, and these."""
        lists, d = self._lists, self._image.center.shape[0]
        lengths, n_panels = self._ends - self._starts, self._ends[:, -1]
        for start, stop in split_counts(n_panels, PANEL * (8 * d + 4)):
            of_part = lengths[start:stop].ravel()
            shift = lists.offsets[self._probes[start:stop]].ravel()
            shift -= np.cumsum(of_part) - of_part
            panels = lists.panels[np.repeat(shift, of_part) + np.arange(of_part.sum())]
            decoded = *decode_panels(panels, self._image), True
            yield start, stop, decoded, _lists_of_their_own(n_panels[start:stop])


def _lists_of_their_own(n_panels):
    """Chains of queries each of which has a list of panels, one after the other."""
    n = len(n_panels)
    return Chains(
        to_device(np.arange(n_panels.sum(), dtype=np.int32)),
        to_device(np.append(0, np.cumsum(n_panels))),
        to_device(np.arange(n, dtype=np.int32)[:, None]),
        to_device(n_panels.astype(np.int32)[:, None]),
    )


def scan_ivf_pq(Q, index, probes, probe_sqdists, k, n_threads):
    """The k nearest decoded rows of each query in the lists that it probes.

    Parameters and returns are those of ``_cpu.scan_ivf_pq``.
    """
    return knn_of(Q, k, *_route_of(Q, index, probes, probe_sqdists))


def candidates_ivf_pq(Q, index, probes, probe_sqdists, k, n_threads):
    """The same rows as from ``scan_ivf_pq``, in any order; only their ids."""
    return scan_ivf_pq(Q, index, probes, probe_sqdists, k, n_threads)[1]


def radius_ivf_pq(Q, index, probes, sqradius, with_sqdists, n_threads):
    """All rows that decode to a vector within a radius, in the lists that are probed.

    Parameters and returns are those of ``_cpu.radius_ivf_pq``.
    """
    centroids = image_of(index.centroids).X
    probe_sqdists, probes = nearest_of(Q, centroids, probes, probes.shape[1])
    route_of, n_bytes = _route_of(Q, index, probes, probe_sqdists)
    return radius_of(Q, sqradius, with_sqdists, route_of, n_bytes)


def _route_of(Q, index, probes, probe_sqdists):
    """Routes of some queries, and the bytes that one takes."""
    image, d = codes_of(index), Q.shape[1]
    m, dsub, _ = image.codebooks_t.shape
    n_bytes = d * Q.itemsize + 4 * m * dsub + 12 * probes.shape[1]
    n_bytes += table_dtype(m).itemsize * m * CODEWORDS

    def route_of(start, stop):
        some = probes[start:stop], probe_sqdists[start:stop]
        return ProbedCodes(image, index.lists, *some)

    return route_of, n_bytes
