"""Search among product-quantized rows in inverted lists.

As in lists of vectors, ``_knn`` and ``_radius`` visit the lists that a query probes,
lower thresholds, drop candidates and sort. Only the route is different: its filter sums
up entries of tables, and it measures decoded rows.
"""

from __future__ import annotations

from sklearn_ann._cuda._image import image_of
from sklearn_ann._cuda._knn import knn_of
from sklearn_ann._cuda._pq_codes import codes_of
from sklearn_ann._cuda._pq_filter import table_dtype
from sklearn_ann._cuda._pq_routes import ProbedCodes
from sklearn_ann._cuda._radius import radius_of
from sklearn_ann._cuda._refine import nearest_of
from sklearn_ann._layout import CODEWORDS


def scan_ivf_pq(Q, index, probes, probe_sqdists, k, n_threads):
    """The k nearest decoded rows of each query in the lists that it probes.

    Parameters and returns are those of ``_cpu.scan_ivf_pq``.
    """
    route_of, n_bytes = _route_of(Q, index, probes, probe_sqdists)
    return knn_of(Q, k, route_of, n_bytes)


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
        return ProbedCodes(
            image, index.lists, probes[start:stop], probe_sqdists[start:stop]
        )

    return route_of, n_bytes
