"""Vector arithmetic of encoding, as LLVM IR: nearest codewords, and sums of rows."""

from __future__ import annotations

from functools import partial

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sklearn_ann._cpu._ir import (
    DOUBLE,
    FLOAT,
    I8,
    I32,
    I64,
    array_struct,
    axis_length,
    bytes_of,
    constant,
    declare,
    fold,
    load,
    pick,
    pointer,
    row_of,
    splat,
    store,
)
from sklearn_ann._cpu._simd import target_features
from sklearn_ann._layout import CODEWORDS

_CHUNK = 8  # features that are added at a time

# Vectors that are encoded together, the floats of a register, and how many registers of
# them: accumulators for all must be there at once.
ROWS = 4
_LANES, _VECTORS = (16, 4) if "avx512f" in target_features() else (8, 2)
_CHUNKS = CODEWORDS // (_LANES * _VECTORS)

_HAS_FMA = "fma" in target_features()


def _multiply_subtract(builder, x, y, z):
    """``z - x * y``, in one step where the processor has one."""
    if not _HAS_FMA:
        return builder.fsub(z, builder.fmul(x, y))
    fma = declare(builder, f"llvm.fma.v{_LANES}f32", z.type, [z.type] * 3)
    return builder.call(fma, [builder.fneg(x), y, z])


def _emit_scores(builder, words, start, parts, dsub):
    """``start - c.v`` of some codewords c, from the pointer `words` on.

    `start` has a vector for each register of codewords, `parts` a pointer to each v.
    """
    floats = ir.VectorType(FLOAT, _LANES)
    sizes = [ir.Constant(I64, 4 * _LANES * v) for v in range(_VECTORS)]
    scores = [[cgutils.alloca_once_value(builder, v) for v in start] for _ in parts]
    with cgutils.for_range(builder, dsub) as loop:
        at = bytes_of(builder, loop.index, 4 * CODEWORDS)
        row = pointer(builder, words, at, I8)
        row = [load(builder, row, size, floats) for size in sizes]
        for part, of_part in zip(parts, scores, strict=True):
            feature = load(builder, part, bytes_of(builder, loop.index, 4), FLOAT)
            feature = splat(builder, floats, feature)
            for word, score in zip(row, of_part, strict=True):
                value = builder.load(score)
                value = _multiply_subtract(builder, feature, word, value)
                builder.store(value, score)
    return [[builder.load(score) for score in of_part] for of_part in scores]


def _emit_smallest(builder, best, numbers):
    """The number of the smallest score, the smaller one among equal scores."""
    lowest = fold(builder, best, partial(pick, builder, "<"))
    is_best = builder.fcmp_ordered("==", best, splat(builder, best.type, lowest))
    numbers = builder.select(is_best, numbers, constant(numbers.type, CODEWORDS))

    def smaller(a, b):
        return builder.select(builder.icmp_signed("<", a, b), a, b)

    return fold(builder, numbers, smaller)


