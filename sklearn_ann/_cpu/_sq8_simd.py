"""Vector arithmetic that Numba's own loops cannot express, emitted as LLVM IR.

A tile of integer dot products, the comparison that turns 64 bounds into 64 bits, and
the lowest of them. All is generic vector IR, which LLVM lowers to any machine, except
the multiply-add of the tile: it has tiers, chosen once from the features that LLVM
targets.

========== ============================== ==========================================
tier       needs                          one multiply-add step
========== ============================== ==========================================
avx512vnni AVX-512 VNNI                   ``vpdpbusd``, 16 rows x 4 features
avxvnni    AVX-VNNI, or VNNI with VL      ``vpdpbusd``, 8 rows x 4 features
avx512bw   AVX-512 BW                     ``vpmaddubsw``, 16 rows x 4 features
avx2       AVX2                           ``vpmaddubsw``, 8 rows x 4 features
portable   nothing                        32-bit multiplications, 8 rows
========== ============================== ==========================================

Integer arithmetic is exact. Tiers differ in how fine the codes of a query may be, that
is, in how many rows the filter leaves; the answers are the same.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from llvmlite import ir
from numba import types
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
    fold,
    load,
    pick,
    pointer,
    splat,
    store,
)
from sklearn_ann._cpu._numba import cgutils
from sklearn_ann._cpu._target import target_features
from sklearn_ann._layout import PANEL

# Queries of a tile: 4 queries x 64 rows are 16 accumulators of 512 bits, half the
# register file; 6 and 8 queries measured no faster.
TILE = 4

# Sums of ``dot_row`` under way at a time: they hide the latency of a multiply-add.
_CHAINS = 4


# -- the tiers: how one step of the tile multiplies and adds -------------------


class _Tier(NamedTuple):
    """One way to add the products of 4 features of some rows with those of a query."""

    name: str
    lanes: int  # rows in one vector
    vectors: int  # vectors of rows held in registers at once
    query_levels: int  # the largest code of a query
    multiply_add: callable  # (builder, acc, rows, query) -> acc


def _vpdpbusd(builder, acc, rows, query):
    name = f"llvm.x86.avx512.vpdpbusd.{32 * acc.type.count}"
    function = declare(builder, name, acc.type, [acc.type] * 3)
    return builder.call(function, [acc, rows, query])


def _vpmaddubsw(builder, acc, rows, query):
    # Pairs of products are added in 16 bits, which saturate: 2 * 255 * 63 does not.
    to_words, to_ints = {
        8: ("llvm.x86.avx2.pmadd.ub.sw", "llvm.x86.avx2.pmadd.wd"),
        16: ("llvm.x86.avx512.pmaddubs.w.512", "llvm.x86.avx512.pmaddw.d.512"),
    }[acc.type.count]
    bytes_type = ir.VectorType(I8, 4 * acc.type.count)
    words_type = ir.VectorType(I16, 2 * acc.type.count)
    function = declare(builder, to_words, words_type, [bytes_type] * 2)
    operands = [builder.bitcast(operand, bytes_type) for operand in (rows, query)]
    words = builder.call(function, operands)
    function = declare(builder, to_ints, acc.type, [words_type] * 2)
    ints = builder.call(function, [words, constant(words_type, 1)])
    return builder.add(acc, ints)


def _multiply(builder, acc, rows, query):
    for t in range(4):
        lift, drop = constant(acc.type, 24 - 8 * t), constant(acc.type, 24)
        row = builder.lshr(builder.shl(rows, lift), drop)
        signed = builder.ashr(builder.shl(query, lift), drop)
        acc = builder.add(acc, builder.mul(row, signed))
    return acc


def _select_tier():
    """The best tier among the features that LLVM generates code for."""
    have = target_features()
    if {"avx512vnni", "avx512bw"} <= have:
        return _Tier("avx512vnni", 16, 4, 127, _vpdpbusd)
    if "avxvnni" in have or {"avx512vnni", "avx512vl"} <= have:
        return _Tier("avxvnni", 8, 2, 127, _vpdpbusd)
    if "avx512bw" in have:
        return _Tier("avx512bw", 16, 4, 63, _vpmaddubsw)
    if "avx2" in have:
        return _Tier("avx2", 8, 2, 63, _vpmaddubsw)
    return _Tier("portable", 8, 2, 127, _multiply)


_TIER = _select_tier()

# The largest code of a query that the tile takes. Rows use all of a byte.
QUERY_LEVELS = _TIER.query_levels


def simd_tier():
    """Name of the tier in use: one of the table at the top of this file."""
    return _TIER.name


# -- the tile ------------------------------------------------------------------


def _emit_tile(builder, n_queries, steps, rows, queries, biases, dots):
    """Fill `dots` for the rows of one pass: as many as the tier keeps in registers."""
    acc_type = ir.VectorType(I32, _TIER.lanes)
    vector_bytes = 4 * _TIER.lanes
    accs = {}
    for i in range(n_queries):
        bias = load(builder, biases, ir.Constant(I64, 4 * i), I32)
        start = splat(builder, acc_type, bias)
        for j in range(_TIER.vectors):
            accs[i, j] = cgutils.alloca_once_value(builder, start)
    query_bytes = bytes_of(builder, steps, 4)
    with cgutils.for_range(builder, steps) as loop:
        at = bytes_of(builder, loop.index, 4 * PANEL)
        row_codes = []
        for j in range(_TIER.vectors):
            offset = builder.add(at, ir.Constant(I64, vector_bytes * j))
            row_codes.append(load(builder, rows, offset, acc_type))
        for i in range(n_queries):
            offset = builder.mul(query_bytes, ir.Constant(I64, i))
            offset = builder.add(offset, bytes_of(builder, loop.index, 4))
            four = splat(builder, acc_type, load(builder, queries, offset, I32))
            for j, codes in enumerate(row_codes):
                acc = builder.load(accs[i, j])
                acc = _TIER.multiply_add(builder, acc, codes, four)
                builder.store(acc, accs[i, j])
    for (i, j), acc in accs.items():
        offset = ir.Constant(I64, 4 * PANEL * i + vector_bytes * j)
        store(builder, builder.load(acc), dots, offset)


def _make_dot(n_queries):
    @intrinsic
    def dot(typingctx, codes, panel, queries, first, biases, dots, at):
        signature = types.void(
            codes, types.intp, queries, types.intp, biases, dots, types.intp
        )

        def generate(context, builder, signature, args):
            codes, panel, queries, first, biases, dots, at = args
            arrays = (signature.args[i] for i in (0, 2, 4, 5))
            codes, queries, biases, dots = (
                array_struct(context, builder, *pair)
                for pair in zip(arrays, (codes, queries, biases, dots), strict=True)
            )
            steps = axis_length(builder, codes, 1)
            panel_bytes = bytes_of(builder, steps, 4 * PANEL)
            rows = pointer(builder, codes.data, builder.mul(panel, panel_bytes), I8)
            offset = builder.mul(first, bytes_of(builder, steps, 4))
            query = pointer(builder, queries.data, offset, I8)
            bias = pointer(builder, biases.data, bytes_of(builder, first, 4), I8)
            out = pointer(builder, dots.data, bytes_of(builder, at, 4 * PANEL), I8)
            rows_per_pass = _TIER.lanes * _TIER.vectors
            passes = ir.Constant(I64, PANEL // rows_per_pass)
            with cgutils.for_range(builder, passes) as loop:
                lane = bytes_of(builder, loop.index, 4 * rows_per_pass)
                _emit_tile(
                    builder,
                    n_queries,
                    steps,
                    pointer(builder, rows, lane, I8),
                    query,
                    bias,
                    pointer(builder, out, lane, I8),
                )
            return context.get_dummy_value()

        return signature, generate

    return dot


# dot_*(
#     codes,    # IN   (n_panels, steps, 64, 4)  uint8
#     panel,    # IN   int
#     queries,  # IN   (nq, steps, 4)            int8    up to QUERY_LEVELS
#     first,    # IN   int                       first query of the tile
#     biases,   # IN   (nq,)                     int32   added to each dot product
#     dots,     # OUT  (n, 64)                   int32   one row per query of the tile,
#     at,       # IN   int                               from this row on
# )
dot_one = _make_dot(1)
dot_tile = _make_dot(TILE)


@intrinsic
def dot_row(typingctx, codes, row, queries, query, bias):
    """The integer dot product of one row of codes and those of a query, plus a bias.

    Of (n, 64 m) uint8 and (nq, 16 m, 4) int8. Like those of a tile, sums may wrap
    around on the way to a number that fits.
    """
    signature = types.int32(codes, types.intp, queries, types.intp, types.int32)

    def generate(context, builder, signature, args):
        codes, queries = (
            array_struct(context, builder, signature.args[n], args[n]) for n in (0, 2)
        )
        length = axis_length(builder, codes, 1)
        row, query = (
            pointer(builder, array.data, builder.mul(number, length), I8)
            for array, number in ((codes, args[1]), (queries, args[3]))
        )
        acc_type = ir.VectorType(I32, _TIER.lanes)
        none, width = constant(acc_type, 0), 4 * _TIER.lanes
        chains = [cgutils.alloca_once_value(builder, none) for _ in range(_CHAINS)]

        def add(chain, at):
            operands = (load(builder, codes, at, acc_type) for codes in (row, query))
            acc = _TIER.multiply_add(builder, builder.load(chain), *operands)
            builder.store(acc, chain)

        zero, step = (ir.Constant(I64, n) for n in (0, width))
        stride = ir.Constant(I64, _CHAINS * width)
        whole = builder.mul(builder.udiv(length, stride), stride)
        with cgutils.for_range_slice(builder, zero, whole, stride) as (at, _):
            for n, chain in enumerate(chains):
                add(chain, builder.add(at, ir.Constant(I64, n * width)))
        with cgutils.for_range_slice(builder, whole, length, step) as (at, _):
            add(chains[0], at)
        total = none
        for chain in chains:
            total = builder.add(total, builder.load(chain))
        return builder.add(fold(builder, total, builder.add), args[4])

    return signature, generate


# -- 64 bounds to 64 bits ------------------------------------------------------


def _panel_bounds(builder, dots, scales, sqnorms, factor, base):
    """``sqnorms - scales * (base + factor * dots)`` of the rows of a panel.

    The first three are pointers to the numbers of the panel.
    """
    floats, ints = ir.VectorType(FLOAT, PANEL), ir.VectorType(I32, PANEL)
    fma = declare(builder, f"llvm.fma.v{PANEL}f32", floats, [floats] * 3)
    zero = ir.Constant(I64, 0)
    dot = builder.sitofp(load(builder, dots, zero, ints), floats)
    factor, base = splat(builder, floats, factor), splat(builder, floats, base)
    slope = builder.call(fma, [factor, dot, base])
    scale = load(builder, scales, zero, floats)
    sqnorm = load(builder, sqnorms, zero, floats)
    return builder.call(fma, [builder.fneg(scale), slope, sqnorm])


def _panel_pointers(context, builder, signature, args, number, panel):
    """Pointers to 64 dot products, and to the scales and sqnorms of their panel."""
    numbers = number, panel, panel
    for array_type, array, n in zip(signature.args[:3], args, numbers, strict=True):
        data = array_struct(context, builder, array_type, array).data
        yield pointer(builder, data, bytes_of(builder, n, 4 * PANEL), I8)


@intrinsic
def survivors(typingctx, dots, scales, sqnorms, i, panel, factor, base, limit):
    """Bit j is set if row j of the panel may be a neighbour of query i.

    That is, unless ``sqnorms[j] - scales[j] * (base + factor * dots[i, j]) > limit``,
    in float32; a comparison with NaN leaves the bit set.
    """
    f4 = types.float32
    signature = types.uint64(dots, scales, sqnorms, types.intp, types.intp, f4, f4, f4)

    def generate(context, builder, signature, args):
        *arrays, i, panel, factor, base, limit = args
        pointers = _panel_pointers(context, builder, signature, arrays, i, panel)
        bound = _panel_bounds(builder, *pointers, factor, base)
        limit = splat(builder, bound.type, limit)
        return builder.bitcast(builder.fcmp_unordered("<=", bound, limit), I64)

    return signature, generate


@intrinsic
def lowest_bound(typingctx, dots, scales, sqnorms, i, panel, factor):
    """The smallest ``sqnorms[j] - scales[j] * factor * dots[i, j]`` of a panel.

    As in ``survivors``, with a base of 0.
    """
    f4 = types.float32
    signature = f4(dots, scales, sqnorms, types.intp, types.intp, f4)

    def generate(context, builder, signature, args):
        *arrays, i, panel, factor = args
        pointers = _panel_pointers(context, builder, signature, arrays, i, panel)
        zero = ir.Constant(FLOAT, 0.0)
        bound = _panel_bounds(builder, *pointers, factor, zero)
        return fold(builder, bound, partial(pick, builder, "<"))

    return signature, generate
