"""Tables of a query: what sums of their entries are worth, against float64."""

import numpy as np
import pytest
import vector_kinds
from parts import called

from sklearn_ann import IVFPQNeighbors
from sklearn_ann._cpu import _pq_tables
from sklearn_ann._cpu._pq_simd import SPLITS_PAIRS

fill_tables, half_bits = called(_pq_tables.fill_tables), called(_pq_tables.half_bits)

KINDS = [
    vector_kinds.normal,
    vector_kinds.bytes_,
    vector_kinds.all_equal,
    vector_kinds.far_from_origin,
    vector_kinds.one_huge_feature,
    vector_kinds.outlier_row,
    vector_kinds.tiny,
]

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn_ann.exceptions.FewTrainingRowsWarning"
)


def filled(index, Q):
    """Entries as whole steps, (nq, m, 256) or less, and steps, bases and errors."""
    nq, m = len(Q), len(index.codebooks_t)
    upper_halves, lower_halves = np.zeros((2, nq, m, 256), np.uint8)
    steps, bases, errors = np.zeros(nq, np.float32), np.zeros(nq), np.zeros(nq)
    fill_tables(Q, index, upper_halves, lower_halves, steps, bases, errors)
    bits = half_bits(m, index.is_paired)
    largest = int(max(upper_halves.max(), lower_halves.max()))
    n_sums = m
    if SPLITS_PAIRS and index.is_paired:
        # Two entries are added as bytes before anything else is.
        n_sums = 2 * m
        assert largest < 2**7
    assert n_sums * largest < 2**16
    return (upper_halves.astype(int) << bits) + lower_halves, steps, bases, errors


def steps_of(entries, codes, is_paired):
    """The sum over the parts for each row of codes, (nq, n)."""
    parts = np.arange(codes.shape[1])
    if SPLITS_PAIRS and is_paired:
        low, high = entries[:, parts, codes % 16], entries[:, parts, 16 + codes // 16]
        return (low + high).sum(axis=2)
    return entries[:, parts, codes].sum(axis=2)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    ("d", "m", "nbits"),
    [(9, 3, 8), (9, 3, 4), (10, 10, 4), (600, 300, 8), (600, 600, 4)],
)
def test_sums_are_as_near_as_their_errors_say(kind, d, m, nbits, rng):
    X, Q = vector_kinds.make(kind, np.float32, rng, 400, 6, d)
    index = IVFPQNeighbors(nlist=2, m=m, nbits=nbits, random_state=0).fit(X)._index
    entries, steps, bases, errors = filled(index, Q)
    codes = rng.integers(0, 256, (500, len(index.codebooks_t)))
    parts = np.arange(codes.shape[1])
    words = index.codebooks.astype(np.float64)[parts, codes].reshape(500, -1)[:, :d]
    expected = -2 * (Q - index.centroids.center) @ words.T
    sums = steps_of(entries, codes, index.is_paired)
    found = bases[:, None] + steps.astype(np.float64)[:, None] * sums
    # What float64 loses of the oracle itself.
    lost = 1e-12 * np.abs(Q - index.centroids.center) @ np.abs(words.T)
    assert (np.abs(found - expected) <= errors[:, None] + lost).all()


def test_errors_are_hardly_more_than_what_rounding_down_loses(rng):
    X = rng.standard_normal((400, 16)).astype(np.float32)
    index = IVFPQNeighbors(nlist=2, m=4, random_state=0).fit(X)._index
    entries, steps, _, errors = filled(index, X[:5])
    # At most twice the step that is large enough.
    assert 2**15 <= entries.max() < 2**16
    assert (errors < 2 * 4 * steps / 2).all()
