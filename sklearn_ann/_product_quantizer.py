"""Product quantization: codebooks for the parts of a vector.

A vector is cut into m parts of dsub features, and each part is replaced by the number
of the nearest of 2**nbits codewords (Jegou, Douze and Schmid, "Product quantization for
nearest neighbor search", 2011). The codewords are those of k-means in each sub-space,
all sub-spaces trained side by side.
"""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.random import sample_without_replacement

from sklearn_ann._inverted_lists import empty_lists, extend_lists, owners_of
from sklearn_ann._layout import CODEWORDS, NIBBLES, PANEL, IVFPQIndex, read_only_index
from sklearn_ann._storage import append_rows, clear_empty, lengthened
from sklearn_ann._warnings import warn_caller
from sklearn_ann.exceptions import FewTrainingRowsWarning

# Rows for each codeword, as for the lists.
_MOST_ROWS_PER_CODEWORD = 256

# Iterations of k-means for codewords, as in Faiss.
_ITERATIONS = 25

# Features for each byte of codes, unless the user says how many parts there are.
_FEATURES_PER_BYTE = 8

# A sum of an entry for each of them has 16 bits: see ``half_bits``, _cpu/_pq_tables.py.
_MOST_PARTS = 2**14

# Squared residuals, and their products, must stay far from the largest float32.
_LONGEST = 2.0**100
_TOO_LONG = "The vectors are too long for codes in float32: scale X down."

# Row numbers have 32 bits in the index.
_MOST_ROWS = 2**31 - 1


