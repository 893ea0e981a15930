"""The image of an index: its arrays on the GPU.

The index of the estimator is that of the CPU. Its image is made when a search first
needs it and is forgotten with the index; it is no part of the estimator, so pickles and
copies know nothing of it.
"""

from __future__ import annotations

import os
import weakref
from collections import defaultdict, deque
from typing import Any, NamedTuple

import numpy as np

from sklearn_ann._cuda._compat import device_in_use, empty, launch, to_device
from sklearn_ann._cuda._fp32_filter import TILE, tile_stride
from sklearn_ann._cuda._fp32_vectors import (
    ENCODED_BY_BLOCK,
    FEATURES,
    THREADS,
    Bound,
    bound_for,
    encode,
)
from sklearn_ann._cuda._memory import check_room

# A weak reference to an array and the image made for it, by the id of the array and the
# number of the GPU. One thread at a time has a GPU, so no two make the same image.
_images: dict[tuple[int, int], tuple] = {}

# Images whose array is dead, by the number of the GPU. An array may die in any thread,
# between any two instructions, but memory of a GPU is freed only where its lock is held
# and its context is current.
_dead: defaultdict[int, deque] = defaultdict(deque)

# Images that a fork has copied. Their memory is the parent's: they are never freed.
_of_parents: list = []


def _leave_to_parent():
    _of_parents.extend(image for _, image in _images.values())
    _of_parents.extend(_dead.values())
    _images.clear()
    _dead.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


class FlatImage(NamedTuple):
    """The rows of a FlatIndex, as given and in float32; arrays on the GPU."""

    X: Any  # (n, d)  float
    ids: Any  # (n_tiles * 128,)  int32  row at each position, -1: none
    vectors: Any  # (n_tiles * 128 * n_steps * 4,)  float32  see ``encode``
    sqnorms: Any  # (n_tiles * 128,)  float32  lowered: see ``_fp32_vectors``
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
            panels=to_device(lists.panels.astype(np.int32)),
            offsets=to_device(lists.offsets),
        ),
    )


def remember(owner, make):
    """The image of an array on the GPU in use: made once, forgotten with the array."""
    number = device_in_use()
    key, dead = (id(owner), number), _dead[number]
    if key not in _images:
        image = make()
        # Both operations are atomic.
        reference = weakref.ref(owner, lambda _: dead.append(_images.pop(key)))
        _images[key] = reference, image
    return _images[key][1]


def drop_dead_images():
    """Free the images on the GPU in use whose arrays are dead."""
    dead = _dead[device_in_use()]
    while dead:
        dead.popleft()


def _make_image(index):
    n_positions = -(-len(index.sqnorms) // TILE) * TILE
    n, d = index.X.shape
    n_steps = -(-d // FEATURES) * (FEATURES // 4)
    n_bytes = index.X.nbytes + n_positions * (16 * n_steps + 8)
    check_room(n_bytes, f"The index of {n} rows and {d} features")
    ids = np.full(n_positions, -1, np.int32)
    filled = np.flatnonzero(index.sqnorms < np.inf)
    ids[filled] = index.ids[filled] if len(index.ids) else filled
    image = FlatImage(
        X=to_device(index.X),
        ids=to_device(ids),
        vectors=empty(n_positions * n_steps * 4, np.float32),
        sqnorms=empty(n_positions, np.float32),
        center=to_device(index.center),
        per_unit=1.0 / index.unit,
        bound=bound_for(d),
        n_steps=n_steps,
        n_tiles=n_positions // TILE,
        stride=tile_stride(n_positions // TILE),
    )
    no_row, too_long = np.inf, -np.inf
    launch(
        encode, n_positions // ENCODED_BY_BLOCK, THREADS,
        image.X, image.ids, image.center, image.per_unit,
        image.bound.lower_factor, image.bound.underflow, no_row, too_long, n_steps,
        image.vectors, image.sqnorms,
    )  # fmt: skip
    return image
