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


def _sum_of_squares(builder, length, value):
    """The sum of ``value(at, count) ** 2``: `count` values from number `at` on."""

    def add(at, count, total):
        some = value(at, count)
        square = builder.fmul(some, some)
        builder.store(builder.fadd(builder.load(total), square), total)

    zeros = constant(ir.VectorType(DOUBLE, _LANES), 0.0)
    chains = [cgutils.alloca_once_value(builder, zeros) for _ in range(_CHAINS)]
    total = cgutils.alloca_once_value(builder, ir.Constant(DOUBLE, 0.0))
    zero, one = ir.Constant(I64, 0), ir.Constant(I64, 1)
    stride = ir.Constant(I64, _LANES * _CHAINS)
    whole = builder.mul(builder.udiv(length, stride), stride)
    with cgutils.for_range_slice(builder, zero, whole, stride) as (t, _):
        for n, chain in enumerate(chains):
            add(builder.add(t, ir.Constant(I64, n * _LANES)), _LANES, chain)
    with cgutils.for_range_slice(builder, whole, length, one) as (t, _):
        add(t, 1, total)
    lanes = zeros
    for chain in chains:
        lanes = builder.fadd(lanes, builder.load(chain))
    return builder.fadd(builder.load(total), fold(builder, lanes, builder.fadd))


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

        def difference(at, count):
            return builder.fsub(x.load(builder, at, count), y.load(builder, at, count))

        return _sum_of_squares(builder, x.length, difference)

    return signature, generate


@intrinsic
def sqnorm(typingctx, X, i):
    """The sum of the squares of ``X[i]``, as ``sqdist`` adds them up."""

    def generate(context, builder, signature, args):
        x = row_of(context, builder, signature.args[0], *args)
        return _sum_of_squares(builder, x.length, lambda *some: x.load(builder, *some))

    return types.float64(X, types.intp), generate


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
