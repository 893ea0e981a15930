"""An index as nested dicts of arrays, and the checks when it comes back from a file.

Kernels do not check what they read, so nothing reaches them that was not checked: a
damaged or crafted file is a ValueError here. What follows from other arrays is not
stored, so that it cannot contradict them. The checks read the small arrays once;
vectors and codes may be memory maps and stay on the disk.
"""

from __future__ import annotations

import math

import numpy as np

from sklearn_ann._inverted_lists import (
    filled_positions,
    lists_of_chains,
    n_panels_for,
    owners_of,
)
from sklearn_ann._layout import (
    AXES,
    MAX_EXPONENT,
    PANEL,
    ROW_CODES,
    FlatIndex,
    FullCodes,
    InvertedLists,
    IVFFlatIndex,
    IVFPQIndex,
    Projection,
    read_only_index,
)
from sklearn_ann._principal_axes import makes_no_distance_longer
from sklearn_ann._product_quantizer import check_codebooks, empty_pq_index

# Fields that follow from others.
_DERIVED = {
    InvertedLists: {"offsets"},
    IVFPQIndex: {
        *("owners", "codebooks", "codebooks_t", "half_sqnorms", "radii"),
        "largest_row_term",
    },
}

_FLOATS = np.dtype(np.float32), np.dtype(np.float64)


def pack(index):
    """What must be stored of an index: nested dicts of arrays, numbers and bools."""
    return {
        name: pack(value) if isinstance(value, tuple) else value
        for name, value in index._asdict().items()
        if name not in _DERIVED.get(type(index), ())
    }


def unpack_flat(stored):
    """The FlatIndex of all rows, each at its own position.

    Raises
    ------
    ValueError
        As the other functions of this file, if something does not fit.
    """
    n = len(_array(stored, "X", _FLOATS, (None, None)))
    _check(n > 0, "X must have rows")
    filled = np.arange(n_panels_for(n) * PANEL) < n
    index = _flat_index(stored, filled)
    _array(stored, "ids", np.int64, (0,))
    return read_only_index(index)


def unpack_ivf_flat(stored):
    """The IVFFlatIndex."""
    centroids = _centroids(stored)
    rows = _dict(stored, "rows")
    n = len(_array(rows, "X", _FLOATS, (None, centroids.X.shape[1])))
    lists = _lists(_dict(stored, "lists"), len(centroids.X), n)
    filled = filled_positions(lists)
    _check_ids(_array(rows, "ids", np.int64, filled.shape), filled)
    rows = _flat_index(rows, filled)
    return read_only_index(IVFFlatIndex(centroids=centroids, lists=lists, rows=rows))


def unpack_ivf_pq(stored, codebooks):
    """The IVFPQIndex; `codebooks`, (m, n_codewords, dsub) float32, are stored apart."""
    centroids = _centroids(stored)
    d = centroids.X.shape[1]
    is_paired = stored.get("is_paired")
    _check(isinstance(is_paired, bool), "is_paired must be a bool")
    nbits = 4 if is_paired else 8
    _array({"codebooks_": codebooks}, "codebooks_", np.float32, (None, None, None))
    check_codebooks(codebooks, d, nbits)
    ids = _array(stored, "ids", np.int32, (None,))
    n = int((ids >= 0).sum())
    lists = _lists(_dict(stored, "lists"), len(centroids.X), n)
    filled, n_panels = filled_positions(lists), len(lists.panels)
    _check(ids.shape == filled.shape, "ids must be one for each position")
    _check_ids(ids, filled)
    X = _array(stored, "X", _FLOATS, (None, d))
    _check(len(X) in (0, n), f"X must have {n} rows or none")
    row_terms = _bounds(stored, "row_terms", filled)
    _check((row_terms[filled] > -np.inf).all(), "row_terms must be finite")
    empty = empty_pq_index(centroids, codebooks, nbits, X.dtype)
    codes = _array(stored, "codes", np.uint8, (n_panels, *empty.codes.shape[1:]))
    return read_only_index(
        empty._replace(
            lists=lists,
            owners=owners_of(lists),
            codes=codes,
            row_terms=row_terms,
            largest_row_term=float(np.abs(row_terms[filled]).max()),
            ids=ids,
            X=X,
        )
    )


# -- parts ---------------------------------------------------------------------------


def _flat_index(stored, filled):
    """A FlatIndex with rows at these positions; its ids are not checked."""
    X = _array(stored, "X", _FLOATS, (filled.sum(), None))
    d = X.shape[1]
    _check(d > 0, "X must have features")
    projection = _projection(_dict(stored, "projection"), d)
    width = len(projection.middle)
    n_panels, steps = len(filled) // PANEL, -(-(width or d) // 4)
    center = _array(stored, "center", np.float64, (d,))
    _check(np.isfinite(center).all(), "center must be finite")
    unit = stored.get("unit")
    _check(_is_unit(unit), "unit must be a power of two")
    return FlatIndex(
        X=X,
        center=center,
        codes=_array(stored, "codes", np.uint8, (n_panels, steps, PANEL, 4)),
        scales=_scales(stored, filled),
        sqnorms=_bounds(stored, "sqnorms", filled),
        unit=unit,
        error_ratio=_error_ratio(stored),
        ids=stored.get("ids"),
        duplicates=_array(stored, "duplicates", np.uint64, (None, None)),
        projection=projection,
        full=_full_codes(_dict(stored, "full"), filled[: len(filled) * (width > 0)], d),
    )


