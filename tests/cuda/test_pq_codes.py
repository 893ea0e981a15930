"""Codes of residuals: those of a CPU with fused multiply-adds, to the last bit."""

import cuda_lane
import numpy as np
import pytest
import vector_kinds
from numpy.testing import assert_array_equal

from sklearn_ann import _cpu
from sklearn_ann._cuda import _memory
from sklearn_ann._cuda._compat import cuda, fused_multiply_add, kernel, to_device
from sklearn_ann._product_quantizer import arrange_codebooks


@kernel
def _multiply_add(x, y, z, out):
    i = cuda.grid(1)
    if i < out.shape[0]:
        out[i] = fused_multiply_add(x[i], y[i], z[i])


def test_a_fused_multiply_add_rounds_once():
    one, last = np.float32(1), np.float32(2.0**-23)
    small = np.float32(2.0**-12)
    # The sum is 2**-70 below the middle of two numbers, 2**-70 above, in the middle.
    rows = [
        (small * (one + last), small * (one - last), one + last, one + last),
        (-small * (one + last), small * (one - last), -one - last, -one - last),
        (small * (one + last), -small * (one - last), one + 2 * last, one + 2 * last),
        (small, small, one, one),
        (small, small, one + last, one + 2 * last),
        (np.float32(1e30), np.float32(1e30), one, np.float32(np.inf)),
        (np.float32(0), np.float32(3), np.float32(-0.5), np.float32(-0.5)),
    ]
    *operands, expected = np.array(rows, np.float32).T
    out = to_device(np.empty(len(rows), np.float32))
    _multiply_add[1, 32](*map(to_device, operands), out)
    assert_array_equal(out.copy_to_host(), expected)


@cuda_lane.has_fma
@pytest.mark.parametrize("order", cuda_lane.ORDERS)
@pytest.mark.parametrize(
    ("n", "d", "m", "n_codewords", "dtype"),
    [(5, 7, 3, 16, np.float32), (3, 1, 1, 256, np.float64), (2, 37, 2, 5, np.float32)],
)
def test_codes_are_those_of_the_cpu(
    n, d, m, n_codewords, dtype, order, backend, rng, monkeypatch
):
    cuda_lane.set_order(order)
    dsub = -(-d // m)
    words = rng.standard_normal((m, n_codewords, dsub)).astype(np.float32)
    words[-1, :, d - (m - 1) * dsub :] = 0
    X, centroids = (rng.standard_normal((rows, d)).astype(dtype) for rows in (n, 4))
    args = X, rng.integers(0, 4, n), centroids, *arrange_codebooks(words), 1
    expected = _cpu.encode_pq(*args)
    assert_array_equal(backend.encode_pq(*args), expected, strict=True)
    # In parts: a row at a time.
    monkeypatch.setattr(_memory, "free_memory", lambda: 10)
    assert_array_equal(backend.encode_pq(*args), expected)


@cuda_lane.has_fma
def test_codes_of_what_is_nearly_as_near(backend, rng):
    X = rng.standard_normal((12, 5)).astype(np.float32)
    # Codewords that differ in the last places, all as near to a row but for rounding.
    words = np.repeat(X[:4, None], 16, axis=1).reshape(1, 64, 5)
    words = words * (1 + 2.0**-23 * rng.integers(-2, 3, words.shape))
    args = X, np.zeros(12, np.int64), np.zeros((1, 5), np.float32)
    args = *args, *arrange_codebooks(words.astype(np.float32)), 1
    assert_array_equal(backend.encode_pq(*args), _cpu.encode_pq(*args))


@pytest.mark.parametrize(
    "kind", [vector_kinds.bits, vector_kinds.all_equal], ids=vector_kinds.name
)
def test_the_first_of_equally_near_codewords_is_taken(kind, backend, rng):
    X = kind(rng, 6, 0, 4).astype(np.float32)
    words = rng.integers(0, 2, (2, 16, 2)).astype(np.float32)
    args = X, np.zeros(6, np.int64), np.zeros((1, 4), np.float32)
    codes = backend.encode_pq(*args, *arrange_codebooks(words), 1)
    parts = X.reshape(6, 2, 1, 2)
    # Exact: all numbers are small integers but for halves.
    assert_array_equal(codes, ((words - parts) ** 2).sum(axis=3).argmin(axis=2))
