"""Search in inverted lists: flat search, along the lists that a query probes."""

from __future__ import annotations

from sklearn_ann._cuda._image import image_of
from sklearn_ann._cuda._knn import knn_of
from sklearn_ann._cuda._radius import radius_of
from sklearn_ann._cuda._routes import ProbedLists


def scan_ivf_flat(Q, index, probes, k, n_threads):
    """The k nearest rows of each query in the lists that it probes, exactly.

    Parameters and returns are those of ``_cpu.scan_ivf_flat``.
    """
    return knn_of(Q, image_of(index.rows), k, _route_of(index, probes))


def radius_ivf_flat(Q, index, probes, sqradius, n_threads):
    """All rows within a radius of each query in the lists that it probes, exactly.

    Parameters and returns are those of ``_cpu.radius_ivf_flat``.
    """
    return radius_of(Q, image_of(index.rows), sqradius, _route_of(index, probes))


def _route_of(index, probes):
    image = image_of(index.rows)
    return lambda start, stop: ProbedLists(image, index.lists, probes[start:stop])
