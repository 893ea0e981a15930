"""Kinds of data that a search must answer exactly, from the everyday to the extreme.

Each function makes ``n + nq`` rows of d features in float64; the last nq are queries.
"""

import numpy as np


def normal(rng, n, nq, d):
    return rng.standard_normal((n + nq, d))


def bytes_(rng, n, nq, d):
    return rng.integers(0, 256, (n + nq, d)).astype(np.float64)


def bits(rng, n, nq, d):
    return rng.integers(0, 2, (n + nq, d)).astype(np.float64)


def wide_integers(rng, n, nq, d):
    return rng.integers(-40000, 40000, (n + nq, d)).astype(np.float64)


def all_equal(rng, n, nq, d):
    return np.full((n + nq, d), 3.7)


def duplicates(rng, n, nq, d):
    rows = rng.standard_normal((n + nq, d))
    return rows[rng.integers(0, 1 + n // 5, n + nq)]


def far_from_origin(rng, n, nq, d):
    return 1e6 + rng.standard_normal((n + nq, d))


def many_scales(rng, n, nq, d):
    return rng.standard_normal((n + nq, d)) * 10 ** rng.uniform(-8, 8, (n + nq, 1))


def one_huge_feature(rng, n, nq, d):
    rows = rng.standard_normal((n + nq, d))
    rows[:, 0] *= 1e9
    return rows


def constant_columns(rng, n, nq, d):
    rows = rng.standard_normal((n + nq, d))
    rows[:, 1::2] = 5.3
    return rows


def outlier_row(rng, n, nq, d):
    rows = rng.standard_normal((n + nq, d))
    rows[n // 3] *= 1e9
    return rows


def balanced_outliers(rng, n, nq, d):
    """Two rows so far away, on either side, that the others look like one point."""
    rows = 1e-13 * rng.standard_normal((n + nq, d))
    rows[0], rows[n // 2] = 1e30, -1e30
    return rows


def outlier_queries(rng, n, nq, d):
    rows = rng.standard_normal((n + nq, d))
    rows[n::2] *= 1e25
    return rows


def tiny(rng, n, nq, d):
    """Numbers that float32 knows as subnormal, and whose squares need float64."""
    return 1e-40 * rng.standard_normal((n + nq, d))


def huge(rng, n, nq, d):
    """Squares are far beyond float32."""
    return 1e30 * rng.standard_normal((n + nq, d))


def huge_double(rng, n, nq, d):
    """Squares are not far below the largest float64."""
    return 1e150 * rng.standard_normal((n + nq, d))


def subnormal_squares(rng, n, nq, d):
    """Squares keep a few digits."""
    return 1e-160 * rng.standard_normal((n + nq, d))


def vanishing_squares(rng, n, nq, d):
    """Squares are 0 in float64, so all rows tie."""
    return 1e-300 * rng.standard_normal((n + nq, d))


ANY_DTYPE = [
    normal,
    bytes_,
    bits,
    wide_integers,
    all_equal,
    duplicates,
    far_from_origin,
    many_scales,
    one_huge_feature,
    constant_columns,
    outlier_row,
    balanced_outliers,
    outlier_queries,
    tiny,
    huge,
]
FLOAT64_ONLY = [huge_double, subnormal_squares, vanishing_squares]

# Kind and dtype of every combination, for pytest.mark.parametrize.
KINDS = [(kind, dtype) for kind in ANY_DTYPE for dtype in (np.float32, np.float64)]
KINDS += [(kind, np.float64) for kind in FLOAT64_ONLY]


def name(value):
    """A short name for a parameter of a test."""
    return value.__name__.strip("_") if callable(value) else None


def make(kind, dtype, rng, n, nq, d):
    """Vectors and queries; every second query is one of the vectors."""
    rows = kind(rng, n, nq, d).astype(dtype)
    X, Q = rows[:n].copy(), rows[n:].copy()
    Q[1::2] = X[rng.integers(0, n, len(Q[1::2]))]
    return X, Q
