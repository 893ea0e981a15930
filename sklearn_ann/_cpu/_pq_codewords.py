"""Vector arithmetic with codewords, as LLVM IR: nearest, products, sums, decoding."""

from __future__ import annotations

from functools import partial

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from sklearn_ann._cpu._ir import (
    DOUBLE,
    FLOAT,
    I8,
    I32,
    I64,
    Row,
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
from sklearn_ann._cpu._numba import cgutils
from sklearn_ann._cpu._target import target_features
from sklearn_ann._layout import CODEWORDS, PANEL

# Features that are added or decoded at a time: so many, and then the rest.
_STEPS = 8, 4, 1

# Vectors that are multiplied together, the floats of a register, and how many registers
# of them: accumulators for all must be there at once.
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


def _codebook(builder, codebooks_t, j):
    """Pointer to codebook j of (m, dsub, 256) float32."""
    size = bytes_of(builder, axis_length(builder, codebooks_t, 1), 4 * CODEWORDS)
    return pointer(builder, codebooks_t.data, builder.mul(j, size), I8)


def _parts(builder, vectors, codebooks_t, i, j, n_rows):
    """Pointers to part j of some rows of (n, m * dsub) float32, from row i on."""
    m, dsub = (axis_length(builder, codebooks_t, axis) for axis in (0, 1))
    rows = [builder.add(i, ir.Constant(I64, row)) for row in range(n_rows)]
    numbers = [builder.add(builder.mul(row, m), j) for row in rows]
    sizes = [bytes_of(builder, builder.mul(number, dsub), 4) for number in numbers]
    return [pointer(builder, vectors.data, size, I8) for size in sizes]


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
def nearest_codewords(typingctx, codebooks_t, half_sqnorms, j, vectors, i, codes):
    """``codes[i : i + 4, j]``: the codewords nearest to part j of four vectors.

    The smaller number among equally near ones, in float32 arithmetic.
    """
    intp = types.intp
    signature = types.void(codebooks_t, half_sqnorms, intp, vectors, intp, codes)

    def generate(context, builder, signature, args):
        codebooks_t, half_sqnorms, vectors, codes = (
            array_struct(context, builder, signature.args[at], args[at])
            for at in (0, 1, 3, 5)
        )
        j, i = args[2], args[4]
        m, dsub = (axis_length(builder, codebooks_t, axis) for axis in (0, 1))
        parts = _parts(builder, vectors, codebooks_t, i, j, ROWS)
        words = _codebook(builder, codebooks_t, j)
        at = bytes_of(builder, j, 4 * CODEWORDS)
        halves = pointer(builder, half_sqnorms.data, at, I8)
        floats, ints = ir.VectorType(FLOAT, _LANES), ir.VectorType(I32, _LANES)
        state = [
            (
                cgutils.alloca_once_value(builder, constant(floats, float("inf"))),
                cgutils.alloca_once_value(builder, constant(ints, 0)),
            )
            for _ in parts
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
        for row, found in enumerate(state):
            number = _emit_smallest(builder, *map(builder.load, found))
            at = builder.add(builder.mul(builder.add(i, ir.Constant(I64, row)), m), j)
            store(builder, builder.trunc(number, I8), codes.data, at)
        return context.get_dummy_value()

    return signature, generate


def _multiplier(n_rows):
    @intrinsic
    def multiply(typingctx, codebooks_t, j, vectors, i, products):
        intp = types.intp
        signature = types.void(codebooks_t, intp, vectors, intp, products)

        def generate(context, builder, signature, args):
            codebooks_t, vectors, products = (
                array_struct(context, builder, signature.args[at], args[at])
                for at in (0, 2, 4)
            )
            j, i = args[1], args[3]
            dsub = axis_length(builder, codebooks_t, 1)
            parts = _parts(builder, vectors, codebooks_t, i, j, n_rows)
            words = _codebook(builder, codebooks_t, j)
            to_next = ir.Constant(I64, 4 * CODEWORDS)
            floats = ir.VectorType(FLOAT, _LANES)
            start = [constant(floats, 0.0)] * _VECTORS
            with cgutils.for_range(builder, ir.Constant(I64, _CHUNKS)) as loop:
                at = bytes_of(builder, loop.index, 4 * _LANES * _VECTORS)
                chunk = pointer(builder, words, at, I8)
                for of_part in _emit_scores(builder, chunk, start, parts, dsub):
                    for v, product in enumerate(of_part):
                        offset = builder.add(at, ir.Constant(I64, 4 * _LANES * v))
                        store(builder, product, products.data, offset)
                    at = builder.add(at, to_next)
            return context.get_dummy_value()

        return signature, generate

    return multiply


# ``products[0]``: products of part j of ``vectors[i]`` and codewords, their signs
# turned; and ``products``, those of ``vectors[i : i + ROWS]``.
multiply_part, multiply_parts = _multiplier(1), _multiplier(ROWS)


def _steps(builder, length):
    """Pairs of a number and how many to take from there on, to loop over `length`.

    What is written in the body becomes a loop for each of _STEPS.
    """
    start = ir.Constant(I64, 0)
    for count in _STEPS:
        size = ir.Constant(I64, count)
        stop = builder.mul(builder.sdiv(length, size), size)
        with cgutils.for_range_slice(builder, start, stop, size) as (at, _):
            yield at, count
        start = stop


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
        total = Row(pointer(builder, sums.data, at, I8), DOUBLE, dsub)
        part = row_of(context, builder, signature.args[3], vectors, i)
        first = builder.mul(j, dsub)
        for at, count in _steps(builder, dsub):
            value = part.load(builder, builder.add(first, at), count)
            so_far = total.load(builder, at, count)
            offset = bytes_of(builder, at, 8)
            store(builder, builder.fadd(so_far, value), total.data, offset)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def decode_codes(typingctx, codebooks, codes, panel, lane, centroids, label, decoded):
    """``decoded[0]``, float64: ``centroids[label]`` plus codewords, in their places.

    They are those of ``codes[panel, :, lane]``.
    """
    intp = types.intp
    signature = types.void(codebooks, codes, intp, intp, centroids, intp, decoded)

    def generate(context, builder, signature, args):
        codebooks, codes = (
            array_struct(context, builder, signature.args[at], args[at])
            for at in range(2)
        )
        panel, lane = args[2:4]
        centroid, vector = (
            row_of(context, builder, signature.args[at], array, row)
            for at, array, row in ((4, *args[4:6]), (6, args[6], ir.Constant(I64, 0)))
        )
        m, dsub = (axis_length(builder, codebooks, axis) for axis in (0, 2))
        at = builder.add(bytes_of(builder, builder.mul(panel, m), PANEL), lane)
        column = pointer(builder, codes.data, at, I8)
        with cgutils.for_range(builder, m) as loop:
            j, first = loop.index, builder.mul(loop.index, dsub)
            code = load(builder, column, bytes_of(builder, j, PANEL), I8)
            row = builder.add(bytes_of(builder, j, CODEWORDS), builder.zext(code, I64))
            at = bytes_of(builder, builder.mul(row, dsub), 4)
            word = Row(pointer(builder, codebooks.data, at, I8), FLOAT, dsub)
            # The last parts may reach beyond the features.
            left = builder.sub(vector.length, first)
            is_less = builder.icmp_signed("<", left, dsub)
            for at, count in _steps(builder, builder.select(is_less, left, dsub)):
                place = builder.add(first, at)
                known = centroid.load(builder, place, count)
                value = builder.fadd(known, word.load(builder, at, count))
                store(builder, value, vector.data, bytes_of(builder, place, 8))
        return context.get_dummy_value()

    return signature, generate
