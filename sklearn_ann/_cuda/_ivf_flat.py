"""Search in inverted lists: flat search, along the lists that a query probes."""

from __future__ import annotations

from sklearn_ann._cuda._fp32_routes import ProbedLists
from sklearn_ann._cuda._image import image_of
from sklearn_ann._cuda._knn import knn_of
from sklearn_ann._cuda._queries import bytes_of_query
from sklearn_ann._cuda._radius import radius_of


def scan_ivf_flat(Q, index, probes, k, n_threads):
    """The k nearest rows of each query in the lists that it probes, exactly.

    Parameters and returns are those of ``_cpu.scan_ivf_flat``.
    """
    image = image_of(index.rows)
    route_of = _route_of(image, index.lists, probes)
    return knn_of(Q, k, route_of, bytes_of_query(Q, image))


def radius_ivf_flat(Q, index, probes, sqradius, with_sqdists, n_threads):
    """All rows within a radius of each query in the lists that it probes, exactly.

    Parameters and returns are those of ``_cpu.radius_ivf_flat``.
    """
    image = image_of(index.rows)
    route_of = _route_of(image, index.lists, probes)
    return radius_of(Q, sqradius, with_sqdists, route_of, bytes_of_query(Q, image))


def _route_of(image, lists, probes):
    return lambda start, stop: ProbedLists(image, lists, probes[start:stop])