@intrinsic
def nearest_codewords(typingctx, codebooks, halves, j, vectors, i, codes):
    """``codes[i : i + 4, j]``: the codewords nearest to part j of four vectors.

    The smaller number among equally near ones, in float32 arithmetic.
    """
    intp = types.intp
    signature = types.void(codebooks, halves, intp, vectors, intp, codes)

    def generate(context, builder, signature, args):
        codebooks, halves, vectors, codes = (
            array_struct(context, builder, signature.args[at], args[at])
            for at in (0, 1, 3, 5)
        )
        j, i = args[2], args[4]
        m, dsub = (axis_length(builder, codebooks, axis) for axis in (0, 1))
        rows = [builder.add(i, ir.Constant(I64, r)) for r in range(ROWS)]
        parts = [builder.mul(builder.add(builder.mul(r, m), j), dsub) for r in rows]
        parts = [
            pointer(builder, vectors.data, bytes_of(builder, part, 4), I8)
            for part in parts
        ]
        size = bytes_of(builder, dsub, 4 * CODEWORDS)
        words = pointer(builder, codebooks.data, builder.mul(j, size), I8)
        halves = pointer(builder, halves.data, bytes_of(builder, j, 4 * CODEWORDS), I8)
        floats, ints = ir.VectorType(FLOAT, _LANES), ir.VectorType(I32, _LANES)
        state = [
            (
                cgutils.alloca_once_value(builder, constant(floats, float("inf"))),
                cgutils.alloca_once_value(builder, constant(ints, 0)),
            )
            for _ in rows
        ]
        with cgutils.for_range(builder, ir.Constant(I64, _CHUNKS)) as loop:
            at = bytes_of(builder, loop.index, 4 * _LANES * _VECTORS)
            chunk, half = (pointer(builder, base, at, I8) for base in (words, halves))
            # |c|^2 / 2 - c.v is the smallest for the nearest.
            start = [
                load(builder, half, ir.Constant(I64, 4 * _LANES * v), floats)
                for v in range(_VECTORS)
            ]
            scores = _emit_scores(builder, chunk, start, parts, dsub)
            first = builder.mul(loop.index, ir.Constant(I64, _LANES * _VECTORS))
            first = splat(builder, ints, builder.trunc(first, I32))
            for (best, numbers), of_part in zip(state, scores, strict=True):
                for v, score in enumerate(of_part):
                    lanes = range(_LANES * v, _LANES * (v + 1))
                    these = builder.add(first, ir.Constant(ints, list(lanes)))
                    so_far = builder.load(best), builder.load(numbers)
                    is_less = builder.fcmp_ordered("<", score, so_far[0])
                    builder.store(builder.select(is_less, score, so_far[0]), best)
                    builder.store(builder.select(is_less, these, so_far[1]), numbers)
        for row, found in zip(rows, state, strict=True):
            number = _emit_smallest(builder, *map(builder.load, found))
            at = builder.add(builder.mul(row, m), j)
            store(builder, builder.trunc(number, I8), codes.data, at)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def multiply_part(typingctx, codebooks, j, vector, tables, i):
    """``tables[i, j]``: -2 times the products of part j of a vector and codewords."""
    intp = types.intp
    signature = types.void(codebooks, intp, vector, tables, intp)

    def generate(context, builder, signature, args):
        codebooks, j, vector, tables, i = args
        codebooks, vector, tables = (
            array_struct(context, builder, signature.args[at], array)
            for at, array in ((0, codebooks), (2, vector), (3, tables))
        )
        m, dsub = (axis_length(builder, codebooks, axis) for axis in (0, 1))
        first = builder.mul(j, dsub)
        part = pointer(builder, vector.data, bytes_of(builder, first, 4), I8)
        at = bytes_of(builder, first, 4 * CODEWORDS)
        words = pointer(builder, codebooks.data, at, I8)
        number = builder.add(builder.mul(i, m), j)
        at = bytes_of(builder, number, 4 * CODEWORDS)
        table = pointer(builder, tables.data, at, I8)
        floats = ir.VectorType(FLOAT, _LANES)
        start = [constant(floats, 0.0)] * _VECTORS
        with cgutils.for_range(builder, ir.Constant(I64, _CHUNKS)) as loop:
            at = bytes_of(builder, loop.index, 4 * _LANES * _VECTORS)
            chunk = pointer(builder, words, at, I8)
            (products,) = _emit_scores(builder, chunk, start, [part], dsub)
            for v, product in enumerate(products):
                offset = builder.add(at, ir.Constant(I64, 4 * _LANES * v))
                store(builder, builder.fadd(product, product), table, offset)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def add_part(typingctx, sums, j, code, vectors, i):
    """Add part j of ``vectors[i]`` to ``sums[j, code]``, (m, 256, dsub) float64."""
    intp = types.intp
    signature = types.void(sums, intp, intp, vectors, intp)

    def generate(context, builder, signature, args):
        sums, j, code, vectors, i = args
        sums = array_struct(context, builder, signature.args[0], sums)
        dsub = axis_length(builder, sums, 2)
        row = builder.add(builder.mul(j, ir.Constant(I64, CODEWORDS)), code)
        at = bytes_of(builder, builder.mul(row, dsub), 8)
        total = pointer(builder, sums.data, at, I8)
        part = row_of(context, builder, signature.args[3], vectors, i)
        first = builder.mul(j, dsub)
        zero, one, chunk = (ir.Constant(I64, n) for n in (0, 1, _CHUNK))
        whole = builder.mul(builder.udiv(dsub, chunk), chunk)
        for count, start, stop, step in (
            (_CHUNK, zero, whole, chunk),
            (1, whole, dsub, one),
        ):
            doubles = DOUBLE if count == 1 else ir.VectorType(DOUBLE, count)
            with cgutils.for_range_slice(builder, start, stop, step) as (at, _):
                value = part.load(builder, builder.add(first, at), count)
                offset = bytes_of(builder, at, 8)
                so_far = load(builder, total, offset, doubles)
                store(builder, builder.fadd(so_far, value), total, offset)
        return context.get_dummy_value()

    return signature, generate