def _projection(stored, d):
    axes = _array(stored, "axes", np.float32, (d, None))
    width = axes.shape[1]
    _check(width % AXES == 0, f"axes must be a multiple of {AXES}")
    middle = _array(stored, "middle", np.float64, (width,))
    fits = np.isfinite(middle).all() and makes_no_distance_longer(axes)
    _check(fits, "axes must make no distance longer")
    return Projection(axes=axes, middle=middle)


def _full_codes(stored, filled, d):
    """FullCodes with rows at these positions."""
    length = -(-d // ROW_CODES) * ROW_CODES
    return FullCodes(
        codes=_array(stored, "codes", np.uint8, (len(filled), length)),
        scales=_scales(stored, filled),
        sqnorms=_bounds(stored, "sqnorms", filled),
        error_ratio=_error_ratio(stored),
    )


def _scales(stored, filled):
    scales = _array(stored, "scales", np.float32, filled.shape)
    _check(np.isfinite(scales).all() and (scales >= 0).all(), "scales must be finite")
    return scales


def _error_ratio(stored):
    error_ratio = stored.get("error_ratio")
    _check(
        isinstance(error_ratio, float) and 0 <= error_ratio < np.inf,
        "error_ratio must be a finite float",
    )
    return error_ratio


def _centroids(stored):
    """The index of the centroids, which are few enough to look at all."""
    _check(isinstance(stored, dict), "the index must be a dict")
    centroids = unpack_flat(_dict(stored, "centroids"))
    _check(np.isfinite(centroids.X).all(), "centroids must be finite")
    # `assign` takes their codes for those of all features.
    _check(len(centroids.projection.middle) == 0, "centroids have no projection")
    return centroids


def _lists(stored, nlist, n):
    """InvertedLists of n rows."""
    sizes = _array(stored, "sizes", np.int64, (nlist,))
    fits = sizes.min() >= 0 and sizes.max() <= n and sizes.sum() == n
    _check(n > 0 and fits, f"sizes of lists must add up to the {n} rows")
    n_panels = int(n_panels_for(sizes).sum())
    panels = _array(stored, "panels", np.int64, (n_panels,))
    _check_permutation(panels, "panels")
    return lists_of_chains(panels, sizes)


def _bounds(stored, name, filled):
    """One float32 for each position, +inf at those that are empty, and only there."""
    array = _array(stored, name, np.float32, filled.shape)
    # NaN is neither below nor equal to +inf.
    fits = np.array_equal(array < np.inf, filled) and (array[~filled] == np.inf).all()
    _check(fits, f"{name} must be infinite where there is no row, and only there")
    return array


def _check_ids(ids, filled):
    _check((ids[~filled] == -1).all(), "ids must be -1 where there is no row")
    _check_permutation(ids[filled], "ids")


def _check_permutation(array, name):
    """Every number from 0 on is there once."""
    n = len(array)
    fits = n == 0 or (array.min() >= 0 and array.max() < n)
    fits = fits and (np.bincount(array, minlength=n) == 1).all()
    _check(fits, f"{name} must be the numbers from 0 to {n - 1}, each once")


# -- values --------------------------------------------------------------------------


def _array(stored, name, dtypes, shape):
    """An array that kernels can read: of one of these dtypes and this shape.

    None stands for any length.
    """
    array = stored.get(name) if isinstance(stored, dict) else None
    dtypes = dtypes if isinstance(dtypes, tuple) else (np.dtype(dtypes),)
    fits = (
        type(array) in (np.ndarray, np.memmap)
        and array.dtype in dtypes
        and array.dtype.isnative
        and array.flags.c_contiguous
        and len(array.shape) == len(shape)
        and all(
            wanted in (None, given)
            for wanted, given in zip(shape, array.shape, strict=True)
        )
    )
    described = ", ".join("any" if length is None else str(length) for length in shape)
    _check(
        fits,
        f"{name} must be a C-contiguous array of shape ({described}) and dtype "
        f"{' or '.join(map(str, dtypes))}",
    )
    return array


def _dict(stored, name):
    _check(isinstance(stored.get(name), dict), f"{name} must be a dict")
    return stored[name]


def _is_unit(unit):
    if not isinstance(unit, float) or not 0 < unit < np.inf:
        return False
    mantissa, exponent = math.frexp(unit)
    return mantissa == 0.5 and abs(exponent - 1) <= MAX_EXPONENT


def _check(fits, what):
    if not fits:
        raise ValueError(what + ".")
