"""The index as arrays: what the parts build and every backend's kernels read."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Rows of a panel. A mask of the rows that survive a filter is one 64-bit word.
PANEL = 64

# Row codes are kept as unsigned bytes, code + OFFSET, as multiply-add instructions of
# unsigned with signed bytes want them.
OFFSET = 128

# Codewords that a sub-quantizer has room for: those of a byte, or of half a byte.
CODEWORDS = 256
NIBBLES = 16

# Axes of a projection, with the one of the tail, and codes of a row come in multiples
# of these.
AXES, ROW_CODES = 32, 64

# Relative rounding error allowed to each float32 evaluation of a bound: 16 units in the
# last place, where the filter's expression needs about 8.
ROUNDING = 2.0**-20

# Of the unit: further out squared distances underflow or overflow in float64. There the
# filter lets every row pass, so that the answer is that of the computed distances.
MAX_EXPONENT = 450

# Sums of table entries and terms beyond it might overflow float32.
FARTHEST = 2.0**120


class Projection(NamedTuple):
    """A map to fewer features that makes no distance longer: _cpu/_sq8_project.py."""

    axes: np.ndarray  # (d, width)  float32  directions; the last column is zero
    middle: np.ndarray  # (width,)  float64  a point amid the projections, in units


class FullCodes(NamedTuple):
    """8-bit codes of all features, row by row, if those in panels are of projections.

    As in FlatIndex but for the order of the codes.
    """

    codes: np.ndarray  # (n_panels * 64, d rounded up to 64)  uint8; or (0, ...)
    scales: np.ndarray  # (n_panels * 64,)  float32
    sqnorms: np.ndarray  # (n_panels * 64,)  float32
    error_ratio: float


class FlatIndex(NamedTuple):
    """Vectors with their 8-bit codes, in panels of 64 rows.

    A row decodes to ``center + unit * scale * codes``. Lengths "in units" are divided
    by `unit`, a power of two near the largest length in the data, so that float32
    neither overflows nor underflows. An empty position has the sqnorm +inf.

    If there is a projection, the codes in panels are those of ``projection - middle``,
    in units, and `full` has the codes of the rows.
    """

    X: np.ndarray  # (n, d)  float  the vectors as given
    center: np.ndarray  # (d,)  float64
    codes: np.ndarray  # (n_panels, steps, 64, 4)  uint8  4 features of 64 rows a step
    scales: np.ndarray  # (n_panels * 64,)  float32  in units
    sqnorms: np.ndarray  # (n_panels * 64,)  float32  in units, squared: see below
    unit: float
    error_ratio: float  # |row - decoded row| <= error_ratio * scale, in units
    ids: np.ndarray  # (n_panels * 64,)  int64  row at each position; or (0,): itself
    duplicates: np.ndarray  # (n_levels, n_marked)  uint64  identical rows: see below
    projection: Projection  # of width 0 if there is none
    full: FullCodes

    # sqnorms[i] is the squared length of the decoded row minus its squared error,
    # (error_ratio * scale) ** 2, rounded down by ROUNDING of each; -inf for a row that
    # is too long or too short to have codes.

    # Bit j of duplicates[level, panel] marks row j of the panel if at least 2**level
    # rows with smaller numbers are identical to it, bit by bit. Those are as far from
    # any query, and in the same list, so it is not among the 2**level nearest. Rows
    # that are not marked may be duplicates, too.


class InvertedLists(NamedTuple):
    """Which panels belong to which list; its rows fill one after the other."""

    panels: np.ndarray  # (n_panels,)  int64  numbers of panels, list after list
    offsets: np.ndarray  # (nlist + 1,)  int64  where each list starts among them
    sizes: np.ndarray  # (nlist,)  int64  rows in each list


class IVFFlatIndex(NamedTuple):
    """Vectors in inverted lists, ids ascending in each, and their centroids."""

    centroids: FlatIndex
    lists: InvertedLists
    rows: FlatIndex


class IVFPQIndex(NamedTuple):
    """Codes of residuals in inverted lists.

    A row decodes to its centroid plus the codewords of its codes. An empty position has
    the term +inf.
    """

    centroids: FlatIndex
    lists: InvertedLists
    owners: np.ndarray  # (n_panels,)  int64  list of each panel
    codebooks: np.ndarray  # (m, 256, dsub)  float32  one after the other
    codebooks_t: np.ndarray  # (m, dsub, 256)  float32  the same side by side
    half_sqnorms: np.ndarray  # (m, 256)  float32  half their squared lengths
    radii: np.ndarray  # (m,)  float64  the largest length of a codeword
    is_paired: bool  # whether a code is two of 4 bits, of two parts of the vector
    codes: np.ndarray  # (n_panels, m, 64)  uint8  sub-quantizer by sub-quantizer
    row_terms: np.ndarray  # (n_panels * 64,)  float32  |r|^2 + 2 (c - z).r: see below
    largest_row_term: float  # the largest absolute value of a finite one
    ids: np.ndarray  # (n_panels * 64,)  int32  row at each position
    X: np.ndarray  # (n, d)  float  the vectors, if they are stored, or (0, d)

    # row_terms is the part of a squared distance that depends on the row only, with its
    # decoded residual r, its centroid c and their center z: see _cpu/_ivf_pq.py.


def read_only(array):
    """A view that cannot be written to.

    Numba compiles a kernel once for writable and once for read-only arrays. What a
    kernel reads may be a read-only memory map, so all of it is made to look like one.
    """
    view = array.view()
    view.flags.writeable = False
    return view


def read_only_index(index):
    """The same index with every array read-only, those of its parts included."""

    def protect(field):
        if isinstance(field, np.ndarray):
            return read_only(field)
        return read_only_index(field) if isinstance(field, tuple) else field

    return type(index)(*map(protect, index))
