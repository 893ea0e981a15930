"""All rows within a radius: the same filter, with a threshold that stays.

The tiles are visited twice: to count the candidates of each query, which tells how long
its list must be, and to collect them.
"""

from __future__ import annotations

import numpy as np

from sklearn_ann._cuda._compat import empty, launch
from sklearn_ann._cuda._distance import measure_candidates
from sklearn_ann._cuda._filter import set_thresholds
from sklearn_ann._cuda._image import (
    empty_lists,
    image_of,
    split_counts,
    split_queries,
    upload_queries,
)
from sklearn_ann._cuda._routes import AllRows
from sklearn_ann._cuda._topk import THREADS


def radius(Q, index, sqradius, n_threads):
    """All rows within a radius of each query, exactly.

    Parameters and returns are those of ``_cpu.radius``.
    """
    image = image_of(index)
    return radius_of(
        Q, image, sqradius, lambda start, stop: AllRows(image, stop - start)
    )


def radius_of(Q, image, sqradius, route_of):
    """All rows within a radius on the route of each query.

    ``route_of(start, stop)`` is that of some queries: see ``_routes``.
    """
    parts = []
    for start, stop in split_queries(Q, image, 0):
        none = np.zeros(stop - start, np.int64)
        _, lists = _filter(Q[start:stop], image, sqradius, none, route_of(start, stop))
        counts = lists.counts.copy_to_host()[: stop - start]
        for first, last in split_counts(counts):
            part = start + first, start + last
            found = Q[slice(*part)], image, sqradius, counts[first:last]
            parts.append(_collect(*found, route_of(*part)))
    sqdists, ids, n_hits = map(np.concatenate, zip(*parts, strict=True))
    return sqdists, ids, np.append(0, np.cumsum(n_hits))


def _filter(Q, image, sqradius, room, route):
    """Queries on the GPU, and their candidates, of which each list has room for some.

    All are counted.
    """
    queries = upload_queries(Q, image)
    padded = len(queries.norms)
    thresholds = empty(padded, np.float32)
    launch(
        set_thresholds, padded // THREADS, THREADS,
        queries.norms, sqradius * image.per_unit**2, image.bound.keep, thresholds,
    )  # fmt: skip
    starts = np.zeros(padded + 1, np.int64)
    np.cumsum(room, out=starts[1 : len(Q) + 1])
    starts[len(Q) + 1 :] = starts[len(Q)]
    lists = empty_lists(starts)
    route.visit(queries, 0, route.n_tiles, thresholds, lists)
    return queries, lists


def _collect(Q, image, sqradius, counts, route):
    """Distances and row numbers of the hits, query after query, and their numbers."""
    queries, lists = _filter(Q, image, sqradius, counts, route)
    measure_candidates(queries.Q, len(Q), image, lists)
    total = counts.sum()
    sqdists = lists.sqdists.copy_to_host()[:total]
    rows = lists.rows.copy_to_host()[:total].astype(np.int64)
    query_of = np.repeat(np.arange(len(Q)), counts)
    hits = np.flatnonzero(sqdists <= sqradius)
    order = hits[np.lexsort((rows[hits], query_of[hits]))]
    n_hits = np.bincount(query_of[hits], minlength=len(Q))
    return sqdists[order], rows[order], n_hits
