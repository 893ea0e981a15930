"""What is on the GPU: the image of an index, queries, lists of candidates.

The index of the estimator is that of the CPU. Its image is made when a search first
needs it and is forgotten with the index; it is no part of the estimator, so pickles and
copies know nothing of it.
"""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

import numpy as np

from sklearn_ann._cuda._compat import (
    device_in_use,
    empty,
    free_memory,
    launch,
    to_device,
)
from sklearn_ann._cuda._filter import TILE, tile_stride
from sklearn_ann._cuda._vectors import (
    ENCODED_BY_BLOCK,
    FEATURES,
    THREADS,
    Bound,
    bound_for,
    encode,
    take,
)

# Part of the free memory that a batch of queries may take.
_SHARE = 0.5

# Bytes of a place in a list of candidates: two bounds, a place, a row, a distance.
CANDIDATE = 4 + 4 + 4 + 4 + 8

_images: dict[tuple, tuple] = {}


class FlatImage(NamedTuple):
    """The rows of a FlatIndex, as given and in float32; arrays on the GPU."""

    X: Any  # (n, d)  float
    ids: Any  # (n_tiles * 128,)  int32  row at each place, -1: none
    vectors: Any  # (n_tiles * 128 * n_steps * 4,)  float32  see ``_vectors.encode``
    norms: Any  # (n_tiles * 128,)  float32
    center: Any  # (d,)  float64
    per_unit: float
    bound: Bound
    n_steps: int
    n_tiles: int
    stride: int


class ListsImage(NamedTuple):
    """InvertedLists, on the GPU."""

    panels: Any  # (n_panels,)  int32
    offsets: Any  # (nlist + 1,)  int64


class Queries(NamedTuple):
    """Queries on the GPU, padded to whole tiles."""

    n: int
    Q: Any  # (n, d)  float, as given
    vectors: Any  # (padded * n_steps * 4,)  float32
    norms: Any  # (padded,)  float32


class Lists(NamedTuple):
    """Candidates of queries, on the GPU: see ``_filter``."""

    starts: Any  # (padded + 1,)  int64
    counts: Any  # (padded,)  int32
    lows: Any  # (n_candidates,)  float32
    uppers: Any  # (n_candidates,)  float32
    places: Any  # (n_candidates,)  int32
    rows: Any  # (n_candidates,)  int32
    sqdists: Any  # (n_candidates,)  float64


# -- the index -----------------------------------------------------------------------


def image_of(index):
    """The image of a FlatIndex on the GPU in use.

    It lives as long as the index: as the array that no other index has.
    """
    return remember(index.sqnorms, lambda: _make_image(index))


def lists_of(lists):
    """The image of InvertedLists on the GPU in use, which lives as long as they do."""
    return remember(
        lists.sizes,
        lambda: ListsImage(
            to_device(lists.panels.astype(np.int32)), to_device(lists.offsets)
        ),
    )


def remember(owner, make):
    """What was made for an array, on the GPU in use, if that is still alive."""
    key = id(owner), device_in_use()
    if key not in _images:
        image = make()
        reference = weakref.ref(owner, lambda _: _images.pop(key, None))
        _images[key] = reference, image
    return _images[key][1]


