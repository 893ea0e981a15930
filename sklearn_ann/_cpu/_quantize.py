"""Vectors to integers, one pass each: the largest magnitude, and the codes."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sklearn_ann._cpu._ir import (
    DOUBLE,
    I8,
    I32,
    I64,
    array_struct,
    axis_length,
    bytes_of,
    declare,
    load,
    splat,
    store,
)

_CHUNK = 16  # features at a time


def _emit_quantize(builder, vector, codes, at, count, scale, inverse, totals):
    """Quantise `count` features from number `at` on; add to the three totals."""
    doubles, ints, bytes_type = (
        item if count == 1 else ir.VectorType(item, count) for item in (DOUBLE, I32, I8)
    )
    suffix = "f64" if count == 1 else f"v{count}f64"
    rint = declare(builder, f"llvm.rint.{suffix}", doubles, [doubles])
    if count > 1:
        scale, inverse = (splat(builder, doubles, s) for s in (scale, inverse))
    value = load(builder, vector, bytes_of(builder, at, 8), doubles)
    rounded = builder.call(rint, [builder.fmul(value, inverse)])
    code = builder.fptosi(rounded, ints)
    store(builder, builder.trunc(code, bytes_type), codes, at)
    lost = builder.fsub(value, builder.fmul(scale, builder.sitofp(code, doubles)))
    sum_codes, sum_squares, sum_losses = totals
    builder.store(builder.add(builder.load(sum_codes), code), sum_codes)
    square = builder.mul(code, code)
    builder.store(builder.add(builder.load(sum_squares), square), sum_squares)
    loss = builder.fmul(lost, lost)
    builder.store(builder.fadd(builder.load(sum_losses), loss), sum_losses)


@intrinsic
def largest_magnitude(typingctx, vector):
    """The largest absolute value of a vector of (d,) float64 without NaN."""
    signature = types.float64(vector)

    def generate(context, builder, signature, args):
        struct = array_struct(context, builder, signature.args[0], args[0])
        d = axis_length(builder, struct, 0)
        zero, one, chunk = (ir.Constant(I64, n) for n in (0, 1, _CHUNK))
        whole = builder.mul(builder.udiv(d, chunk), chunk)
        doubles = ir.VectorType(DOUBLE, _CHUNK)
        ends = []
        for item, suffix, start, stop, step in (
            (doubles, f"v{_CHUNK}f64", zero, whole, chunk),
            (DOUBLE, "f64", whole, d, one),
        ):
            end = cgutils.alloca_once_value(builder, ir.Constant(item, None))
            fabs = declare(builder, f"llvm.fabs.{suffix}", item, [item])
            with cgutils.for_range_slice(builder, start, stop, step) as (at, _):
                value = load(builder, struct.data, bytes_of(builder, at, 8), item)
                value, so_far = builder.call(fabs, [value]), builder.load(end)
                is_larger = builder.fcmp_ordered(">", value, so_far)
                builder.store(builder.select(is_larger, value, so_far), end)
            ends.append(builder.load(end))
        name = f"llvm.vector.reduce.fmax.v{_CHUNK}f64"
        reduce = declare(builder, name, DOUBLE, [doubles])
        whole, rest = builder.call(reduce, [ends[0]]), ends[1]
        is_larger = builder.fcmp_ordered(">", whole, rest)
        return builder.select(is_larger, whole, rest)

    return signature, generate


@intrinsic
def quantize(typingctx, vector, codes, scale, inverse):
    """``codes = rint(vector * inverse)``, (d,) int8, of a vector of (d,) float64.

    Returns the sum of the codes, that of their squares, and the squared length of
    ``vector - scale * codes``.
    """
    f8 = types.float64
    result = types.Tuple((types.int64, types.int64, f8))
    signature = result(vector, codes, f8, f8)

    def generate(context, builder, signature, args):
        vector, codes = (
            array_struct(context, builder, signature.args[n], args[n]) for n in (0, 1)
        )
        d = axis_length(builder, vector, 0)
        zero, one, chunk = (ir.Constant(I64, n) for n in (0, 1, _CHUNK))
        whole = builder.mul(builder.udiv(d, chunk), chunk)
        results = [ir.Constant(I64, 0), ir.Constant(I64, 0), ir.Constant(DOUBLE, 0.0)]
        for count, start, stop, step in (
            (_CHUNK, zero, whole, chunk),
            (1, whole, d, one),
        ):
            items = (I32, I32, DOUBLE)
            if count > 1:
                items = [ir.VectorType(item, count) for item in items]
            totals = [
                cgutils.alloca_once_value(builder, ir.Constant(item, None))
                for item in items
            ]
            with cgutils.for_range_slice(builder, start, stop, step) as (at, _):
                pointers = vector.data, codes.data
                _emit_quantize(builder, *pointers, at, count, *args[2:], totals)
            for n, total in enumerate(map(builder.load, totals)):
                for lane in range(count):
                    at = ir.Constant(I32, lane)
                    item = builder.extract_element(total, at) if count > 1 else total
                    if n < 2:
                        item = builder.sext(item, I64)
                    add = builder.add if n < 2 else builder.fadd
                    results[n] = add(results[n], item)
        return context.make_tuple(builder, signature.return_type, results)

    return signature, generate