def choose_parts(d, m, nbits):
    """How many parts d features are cut into, and the width of each.

    All have the same width but the last, so that fewer than m may do.
    """
    if m == "auto":
        dsub = min(d, _FEATURES_PER_BYTE // (2 if nbits == 4 else 1))
        dsub = max(dsub, -(-d // _MOST_PARTS))
    elif m > d:
        raise ValueError(f"m={m} is more than the {d} features. Use m={d} or less.")
    else:
        dsub = -(-d // int(m))
    n_parts = -(-d // dsub)
    _check_parts(n_parts)
    return n_parts, dsub


def _check_parts(n_parts):
    if n_parts > _MOST_PARTS:
        raise ValueError(
            f"{n_parts} parts are too many for sums of 16 bits. "
            f"Use m={_MOST_PARTS} or less."
        )


def check_codebooks(codebooks, d, nbits):
    """Refuse codebooks that do not fit d features, or have too many codewords.

    Parameters
    ----------
    codebooks : ndarray of shape (m, n_codewords, dsub), float32
    d : int
        Features of the vectors to index.
    nbits : int
        A code has so many bits.
    """
    m, n_codewords, dsub = codebooks.shape
    if not (m - 1) * dsub < d <= m * dsub:
        raise ValueError(
            f"codebooks has {m} parts of {dsub} features, which do not make up the {d} "
            "features of the vectors to index."
        )
    if not 1 <= n_codewords <= 2**nbits:
        raise ValueError(
            f"codebooks has {n_codewords} codewords for each part, but nbits={nbits} "
            f"has numbers for {2**nbits}, and at least one is needed."
        )
    # NaN is not below it either.
    if not (np.square(codebooks, dtype=np.float64).sum(axis=2) < _LONGEST).all():
        raise ValueError("codebooks has codewords that are not finite, or too long.")
    # The bounds of a search take all features of a codeword for those of a row.
    if codebooks[-1, :, d - (m - 1) * dsub :].any():
        raise ValueError(
            f"The vectors to index have {d} features and codebooks has {m * dsub}, but "
            f"codebooks must be 0 past the last of {d} features."
        )


def check_m(codebooks, d, m, nbits):
    """Refuse codebooks that contradict the parameter `m`."""
    n_parts = len(codebooks)
    if m != "auto" and n_parts not in (m, choose_parts(d, m, nbits)[0]):
        raise ValueError(
            f"codebooks has {n_parts} parts, but m={m}. Use m={n_parts}, or m='auto'."
        )


def draw_residuals(X, labels, centroids, width, n_codewords, rng):
    """Residuals to train on, in float32, with zeros behind them up to `width`."""
    n = len(X)
    if n < n_codewords:
        warn_caller(
            f"nbits={n_codewords.bit_length() - 1} makes {n_codewords} codewords, but "
            f"there are {n} rows: each becomes a codeword. Use a smaller nbits, or "
            "FlatL2Neighbors for so few rows.",
            FewTrainingRowsWarning,
        )
    n_most = _MOST_ROWS_PER_CODEWORD * n_codewords
    rows = np.arange(n)
    if n > n_most:
        rows = np.sort(sample_without_replacement(n, n_most, random_state=rng))
    residuals = np.zeros((len(rows), width), np.float32)
    with np.errstate(over="ignore"):
        residuals[:, : X.shape[1]] = X[rows] - centroids[labels[rows]]
    lengths = np.square(residuals, dtype=np.float64).sum(axis=1)
    if not (lengths < _LONGEST).all():
        raise ValueError(_TOO_LONG)
    return residuals


def arrange_codebooks(codebooks):
    """Codewords as kernels want them, side by side, and half their squared lengths.

    Parameters
    ----------
    codebooks : ndarray of shape (m, n_codewords, dsub), float32

    Returns
    -------
    codebooks_t : ndarray of shape (m, dsub, 256), float32
    half_sqnorms : ndarray of shape (m, 256), float32
    """
    codebooks = _repeat_first(codebooks, CODEWORDS)
    half_sqnorms = 0.5 * np.square(codebooks, dtype=np.float64).sum(axis=2)
    codebooks_t = np.ascontiguousarray(codebooks.transpose(0, 2, 1))
    return codebooks_t, half_sqnorms.astype(np.float32)


def _repeat_first(codebooks, n_codewords):
    """As many codewords. Those added have no rows: among equal ones the first wins."""
    n_more = n_codewords - codebooks.shape[1]
    return np.concatenate([codebooks, np.repeat(codebooks[:, :1], n_more, 1)], 1)


def pair_codebooks(codebooks):
    """Codewords of two parts as those of one: two codes of 4 bits are one byte.

    Parameters
    ----------
    codebooks : ndarray of shape (m, n_codewords, dsub), float32
        At most 16 codewords.

    Returns
    -------
    codebooks : ndarray of shape (ceil(m / 2), 256, 2 * dsub), float32
        Number ``low + 16 * high`` is codeword `low` of the first part of a pair, then
        `high` of the second. The last part may have no second one: zeros.
    """
    m, _, dsub = codebooks.shape
    codebooks = _repeat_first(codebooks, NIBBLES)
    none = np.zeros((m % 2, NIBBLES, dsub), np.float32)
    pairs = np.concatenate([codebooks, none]).reshape(-1, 2, 1, NIBBLES, dsub)
    shape = len(pairs), NIBBLES, NIBBLES, dsub
    first = np.broadcast_to(pairs[:, 0], shape)
    second = np.broadcast_to(pairs[:, 1].swapaxes(1, 2), shape)
    return np.concatenate([first, second], axis=3).reshape(-1, CODEWORDS, 2 * dsub)


def pair_codes(codes):
    """Codes of 4 bits of two parts to a byte, as ``pair_codebooks`` numbers them."""
    codes = np.pad(codes, [(0, 0), (0, codes.shape[1] % 2)])
    return codes[:, ::2] | codes[:, 1::2] << 4


def train_codebooks(residuals, m, n_codewords, seed, backend, n_threads, verbose):
    """The codewords of k-means in each of m sub-spaces.

    Parameters
    ----------
    residuals : ndarray of shape (n, m * dsub), float32
    m, n_codewords : int
        No more codewords than rows.
    seed : int
        Draws the rows to start from, and those that replace unused codewords.
    backend : module
    n_threads : int
        The codewords do not depend on it.
    verbose : int

    Returns
    -------
    codebooks : ndarray of shape (m, n_codewords, dsub), float32
    """
    n, dsub = len(residuals), residuals.shape[1] // m
    rng = check_random_state(seed)
    start = sample_without_replacement(n, n_codewords, random_state=rng)
    parts = residuals.reshape(n, m, dsub)
    codebooks, codes = parts[start].transpose(1, 0, 2), None
    labels, origin = np.zeros(n, np.int64), np.zeros_like(residuals[:1])
    for iteration in range(_ITERATIONS):
        arranged = arrange_codebooks(codebooks)
        previous = codes
        codes = backend.encode_pq(residuals, labels, origin, *arranged, n_threads)
        if previous is not None and np.array_equal(previous, codes):
            break
        sums, sizes = backend.accumulate_codewords(residuals, codes, dsub, n_threads)
        sums, sizes = sums[:, :n_codewords], sizes[:, :n_codewords]
        means = sums / np.maximum(sizes, 1)[:, :, None]
        unused = np.argwhere(sizes == 0)
        for (j, code), row in zip(
            unused, rng.randint(n, size=len(unused)), strict=True
        ):
            means[j, code] = parts[row, j]
        codebooks = means.astype(np.float32)
        if verbose:
            print(
                f"codewords iteration {iteration + 1}/{_ITERATIONS}: {len(unused)} of "
                f"{m * n_codewords} unused"
            )
    return np.ascontiguousarray(codebooks)


def empty_pq_index(centroids, codebooks, nbits, dtype):
    """An index without rows.

    Parameters
    ----------
    centroids : FlatIndex
    codebooks : ndarray of shape (m, n_codewords, dsub), float32
    nbits : int
        With 4, a byte of the index has two codes.
    dtype : dtype
        Of vectors that may be stored.
    """
    _check_parts(len(codebooks))
    codebooks = pair_codebooks(codebooks) if nbits == 4 else codebooks
    codebooks = _repeat_first(codebooks, CODEWORDS)
    codebooks_t, half_sqnorms = arrange_codebooks(codebooks)
    # Not from their halves: squares of the shortest are nothing in float32.
    lengths = np.linalg.norm(codebooks.astype(np.float64), axis=2)
    return IVFPQIndex(
        centroids=centroids,
        lists=empty_lists(len(centroids.X)),
        owners=np.empty(0, np.int64),
        codebooks=codebooks,
        codebooks_t=codebooks_t,
        half_sqnorms=half_sqnorms,
        radii=lengths.max(axis=1) * (1 + 1e-6),
        is_paired=nbits == 4,
        codes=np.empty((0, len(codebooks), PANEL), np.uint8),
        row_terms=np.empty(0, np.float32),
        largest_row_term=0.0,
        ids=np.empty(0, np.int32),
        X=np.empty((0, centroids.X.shape[1]), dtype),
    )


def place_codes(index, rows, labels, X, storage, backend, n_threads):
    """A new index with the codes of more rows in their lists.

    Parameters
    ----------
    index : IVFPQIndex
        Stays as it is.
    rows : ndarray of shape (n, m), uint8
        Codes.
    labels : ndarray of shape (n,), int64
        The list of each row.
    X : ndarray of shape (n, d) or (0, d), float32 or float64
        Vectors to keep too, the first ones by reference, or none of them.
    storage : GrowingArrays
    backend : module
    n_threads : int
    """
    n = int(index.lists.sizes.sum())
    if n + len(rows) > _MOST_ROWS:
        raise ValueError(f"An index of codes holds {_MOST_ROWS} rows at most.")
    lists, order, positions = extend_lists(index.lists, labels)
    n_panels, owners = len(lists.panels), owners_of(lists)
    codes = storage.resize("codes", index.codes, n_panels)
    # Not in place: what tells that a position is empty is read meanwhile.
    ids = lengthened(index.ids, n_panels * PANEL, -1)
    ids[positions] = n + order
    row_terms = lengthened(index.row_terms, n_panels * PANEL, np.inf)
    backend.place_pq(rows, order, positions, owners, index, codes, row_terms, n_threads)
    if not np.isfinite(row_terms[positions]).all():
        raise ValueError(_TOO_LONG)
    n_old = len(index.codes)
    clear_empty(codes[n_old:], row_terms[n_old * PANEL :] == np.inf)
    largest = max(index.largest_row_term, float(np.abs(row_terms[positions]).max()))
    return read_only_index(
        index._replace(
            lists=lists,
            owners=owners,
            codes=codes,
            row_terms=row_terms,
            largest_row_term=largest,
            ids=ids,
            X=append_rows(index.X, X, storage),
        )
    )


def positions_of(ids, index):
    """Where the rows with these ids are."""
    filled = np.flatnonzero(index.row_terms < np.inf)
    positions = np.empty(len(filled), np.int64)
    positions[index.ids[filled]] = filled
    return positions[ids]


class DecodedRows:
    """The rows of an index of codes, decoded as they are asked for.

    Parameters
    ----------
    index : IVFPQIndex
    backend : module
    dtype : dtype
    """

    def __init__(self, index, backend, dtype):
        self._index, self._backend, self._dtype = index, backend, dtype
        self._positions = positions_of(slice(None), index)
        self.shape = len(self._positions), index.centroids.X.shape[1]

    def __getitem__(self, ids):
        positions = self._positions[ids]
        decoded = self._backend.decode_rows(np.atleast_1d(positions), self._index)
        decoded = decoded.astype(self._dtype, copy=False)
        return decoded.reshape(*positions.shape, self.shape[1])
