"""The flat index: vectors, and beside them 8-bit codes that bound every distance.

The codes are a filter. A search reads a quarter of the bytes, does integer arithmetic,
and measures only the few rows that the bounds cannot exclude; its answer is the exact
one (why: ``_cpu/_sq8_codes.py``). Scalar quantization with a scale of its own for each
vector is an idea of LVQ: Aguerrebere et al., "Similarity search in the blink of an eye
with compressed indices", 2023.
"""

from __future__ import annotations

import math

import numpy as np

from sklearn_ann._inverted_lists import n_panels_for
from sklearn_ann._layout import (
    MAX_EXPONENT,
    PANEL,
    ROUNDING,
    ROW_CODES,
    FlatIndex,
    FullCodes,
    read_only_index,
)
from sklearn_ann._principal_axes import choose_projection, training_projection
from sklearn_ann._principal_axes import is_outgrown as is_projection_outgrown
from sklearn_ann._storage import GrowingArrays, append_rows, clear_empty, lengthened

# Rows that are looked at to choose the center. It only has to be near the middle: the
# bounds hold for every center.
_CENTER_SAMPLE = 8192

# Integers of so small a range are centered around their mean.
_NARROW = 31

# Another center is worth encoding all rows again if it makes a typical step of their
# codes smaller than this part of what it is, judged by so many rows; another unit, if
# the present one is so many times off.
_MUCH_FINER, _COMPARED, _FAR_UNIT = 0.8, 1024, 2.0**20

# Duplicates are marked if this part of a sample of the rows is identical to another row
# of it.
_MANY_DUPLICATES, _DUPLICATES_SAMPLE = 1 / 64, 1024


def build_flat_index(X, backend, n_threads, searches=None):
    """Quantise the rows of X beside them, each at its own position.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
        Finite, C-contiguous. Kept by reference.
    backend : module
        See ``_backend.py``.
    n_threads : int
    searches : Searches or None
        Those to come, for the choice of a projection; None for no projection.

    Returns
    -------
    index : FlatIndex
    """
    empty = empty_flat_index(X, searches)
    return add_to_flat_index(empty, X, GrowingArrays(), backend, n_threads, searches)


def add_to_flat_index(index, X, storage, backend, n_threads, searches=None):
    """A new index with the rows of X after those of `index`, each at its position."""
    n = len(index.X)
    positions = np.arange(n, n + len(X))
    n_panels = n_panels_for(n + len(X))
    return place_rows(
        *(index, X, None, positions, n_panels, storage, backend, n_threads), searches
    )


def empty_flat_index(X, searches=None):
    """An index without rows, with a center, a unit and a projection for data like X."""
    center, unit = _center_and_unit(X)
    return _empty_index(X, center, unit, choose_projection(X, center, unit, searches))


def empty_training_index(X, n_products):
    """An index without rows for the centroids of rows like X, while these are trained.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    n_products : int
        Products of features that all steps of the training would take.
    """
    center, unit = _center_and_unit(X)
    projection = training_projection(X, center, unit, n_products)
    return _empty_index(X, center, unit, projection)


