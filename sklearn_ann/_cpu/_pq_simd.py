"""Vector arithmetic of product quantization, as LLVM IR.

Three things: the nearest codeword, a sum of table entries for 64 codes at once, and the
comparison of 64 such sums with a limit. With AVX-512 VBMI a table of 256 bytes is held
in four registers and 64 codes are looked up by two byte permutes (after Quicker ADC:
Andre, Kermarrec and Le Scouarnec, 2019); elsewhere the look-ups are plain loads.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sklearn_ann._cpu._ir import (
    FLOAT,
    I8,
    I16,
    I32,
    I64,
    array_struct,
    axis_length,
    bytes_of,
    constant,
    declare,
    load,
    pointer,
    splat,
    store,
)
from sklearn_ann._cpu._simd import target_features
from sklearn_ann._layout import CODEWORDS, PANEL

_HAS_PERMUTE = {"avx512vbmi", "avx512bw"} <= target_features()
_HAS_FMA = "fma" in target_features()

_LANES = 16  # floats in one vector
_VECTORS = CODEWORDS // (2 * _LANES)  # of accumulators: half of the codewords at a time


def _multiply_subtract(builder, x, y, z):
    """``z - x * y``, in one step where the processor has one."""
    if not _HAS_FMA:
        return builder.fsub(z, builder.fmul(x, y))
    fma = declare(builder, f"llvm.fma.v{_LANES}f32", z.type, [z.type] * 3)
    return builder.call(fma, [builder.fneg(x), y, z])


def _emit_scores(builder, codewords, halves, vector, dsub):
    """``|c|^2 / 2 - c.v`` of 128 codewords: the smallest belongs to the nearest."""
    floats = ir.VectorType(FLOAT, _LANES)
    scores = []
    for v in range(_VECTORS):
        start = load(builder, halves, ir.Constant(I64, 4 * _LANES * v), floats)
        scores.append(cgutils.alloca_once_value(builder, start))
    with cgutils.for_range(builder, dsub) as loop:
        feature = load(builder, vector, bytes_of(builder, loop.index, 4), FLOAT)
        feature = splat(builder, floats, feature)
        at = bytes_of(builder, loop.index, 4 * CODEWORDS)
        for v, score in enumerate(scores):
            offset = builder.add(at, ir.Constant(I64, 4 * _LANES * v))
            words = load(builder, codewords, offset, floats)
            value = _multiply_subtract(builder, feature, words, builder.load(score))
            builder.store(value, score)
    return [builder.load(score) for score in scores]


@intrinsic
def nearest_codeword(typingctx, codebooks, halves, j, vector):
    """Number of the codeword of sub-quantizer j nearest to its part of a vector.

    The smaller one among equally near ones, in float32 arithmetic.
    """
    signature = types.intp(codebooks, halves, types.intp, vector)

    def generate(context, builder, signature, args):
        codebooks, halves, j, vector = args
        structs = (
            array_struct(context, builder, signature.args[at], args[at])
            for at in (0, 1, 3)
        )
        codebooks, halves, vector = structs
        dsub = axis_length(builder, codebooks, 1)
        size = builder.mul(dsub, ir.Constant(I64, 4 * CODEWORDS))
        codewords = pointer(builder, codebooks.data, builder.mul(j, size), I8)
        halves = pointer(builder, halves.data, bytes_of(builder, j, 4 * CODEWORDS), I8)
        part = builder.mul(bytes_of(builder, j, 4), dsub)
        vector = pointer(builder, vector.data, part, I8)
        floats, ints = ir.VectorType(FLOAT, _LANES), ir.VectorType(I32, _LANES)
        best, numbers = constant(floats, float("inf")), constant(ints, 0)
        for half in range(2):
            at = ir.Constant(I64, 4 * _LANES * _VECTORS * half)
            operands = (pointer(builder, base, at, I8) for base in (codewords, halves))
            scores = _emit_scores(builder, *operands, vector, dsub)
            for v, score in enumerate(scores):
                first = _LANES * (_VECTORS * half + v)
                these = ir.Constant(ints, list(range(first, first + _LANES)))
                is_less = builder.fcmp_ordered("<", score, best)
                best = builder.select(is_less, score, best)
                numbers = builder.select(is_less, these, numbers)
        name = f"llvm.vector.reduce.fmin.v{_LANES}f32"
        lowest = builder.call(declare(builder, name, FLOAT, [floats]), [best])
        is_best = builder.fcmp_ordered("==", best, splat(builder, floats, lowest))
        numbers = builder.select(is_best, numbers, constant(ints, CODEWORDS))
        name = f"llvm.vector.reduce.smin.v{_LANES}i32"
        number = builder.call(declare(builder, name, I32, [ints]), [numbers])
        return builder.sext(number, I64)

    return signature, generate


def _table(context, builder, array_type, array, i, j):
    """Pointer to ``array[i, j]``, 256 entries."""
    struct = array_struct(context, builder, array_type, array)
    m = axis_length(builder, struct, 1)
    number = builder.add(builder.mul(i, m), j)
    size = builder.extract_value(struct.strides, 1)
    return pointer(builder, struct.data, builder.mul(number, size), I8)


@intrinsic
def table_range(typingctx, tables, i, j):
    """The smallest and the largest entry of ``tables[i, j]``."""
    signature = types.UniTuple(types.float32, 2)(tables, types.intp, types.intp)

    def generate(context, builder, signature, args):
        table = _table(context, builder, signature.args[0], *args)
        floats = ir.VectorType(FLOAT, PANEL)
        ends = []
        for name, sign in (("fmin", "<"), ("fmax", ">")):
            end = load(builder, table, ir.Constant(I64, 0), floats)
            for part in range(1, CODEWORDS // PANEL):
                at = ir.Constant(I64, 4 * PANEL * part)
                entries = load(builder, table, at, floats)
                is_further = builder.fcmp_ordered(sign, entries, end)
                end = builder.select(is_further, entries, end)
            name = f"llvm.vector.reduce.{name}.v{PANEL}f32"
            ends.append(builder.call(declare(builder, name, FLOAT, [floats]), [end]))
        return context.make_tuple(builder, signature.return_type, ends)

    return signature, generate


@intrinsic
def round_table(typingctx, tables, bytes_, i, j, lowest, inverse, largest):
    """``bytes_[i, j] = (tables[i, j] - lowest) * inverse``, down, `largest` at most."""
    f4 = types.float32
    signature = types.void(tables, bytes_, types.intp, types.intp, f4, f4, f4)

    def generate(context, builder, signature, args):
        tables, bytes_, i, j, *scalars = args
        table = _table(context, builder, signature.args[0], tables, i, j)
        row = _table(context, builder, signature.args[1], bytes_, i, j)
        floats = ir.VectorType(FLOAT, PANEL)
        lowest, inverse, largest = (splat(builder, floats, s) for s in scalars)
        for part in range(CODEWORDS // PANEL):
            entries = load(builder, table, ir.Constant(I64, 4 * PANEL * part), floats)
            steps = builder.fmul(builder.fsub(entries, lowest), inverse)
            is_less = builder.fcmp_ordered("<", steps, largest)
            steps = builder.select(is_less, steps, largest)
            ints = builder.fptosi(steps, ir.VectorType(I32, PANEL))
            small = builder.trunc(ints, ir.VectorType(I8, PANEL))
            store(builder, small, row, ir.Constant(I64, PANEL * part))
        return context.get_dummy_value()

    return signature, generate


def _permute(builder, codes, table):
    """64 entries of a table of 256 bytes."""
    bytes_type = ir.VectorType(I8, PANEL)
    name = "llvm.x86.avx512.vpermi2var.qi.512"
    permute = declare(builder, name, bytes_type, [bytes_type] * 3)
    parts = [
        load(builder, table, ir.Constant(I64, PANEL * part), bytes_type)
        for part in range(4)
    ]
    low = builder.call(permute, [parts[0], codes, parts[1]])
    high = builder.call(permute, [parts[2], codes, parts[3]])
    is_high = builder.icmp_signed("<", codes, ir.Constant(bytes_type, None))
    return builder.select(is_high, high, low)


def _look_up(builder, codes, table):
    """The same, one entry after the other."""
    entries = ir.Constant(codes.type, ir.Undefined)
    for lane in range(PANEL):
        at = ir.Constant(I32, lane)
        offset = builder.zext(builder.extract_element(codes, at), I64)
        entry = load(builder, table, offset, I8)
        entries = builder.insert_element(entries, entry, at)
    return entries


@intrinsic
def sum_entries(typingctx, codes, panel, tables, i, sums):
    """``sums[lane]`` of ``tables[i, j, codes[panel, j, lane]]`` over all j."""
    signature = types.void(codes, types.intp, tables, types.intp, sums)

    def generate(context, builder, signature, args):
        codes, panel, tables, i, sums = args
        codes, tables, sums = (
            array_struct(context, builder, signature.args[at], args[at])
            for at in (0, 2, 4)
        )
        m = axis_length(builder, codes, 1)
        at = builder.mul(panel, bytes_of(builder, m, PANEL))
        codes = pointer(builder, codes.data, at, I8)
        at = builder.mul(i, bytes_of(builder, m, CODEWORDS))
        table = pointer(builder, tables.data, at, I8)
        words = ir.VectorType(I16, PANEL)
        total = cgutils.alloca_once_value(builder, ir.Constant(words, None))
        with cgutils.for_range(builder, m) as loop:
            offset = bytes_of(builder, loop.index, PANEL)
            code = load(builder, codes, offset, ir.VectorType(I8, PANEL))
            offset = bytes_of(builder, loop.index, CODEWORDS)
            row = pointer(builder, table, offset, I8)
            entries = (_permute if _HAS_PERMUTE else _look_up)(builder, code, row)
            wide = builder.zext(entries, words)
            builder.store(builder.add(builder.load(total), wide), total)
        store(builder, builder.load(total), sums.data, ir.Constant(I64, 0))
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def sums_within(typingctx, sums, terms, panel, step, limit):
    """Bit j is set unless ``terms[64 * panel + j] + step * sums[j] > limit``."""
    f4 = types.float32
    signature = types.uint64(sums, terms, types.intp, f4, f4)

    def generate(context, builder, signature, args):
        sums, terms, panel, step, limit = args
        sums = array_struct(context, builder, signature.args[0], sums)
        terms = array_struct(context, builder, signature.args[1], terms)
        floats = ir.VectorType(FLOAT, PANEL)
        words = load(
            builder, sums.data, ir.Constant(I64, 0), ir.VectorType(I16, PANEL)
        )
        term = load(builder, terms.data, bytes_of(builder, panel, 4 * PANEL), floats)
        product = builder.fmul(
            splat(builder, floats, step), builder.uitofp(words, floats)
        )
        bound = builder.fadd(term, product)
        limit = splat(builder, floats, limit)
        return builder.bitcast(builder.fcmp_ordered("<=", bound, limit), I64)

    return signature, generate
