"""All rows within a radius: the same filter, with a threshold that stays.

The tiles are visited twice: to count the candidates of each query, which tells how much
room they need, and to collect them.
"""

from __future__ import annotations

import numpy as np

from sklearn_ann._cuda._candidates import empty_candidates
from sklearn_ann._cuda._fp32_routes import AllRows
from sklearn_ann._cuda._image import image_of
from sklearn_ann._cuda._memory import split_counts, split_queries
from sklearn_ann._cuda._queries import bytes_of_query
from sklearn_ann._cuda._scratch import scratch


def radius(Q, index, sqradius, with_sqdists, n_threads):
    """All rows within a radius of each query, exactly.

    Parameters and returns are those of ``_cpu.radius``.
    """
    image = image_of(index)
    route_of = AllRows.route_of(image)
    return radius_of(Q, sqradius, with_sqdists, route_of, bytes_of_query(Q, image))


def radius_of(Q, sqradius, with_sqdists, route_of, n_bytes):
    """All rows within a radius on the route of each query.

    ``route_of(start, stop)`` is that of some queries: see ``_routes``. A query takes
    `n_bytes` on the GPU, and its candidates.
    """
    parts = []
    for start, stop in split_queries(len(Q), n_bytes, 0):
        counts = _count(Q[start:stop], sqradius, route_of(start, stop))
        for first, last in split_counts(counts):
            route = route_of(start + first, start + last)
            some = Q[start + first : start + last]
            sqdists, ids, n_hits = _collect(some, sqradius, counts[first:last], route)
            parts.append((sqdists if with_sqdists else sqdists[:0], ids, n_hits))
    sqdists, ids, n_hits = map(np.concatenate, zip(*parts, strict=True))
    return sqdists, ids, np.append(0, np.cumsum(n_hits))


def _count(Q, sqradius, route):
    """How many candidates each query has."""
    with scratch():
        no_room = np.zeros(len(Q), np.int64)
        _, candidates = _filter(Q, sqradius, no_room, route)
        return candidates.counts.copy_to_host()[: len(Q)]


def _filter(Q, sqradius, rooms, route):
    """Queries on the GPU, and their candidates, with room for so many of each query.

    All are counted.
    """
    queries, thresholds = route.upload(Q, sqradius)
    starts = np.zeros(len(thresholds) + 1, np.int64)
    np.cumsum(rooms, out=starts[1 : len(Q) + 1])
    starts[len(Q) + 1 :] = starts[len(Q)]
    candidates = empty_candidates(starts)
    route.visit(queries, 0, route.n_tiles, thresholds, candidates)
    return queries, candidates


def _collect(Q, sqradius, counts, route):
    """Distances and row numbers of the hits, query after query, and their numbers."""
    total = counts.sum()
    with scratch():
        queries, candidates = _filter(Q, sqradius, counts, route)
        route.measure(queries, candidates)
        sqdists = candidates.sqdists.copy_to_host()[:total]
        rows = candidates.rows.copy_to_host()[:total].astype(np.int64)
    query_of = np.repeat(np.arange(len(Q)), counts)
    hits = np.flatnonzero(sqdists <= sqradius)
    order = hits[np.argsort(query_of[hits] << 32 | rows[hits])]
    n_hits = np.bincount(query_of[hits], minlength=len(Q))
    return sqdists[order], rows[order], n_hits
