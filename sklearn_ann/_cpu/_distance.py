"""The exact distance of two vectors, and a word to the cache ahead of it."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from sklearn_ann._cpu._ir import (
    DOUBLE,
    I8,
    I32,
    I64,
    array_struct,
    constant,
    declare,
    fold,
    pointer,
    row_of,
)
from sklearn_ann._cpu._numba import cgutils

# How many rows ahead of their turn rows of a scattered walk are fetched into the cache.
AHEAD = 6

_LANES = 8  # doubles in one vector
_CHAINS = 4  # additions in flight: hides the latency of an addition


def _add_square(builder, x, y, at, count, total):
    """``total += (x - y) ** 2`` for `count` features from number `at` on."""
    difference = builder.fsub(x.load(builder, at, count), y.load(builder, at, count))
    square = builder.fmul(difference, difference)
    builder.store(builder.fadd(builder.load(total), square), total)


@intrinsic
def sqdist(typingctx, X, i, Y, j):
    """Squared distance of ``X[i]`` and ``Y[j]``, accumulated in float64.

    Both are 2-D, C-contiguous, float32 or float64. The order of the additions is part
    of the code, each rounded on its own: the same rows give the same bits in every
    kernel, on every machine.
    """
    signature = types.float64(X, types.intp, Y, types.intp)

    def generate(context, builder, signature, args):
        x = row_of(context, builder, signature.args[0], args[0], args[1])
        y = row_of(context, builder, signature.args[2], args[2], args[3])
        zeros = constant(ir.VectorType(DOUBLE, _LANES), 0.0)
        chains = [cgutils.alloca_once_value(builder, zeros) for _ in range(_CHAINS)]
        total = cgutils.alloca_once_value(builder, ir.Constant(DOUBLE, 0.0))
        zero, one = ir.Constant(I64, 0), ir.Constant(I64, 1)
        stride = ir.Constant(I64, _LANES * _CHAINS)
        whole = builder.mul(builder.udiv(x.length, stride), stride)
        with cgutils.for_range_slice(builder, zero, whole, stride) as (t, _):
            for n, chain in enumerate(chains):
                at = builder.add(t, ir.Constant(I64, n * _LANES))
                _add_square(builder, x, y, at, _LANES, chain)
        with cgutils.for_range_slice(builder, whole, x.length, one) as (t, _):
            _add_square(builder, x, y, t, 1, total)
        lanes = zeros
        for chain in chains:
            lanes = builder.fadd(lanes, builder.load(chain))
        return builder.fadd(builder.load(total), fold(builder, lanes, builder.fadd))

    return signature, generate


@intrinsic
def prefetch(typingctx, array, i):
    """Ask for ``array[i]``, C-contiguous, to be in the cache soon."""
    signature = types.void(array, types.intp)

    def generate(context, builder, signature, args):
        struct = array_struct(context, builder, signature.args[0], args[0])
        size = builder.extract_value(struct.strides, 0)
        start = pointer(builder, struct.data, builder.mul(args[1], size), I8)
        fetch = declare(
            builder, "llvm.prefetch.p0i8", ir.VoidType(), [I8.as_pointer(), *[I32] * 3]
        )
        hints = [ir.Constant(I32, hint) for hint in (0, 3, 1)]  # read, keep, data
        zero, line = ir.Constant(I64, 0), ir.Constant(I64, 64)
        with cgutils.for_range_slice(builder, zero, size, line) as (at, _):
            builder.call(fetch, [pointer(builder, start, at, I8), *hints])
        return context.get_dummy_value()

    return signature, generate
