"""Vectors to integers in two passes: centered, then rounded."""

from __future__ import annotations

from functools import partial

from llvmlite import ir
from numba import types
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
    fold,
    load,
    row_of,
    splat,
    store,
)
from sklearn_ann._cpu._numba import cgutils

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


def _emit_center(builder, row, center, per_unit, centered, at, count, magnitude):
    """Center `count` features from number `at` on; update the largest magnitude."""
    doubles, bits = DOUBLE, I64
    if count > 1:
        doubles, bits = (ir.VectorType(item, count) for item in (doubles, bits))
        per_unit = splat(builder, doubles, per_unit)
    offset = bytes_of(builder, at, 8)
    middle = load(builder, center, offset, doubles)
    value = builder.fsub(row.load(builder, at, count), middle)
    value = builder.fmul(value, per_unit)
    store(builder, value, centered, offset)
    # Magnitudes compare as their bits do, as integers; those of NaN are the largest.
    no_sign = 2**63 - 1
    no_sign = ir.Constant(bits, no_sign if count == 1 else [no_sign] * count)
    this = builder.and_(builder.bitcast(value, bits), no_sign)
    builder.store(_larger(builder, this, builder.load(magnitude)), magnitude)


def _larger(builder, a, b):
    return builder.select(builder.icmp_signed(">", a, b), a, b)


@intrinsic
def subtract_center(typingctx, X, i, center, per_unit, centered):
    """``centered = (X[i] - center) * per_unit``, all but X (d,) float64.

    Returns the largest absolute value of them, NaN if one is NaN.
    """
    f8 = types.float64
    signature = f8(X, types.intp, center, f8, centered)

    def generate(context, builder, signature, args):
        row = row_of(context, builder, signature.args[0], *args[:2])
        center, centered = (
            array_struct(context, builder, signature.args[n], args[n]).data
            for n in (2, 4)
        )
        zero, one, chunk = (ir.Constant(I64, n) for n in (0, 1, _CHUNK))
        whole = builder.mul(builder.udiv(row.length, chunk), chunk)
        ends = []
        for count, start, stop, step in (
            (_CHUNK, zero, whole, chunk),
            (1, whole, row.length, one),
        ):
            bits = I64 if count == 1 else ir.VectorType(I64, count)
            end = cgutils.alloca_once_value(builder, ir.Constant(bits, None))
            with cgutils.for_range_slice(builder, start, stop, step) as (at, _):
                _emit_center(
                    builder, row, center, args[3], centered, at, count, end
                )
            ends.append(builder.load(end))
        larger = partial(_larger, builder)
        magnitude = larger(fold(builder, ends[0], larger), ends[1])
        return builder.bitcast(magnitude, DOUBLE)

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
                _emit_quantize(
                    builder, vector.data, codes.data, at, count, *args[2:], totals
                )
            for n, total in enumerate(map(builder.load, totals)):
                add = builder.add if n < 2 else builder.fadd
                if n < 2:
                    wide = I64 if count == 1 else ir.VectorType(I64, count)
                    total = builder.sext(total, wide)
                if count > 1:
                    total = fold(builder, total, add)
                results[n] = add(results[n], total)
        return context.make_tuple(builder, signature.return_type, results)

    return signature, generate