def _make_image(index):
    n_places = -(-len(index.sqnorms) // TILE) * TILE
    n, d = index.X.shape
    n_steps = -(-d // FEATURES) * (FEATURES // 4)
    n_bytes = index.X.nbytes + n_places * (16 * n_steps + 8)
    check_room(n_bytes, f"The index of {n} rows and {d} features")
    ids = np.full(n_places, -1, np.int32)
    filled = np.flatnonzero(index.sqnorms < np.inf)
    ids[filled] = index.ids[filled] if len(index.ids) else filled
    bound = bound_for(d)
    image = FlatImage(
        X=to_device(index.X),
        ids=to_device(ids),
        vectors=empty(n_places * n_steps * 4, np.float32),
        norms=empty(n_places, np.float32),
        center=to_device(index.center),
        per_unit=1.0 / index.unit,
        bound=bound,
        n_steps=n_steps,
        n_tiles=n_places // TILE,
        stride=tile_stride(n_places // TILE),
    )
    rules = bound.keep, bound.tiny, np.inf, -np.inf
    _encode(image.X, image.ids, image, rules, image.vectors, image.norms)
    return image


def check_room(n_bytes, what):
    """Raise an error that says how large something is that does not fit."""
    if n_bytes > free_memory():
        raise MemoryError(
            f"{what} needs {_in_gib(n_bytes)} on the GPU, of which "
            f"{_in_gib(free_memory())} are free. Use device='cpu', or fewer rows."
        )


def _encode(X, rows, image, rules, vectors, norms):
    launch(
        encode, len(rows) // ENCODED_BY_BLOCK, THREADS,
        X, rows, image.center, image.per_unit, *rules, image.n_steps, vectors, norms,
    )  # fmt: skip


def _in_gib(n_bytes):
    return f"{n_bytes / 2**30:.2f} GiB"


# -- queries -------------------------------------------------------------------------


def bytes_of_query(Q, image):
    """Bytes on the GPU of a query to be filtered, but for its list of candidates."""
    return Q.shape[1] * Q.dtype.itemsize + 16 * image.n_steps


def split_queries(n, n_bytes, capacity):
    """Parts of n queries, of so many bytes each and a list of so many candidates."""
    n_bytes += CANDIDATE * capacity
    room = free_memory() * _SHARE / n_bytes
    if room < 1:
        raise MemoryError(
            f"A query needs {_in_gib(n_bytes)} on the GPU, of which "
            f"{_in_gib(free_memory())} are free."
        )
    most = n if room >= n else int(room)
    if most > TILE:
        most = most // TILE * TILE
    return [(start, min(n, start + most)) for start in range(0, n, max(1, most))]


def split_counts(counts, n_bytes=CANDIDATE):
    """Parts of the queries whose candidates fit into memory, so many for each."""
    room = free_memory() * _SHARE / n_bytes
    parts, start, total = [], 0, 0
    for query, count in enumerate(counts.tolist()):
        if total + count > room and query > start:
            parts.append((start, query))
            start, total = query, 0
        total += count
    return [*parts, (start, len(counts))]


def split_rows(n, n_bytes):
    """Parts of n rows, of so many bytes each, that fit into memory."""
    room = free_memory() * _SHARE / n_bytes
    most = n if room >= n else max(1, int(room))
    return [(start, min(n, start + most)) for start in range(0, n, max(1, most))]


def upload_queries(Q, image):
    """Queries as the filter wants them: centered, in units of the index."""
    n = len(Q)
    padded = -(-n // TILE) * TILE
    rows = np.arange(padded, dtype=np.int32)
    rows[n:] = -1
    queries = Queries(
        n,
        to_device(Q),
        empty(padded * image.n_steps * 4, np.float32),
        empty(padded, np.float32),
    )
    rules = 1.0, 0.0, np.nan, np.inf
    _encode(queries.Q, to_device(rows), image, rules, queries.vectors, queries.norms)
    return queries


def take_queries(queries, some):
    """Some of the queries, as they were given."""
    Q = empty((len(some), queries.Q.shape[1]), queries.Q.dtype)
    launch(take, len(some), THREADS, queries.Q, to_device(some.astype(np.int32)), Q)
    return Q


def empty_lists(starts):
    """Lists with these starts, the last of which is the end of all."""
    n_candidates = max(1, int(starts[-1]))
    return Lists(
        to_device(starts),
        to_device(np.zeros(len(starts) - 1, np.int32)),
        empty(n_candidates, np.float32),
        empty(n_candidates, np.float32),
        empty(n_candidates, np.int32),
        empty(n_candidates, np.int32),
        empty(n_candidates, np.float64),
    )


def equal_starts(n, padded, capacity):
    """Starts of lists of the same length; those of padding have none."""
    return np.minimum(np.arange(padded + 1), n) * capacity