def _empty_index(X, center, unit, projection):
    d = X.shape[1]
    steps = -(-(len(projection.middle) or d) // 4)
    return FlatIndex(
        X=X[:0],
        center=center,
        codes=np.empty((0, steps, PANEL, 4), np.uint8),
        scales=np.empty(0, np.float32),
        sqnorms=np.empty(0, np.float32),
        unit=unit,
        error_ratio=0.0,
        ids=np.empty(0, np.int64),
        duplicates=np.empty((0, 0), np.uint64),
        projection=projection,
        full=FullCodes(
            codes=np.empty((0, -(-d // ROW_CODES) * ROW_CODES), np.uint8),
            scales=np.empty(0, np.float32),
            sqnorms=np.empty(0, np.float32),
            error_ratio=0.0,
        ),
    )


def place_rows(
    index,
    X,
    order,
    positions,
    n_panels,
    storage,
    backend,
    n_threads,
    searches=None,
):
    """A new index with the rows of X after those of `index`, at given positions.

    Parameters
    ----------
    index : FlatIndex
        Stays as it is.
    X : ndarray of shape (m, d)
        The first ones are kept by reference. A wider dtype than that of the index
        becomes the dtype of all.
    order : ndarray of shape (m,), int64, or None
        The row of X that goes to each position; None if each row of the index is at
        the position of its number.
    positions : ndarray of shape (m,), int64
        Ascending in memory order, best of all.
    n_panels : int
        How many panels there will be.
    storage : GrowingArrays
    backend : module
    n_threads : int
    searches : Searches or None
        As in ``build_flat_index``.

    Returns
    -------
    index : FlatIndex
    """
    n, n_positions = len(index.X), n_panels * PANEL
    X = append_rows(index.X, X, storage)
    rows, ids = positions, index.ids
    if order is not None:
        rows, ids = n + order, lengthened(ids, n_positions, -1)
        ids[positions] = rows
    # Not in place: what tells that a position is empty is read meanwhile.
    sqnorms = lengthened(index.sqnorms, n_positions, np.inf)
    is_due = _is_due(n, len(X))
    duplicates = index.duplicates
    if is_due:
        duplicates = _mark_duplicates(X, ids, n_panels, backend)
    if is_due and n > 0 and _is_outgrown(index, X, searches):
        index = empty_flat_index(X, searches)
        positions, rows = _all_positions(sqnorms, positions, ids)
    index = index._replace(X=X, ids=ids, duplicates=duplicates)
    return _encode(index, rows, positions, sqnorms, storage, backend, n_threads)


def _encode(index, rows, positions, sqnorms, storage, backend, n_threads):
    """The index with codes of more rows, at given positions; `sqnorms` get theirs."""
    n_positions, n_old = len(sqnorms), len(index.codes)
    codes = storage.resize("codes", index.codes, n_positions // PANEL)
    scales = storage.resize("scales", index.scales, n_positions)
    scales[len(index.scales) :] = 0
    n_full = n_positions if len(index.projection.middle) else 0
    full_codes = storage.resize("full_codes", index.full.codes, n_full)
    full_scales = storage.resize("full_scales", index.full.scales, n_full)
    full_scales[len(index.full.scales) :] = 0
    full_sqnorms = lengthened(index.full.sqnorms, n_full, np.inf)
    frame = index.center, index.unit, index.projection
    outputs = codes, scales, (full_codes, full_scales)
    lengths, ratios = backend.encode_sq8(
        index.X, rows, positions, *frame, *outputs, n_threads
    )
    ratios = ratios.max(axis=1)
    before = np.array([index.error_ratio, index.full.error_ratio])
    if n_old and (ratios > before).any():
        # A row loses more to its codes than any row did so far: all bounds change.
        positions, rows = _all_positions(sqnorms, positions, index.ids)
        lengths, _ = backend.encode_sq8(
            index.X, rows, positions, *frame, *outputs, n_threads
        )
    error_ratio, full_ratio = map(float, np.maximum(ratios, before))
    sqnorms[positions] = _sqnorms(lengths[0], scales[positions], error_ratio)
    is_empty = sqnorms[n_old * PANEL :] == np.inf
    clear_empty(codes[n_old:], is_empty)
    if n_full:
        full_scales_here = full_scales[positions]
        full_sqnorms[positions] = _sqnorms(lengths[1], full_scales_here, full_ratio)
        full_codes[n_old * PANEL :][is_empty] = 0
    return read_only_index(
        index._replace(
            codes=codes,
            scales=scales,
            sqnorms=sqnorms,
            error_ratio=error_ratio,
            full=FullCodes(full_codes, full_scales, full_sqnorms, full_ratio),
        )
    )


def _all_positions(sqnorms, positions, ids):
    """Positions filled before and now, and their rows."""
    positions = np.append(np.flatnonzero(sqnorms < np.inf), positions)
    return positions, ids[positions] if len(ids) else positions


# -- what is chosen for all rows, and again when they have doubled -------------------


def _is_due(n_chosen_for, n):
    """Whether what was chosen for fewer rows is looked at again.

    So it is whenever the rows reach another power of two: then all that is done again
    costs each row, on average, as much as twice at most.
    """
    return n_chosen_for.bit_length() < n.bit_length()


def _is_outgrown(index, X, searches):
    """Whether the codes of all rows X should be made in another way."""
    chosen = index.projection, X, index.center, index.unit, searches
    return is_projection_outgrown(*chosen) or _is_off_center(index, X)


def _is_off_center(index, X):
    """Whether the codes of all rows X would be much finer around another center."""
    center, unit = _center_and_unit(X)
    if not 1 / _FAR_UNIT < unit / index.unit < _FAR_UNIT:
        return True
    sample = _every_nth(X, _COMPARED)
    ratio = (index.full if len(index.projection.middle) else index).error_ratio
    if ratio > 0 and _fits_bytes(sample):
        # Around this center integers may be encoded without loss.
        return not np.array_equal(center, index.center)
    with np.errstate(over="ignore"):
        now, then = (
            np.median(np.abs(sample - point).max(axis=1))
            for point in (index.center, center)
        )
    return then < _MUCH_FINER * now


def _mark_duplicates(X, ids, n_panels, backend):
    """The field `duplicates` of an index of all rows X, if many are identical.

    A search meets few ties if a sample of the rows has few: then it is as well off
    without marks, and the time to find all duplicates is saved.
    """
    # One of each stretch, by chance: identical rows may be at regular distances.
    n_looked_at = min(len(X), _DUPLICATES_SAMPLE)
    edges = np.linspace(0, len(X), n_looked_at + 1).astype(np.int64)
    sample = np.random.default_rng(0).integers(edges[:-1], edges[1:])
    ranks = backend.rank_duplicates(X, sample)
    if np.count_nonzero(ranks) < _MANY_DUPLICATES * len(sample):
        return np.empty((0, 0), np.uint64)
    if len(sample) < len(X):
        ranks = backend.rank_duplicates(X, np.arange(len(X)))
    positions = np.flatnonzero(ids >= 0) if len(ids) else np.arange(len(X))
    ranks = ranks[ids[positions]] if len(ids) else ranks
    duplicates = np.empty((int(ranks.max()).bit_length(), n_panels), np.uint64)
    for level, marks in enumerate(duplicates):
        is_marked = np.zeros(n_panels * PANEL, bool)
        is_marked[positions] = ranks >= 2**level
        marks[:] = np.packbits(is_marked, bitorder="little").view("<u8")
    return duplicates


def _every_nth(array, n_most):
    """So many of the elements at most, evenly spread."""
    return array[:: -(-len(array) // n_most)]


def _center_and_unit(X):
    """A point in the middle of the data, and a power of two near the largest length."""
    sample = _every_nth(X, _CENTER_SAMPLE)
    low = sample.min(axis=0).astype(np.float64)
    high = sample.max(axis=0).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        center = sample.mean(axis=0, dtype=np.float64)
        center[~np.isfinite(center)] = 0.0
        if _fits_bytes(sample):
            # Integers that fit a byte are encoded without loss around an integer. A few
            # different ones leave room on both sides of the mean, where bounds are
            # closest.
            center = np.rint(center)
            if high.max() - low.min() > _NARROW:
                center[:] = low.min() + 128
        spread = np.maximum(high - center, center - low).max() * math.sqrt(X.shape[1])
    exponent = math.frexp(min(spread, 1e300))[1] if spread > 0 else 0
    return center, 2.0 ** max(-MAX_EXPONENT, min(exponent, MAX_EXPONENT))


def _fits_bytes(sample):
    """Whether all are integers of a range of 255."""
    # Most other data has a fraction in the first row.
    if not np.array_equal(sample[0], np.rint(sample[0])):
        return False
    high, low = (np.float64(of(sample)) for of in (np.max, np.min))
    return high - low <= 255 and np.array_equal(sample, np.rint(sample))


def _sqnorms(lengths, scales, error_ratio):
    """Squared length minus squared error of the decoded rows, rounded down to float32.

    The filter keeps a row unless ``|q' - x'| > threshold + error(q) + error(x)``;
    squared, with the terms of the row on one side, this is what the row contributes.
    """
    # In place: of a million rows each array more is milliseconds of page faults.
    errors = scales.astype(np.float64)
    errors *= error_ratio
    errors *= errors
    errors *= 1 + ROUNDING
    rounded_down = lengths * (1 - ROUNDING)
    rounded_down -= errors
    return np.nextafter(rounded_down.astype(np.float32), np.float32(-np.inf))
