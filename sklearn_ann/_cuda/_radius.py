"""All rows within a radius: the same filter, with a threshold that stays.

The tiles are visited twice: to count the candidates of each query, which tells how long
its list must be, and to collect them.
"""

from __future__ import annotations

import numpy as np

from sklearn_ann._cuda._compat import empty, launch
from sklearn_ann._cuda._distance import measure_candidates
from sklearn_ann._cuda._filter import filter_tiles, set_thresholds
from sklearn_ann._cuda._image import (
    empty_lists,
    image_of,
    split_counts,
    split_queries,
    upload_queries,
)
from sklearn_ann._cuda._topk import THREADS


def radius(Q, index, sqradius, n_threads):
    """All rows within a radius of each query, exactly.

    Parameters and returns are those of ``_cpu.radius``.
    """
    image = image_of(index)
    parts = []
    for start, stop in split_queries(Q, image, 0):
        counts = _count(Q[start:stop], image, sqradius)
        for first, last in split_counts(counts):
            part = slice(start + first, start + last)
            parts.append(_collect(Q[part], image, sqradius, counts[first:last]))
    sqdists, ids, n_hits = map(np.concatenate, zip(*parts, strict=True))
    return sqdists, ids, np.append(0, np.cumsum(n_hits))


def _filter_all(Q, image, sqradius, starts):
    """Queries on the GPU, and their lists after all tiles."""
    queries = upload_queries(Q, image)
    padded = len(queries.norms)
    thresholds = empty(padded, np.float32)
    launch(
        set_thresholds, padded // THREADS, THREADS,
        queries.norms, sqradius * image.per_unit**2, image.bound.keep, thresholds,
    )  # fmt: skip
    missing = np.full(padded + 1 - len(starts), starts[-1])
    lists = empty_lists(np.append(starts, missing))
    filter_tiles(queries, image, 0, image.n_tiles, thresholds, lists)
    return queries, lists


def _count(Q, image, sqradius):
    """How many candidates each query has: all of them find their lists full."""
    _, lists = _filter_all(Q, image, sqradius, np.zeros(len(Q) + 1, np.int64))
    return lists.counts.copy_to_host()[: len(Q)]


def _collect(Q, image, sqradius, counts):
    """Distances and row numbers of the hits, query after query, and their numbers."""
    starts = np.append(0, np.cumsum(counts, dtype=np.int64))
    queries, lists = _filter_all(Q, image, sqradius, starts)
    measure_candidates(queries.Q, len(Q), image, lists)
    total = starts[-1]
    sqdists = lists.sqdists.copy_to_host()[:total]
    rows = lists.rows.copy_to_host()[:total].astype(np.int64)
    query_of = np.repeat(np.arange(len(Q)), counts)
    hits = np.flatnonzero(sqdists <= sqradius)
    order = hits[np.lexsort((rows[hits], query_of[hits]))]
    n_hits = np.bincount(query_of[hits], minlength=len(Q))
    return sqdists[order], rows[order], n_hits
