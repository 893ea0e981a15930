"""Vector arithmetic that Numba's own loops cannot express, emitted as LLVM IR.

Five things: a tile of integer dot products, the comparison that turns 64 bounds into
64 bits, the lowest set bit, the exact distance, and a prefetch. All is generic vector
IR, which LLVM lowers to any machine, except the multiply-add of the tile: that one has
tiers, chosen once from the features that LLVM targets. (An intrinsic that the target
lacks aborts the process, so what the processor could do is the wrong question.)

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

from typing import NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from sklearn_ann._layout import PANEL

# Queries of a tile: 4 queries x 64 rows are 16 accumulators of 512 bits, half the
# register file; 6 and 8 queries measured no faster.
TILE = 4

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_FLOAT, _DOUBLE = ir.FloatType(), ir.DoubleType()


# -- small helpers for IR ------------------------------------------------------


def _splat(builder, vector_type, scalar):
    """A vector with `scalar` in every lane."""
    empty = ir.Constant(vector_type, ir.Undefined)
    first = builder.insert_element(empty, scalar, ir.Constant(_I32, 0))
    lanes = ir.Constant(ir.VectorType(_I32, vector_type.count), [0] * vector_type.count)
    return builder.shuffle_vector(first, empty, lanes)


def _constant(vector_type, value):
    return ir.Constant(vector_type, [value] * vector_type.count)


def _function(builder, name, result, arguments):
    function_type = ir.FunctionType(result, arguments)
    return cgutils.get_or_insert_function(builder.module, function_type, name)


def _pointer(builder, base, offset, item_type):
    """`offset` bytes after the pointer `base`, as a pointer to `item_type`."""
    raw = builder.bitcast(base, _I8.as_pointer())
    return builder.bitcast(builder.gep(raw, [offset]), item_type.as_pointer())


def _load(builder, base, offset, item_type):
    # Unpickled and memory-mapped arrays start anywhere: no alignment is promised.
    value = builder.load(_pointer(builder, base, offset, item_type))
    value.align = 1
    return value


def _store(builder, value, base, offset):
    builder.store(value, _pointer(builder, base, offset, value.type)).align = 1


def _struct(context, builder, array_type, array):
    return context.make_array(array_type)(context, builder, array)


def _length(builder, struct, axis):
    return builder.extract_value(struct.shape, axis)


def _bytes(builder, count, size):
    return builder.mul(count, ir.Constant(_I64, size))


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
    function = _function(builder, name, acc.type, [acc.type] * 3)
    return builder.call(function, [acc, rows, query])


def _vpmaddubsw(builder, acc, rows, query):
    # Pairs of products are added in 16 bits, which saturate: 2 * 255 * 63 does not.
    to_words, to_ints = {
        8: ("llvm.x86.avx2.pmadd.ub.sw", "llvm.x86.avx2.pmadd.wd"),
        16: ("llvm.x86.avx512.pmaddubs.w.512", "llvm.x86.avx512.pmaddw.d.512"),
    }[acc.type.count]
    bytes_type = ir.VectorType(_I8, 4 * acc.type.count)
    words_type = ir.VectorType(_I16, 2 * acc.type.count)
    function = _function(builder, to_words, words_type, [bytes_type] * 2)
    operands = [builder.bitcast(operand, bytes_type) for operand in (rows, query)]
    words = builder.call(function, operands)
    function = _function(builder, to_ints, acc.type, [words_type] * 2)
    ints = builder.call(function, [words, _constant(words_type, 1)])
    return builder.add(acc, ints)


def _multiply(builder, acc, rows, query):
    for t in range(4):
        lift, drop = _constant(acc.type, 24 - 8 * t), _constant(acc.type, 24)
        row = builder.lshr(builder.shl(rows, lift), drop)
        signed = builder.ashr(builder.shl(query, lift), drop)
        acc = builder.add(acc, builder.mul(row, signed))
    return acc


def _select_tier():
    """The best tier among the features that LLVM generates code for."""
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    have = {name[1:] for name in features.split(",") if name.startswith("+")}
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
    tier = _TIER
    acc_type = ir.VectorType(_I32, tier.lanes)
    vector_bytes = 4 * tier.lanes
    accs = {}
    for i in range(n_queries):
        bias = _load(builder, biases, ir.Constant(_I64, 4 * i), _I32)
        start = _splat(builder, acc_type, bias)
        for j in range(tier.vectors):
            accs[i, j] = cgutils.alloca_once_value(builder, start)
    query_bytes = _bytes(builder, steps, 4)
    with cgutils.for_range(builder, steps) as loop:
        at = _bytes(builder, loop.index, 4 * PANEL)
        row_codes = []
        for j in range(tier.vectors):
            offset = builder.add(at, ir.Constant(_I64, vector_bytes * j))
            row_codes.append(_load(builder, rows, offset, acc_type))
        for i in range(n_queries):
            offset = builder.mul(query_bytes, ir.Constant(_I64, i))
            offset = builder.add(offset, _bytes(builder, loop.index, 4))
            four = _splat(builder, acc_type, _load(builder, queries, offset, _I32))
            for j, codes in enumerate(row_codes):
                acc = builder.load(accs[i, j])
                acc = tier.multiply_add(builder, acc, codes, four)
                builder.store(acc, accs[i, j])
    for (i, j), acc in accs.items():
        offset = ir.Constant(_I64, 4 * PANEL * i + vector_bytes * j)
        _store(builder, builder.load(acc), dots, offset)


def _make_dot(n_queries):
    @intrinsic
    def dot(typingctx, codes, panel, queries, first, biases, dots):
        signature = types.void(codes, types.intp, queries, types.intp, biases, dots)

        def generate(context, builder, signature, args):
            codes, panel, queries, first, biases, dots = args
            arrays = (signature.args[i] for i in (0, 2, 4, 5))
            codes, queries, biases, dots = (
                _struct(context, builder, *pair)
                for pair in zip(arrays, (codes, queries, biases, dots), strict=True)
            )
            steps = _length(builder, codes, 1)
            panel_bytes = _bytes(builder, steps, 4 * PANEL)
            rows = _pointer(builder, codes.data, builder.mul(panel, panel_bytes), _I8)
            offset = builder.mul(first, _bytes(builder, steps, 4))
            query = _pointer(builder, queries.data, offset, _I8)
            bias = _pointer(builder, biases.data, _bytes(builder, first, 4), _I8)
            rows_per_pass = _TIER.lanes * _TIER.vectors
            passes = ir.Constant(_I64, PANEL // rows_per_pass)
            with cgutils.for_range(builder, passes) as loop:
                at = _bytes(builder, loop.index, 4 * rows_per_pass)
                _emit_tile(
                    builder,
                    n_queries,
                    steps,
                    _pointer(builder, rows, at, _I8),
                    query,
                    bias,
                    _pointer(builder, dots.data, at, _I8),
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
#     dots,     # OUT  (4, 64)                   int32   one row per query of the tile
# )
dot_one = _make_dot(1)
dot_tile = _make_dot(TILE)


# -- 64 bounds to 64 bits ------------------------------------------------------


@intrinsic
def survivors(typingctx, dots, i, scales, sqnorms, panel, factor, base, limit):
    """Bit j is set if row j of the panel may be a neighbour of query i.

    That is, unless ``sqnorms[j] - scales[j] * (base + factor * dots[i, j]) > limit``,
    in float32; a comparison with NaN leaves the bit set.
    """
    f4 = types.float32
    signature = types.uint64(dots, types.intp, scales, sqnorms, types.intp, f4, f4, f4)

    def generate(context, builder, signature, args):
        dots, i, scales, sqnorms, panel, factor, base, limit = args
        dots = _struct(context, builder, signature.args[0], dots)
        scales = _struct(context, builder, signature.args[2], scales)
        sqnorms = _struct(context, builder, signature.args[3], sqnorms)
        floats, ints = ir.VectorType(_FLOAT, PANEL), ir.VectorType(_I32, PANEL)
        fma = _function(builder, f"llvm.fma.v{PANEL}f32", floats, [floats] * 3)
        at = _bytes(builder, panel, 4 * PANEL)
        dot = _load(builder, dots.data, _bytes(builder, i, 4 * PANEL), ints)
        factor = _splat(builder, floats, factor)
        base, limit = _splat(builder, floats, base), _splat(builder, floats, limit)
        slope = builder.call(fma, [factor, builder.sitofp(dot, floats), base])
        scale = _load(builder, scales.data, at, floats)
        sqnorm = _load(builder, sqnorms.data, at, floats)
        bound = builder.call(fma, [builder.fneg(scale), slope, sqnorm])
        return builder.bitcast(builder.fcmp_unordered("<=", bound, limit), _I64)

    return signature, generate


@intrinsic
def lowest_bit(typingctx, mask):
    """Number of the lowest bit that is set in a 64-bit mask, which is not 0."""

    def generate(context, builder, signature, args):
        function = _function(builder, "llvm.cttz.i64", _I64, [_I64, ir.IntType(1)])
        return builder.call(function, [args[0], ir.Constant(ir.IntType(1), 1)])

    return types.intp(types.uint64), generate


# -- the exact distance --------------------------------------------------------

_LANES = 8  # doubles in one vector
_CHAINS = 4  # additions in flight: hides the latency of an addition


class _Row(NamedTuple):
    """One row of a 2-D array, in the machine code to be."""

    data: ir.Value
    item_type: ir.Type
    length: ir.Value

    def load(self, builder, at, count):
        """`count` values from number `at` on, as doubles: a vector, or one double."""
        offset = _bytes(builder, at, 4 if self.item_type == _FLOAT else 8)
        narrow, wide = self.item_type, _DOUBLE
        if count > 1:
            narrow, wide = ir.VectorType(narrow, count), ir.VectorType(wide, count)
        value = _load(builder, self.data, offset, narrow)
        return value if self.item_type == _DOUBLE else builder.fpext(value, wide)


def _row(context, builder, array_type, array, i):
    struct = _struct(context, builder, array_type, array)
    is_single = array_type.dtype == types.float32
    item_type, size = (_FLOAT, 4) if is_single else (_DOUBLE, 8)
    length = _length(builder, struct, 1)
    offset = _bytes(builder, builder.mul(i, length), size)
    return _Row(_pointer(builder, struct.data, offset, _I8), item_type, length)


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
        x = _row(context, builder, signature.args[0], args[0], args[1])
        y = _row(context, builder, signature.args[2], args[2], args[3])
        zeros = _constant(ir.VectorType(_DOUBLE, _LANES), 0.0)
        chains = [cgutils.alloca_once_value(builder, zeros) for _ in range(_CHAINS)]
        total = cgutils.alloca_once_value(builder, ir.Constant(_DOUBLE, 0.0))
        zero, one = ir.Constant(_I64, 0), ir.Constant(_I64, 1)
        stride = ir.Constant(_I64, _LANES * _CHAINS)
        whole = builder.mul(builder.udiv(x.length, stride), stride)
        with cgutils.for_range_slice(builder, zero, whole, stride) as (t, _):
            for n, chain in enumerate(chains):
                at = builder.add(t, ir.Constant(_I64, n * _LANES))
                _add_square(builder, x, y, at, _LANES, chain)
        with cgutils.for_range_slice(builder, whole, x.length, one) as (t, _):
            _add_square(builder, x, y, t, 1, total)
        lanes = zeros
        for chain in chains:
            lanes = builder.fadd(lanes, builder.load(chain))
        result = builder.load(total)
        for lane in range(_LANES):
            value = builder.extract_element(lanes, ir.Constant(_I32, lane))
            result = builder.fadd(result, value)
        return result

    return signature, generate


@intrinsic
def prefetch_row(typingctx, X, i):
    """Ask for ``X[i]`` to be in the cache soon."""
    signature = types.void(X, types.intp)

    def generate(context, builder, signature, args):
        row = _row(context, builder, signature.args[0], *args)
        arguments = [_I8.as_pointer(), _I32, _I32, _I32]
        prefetch = _function(builder, "llvm.prefetch.p0i8", ir.VoidType(), arguments)
        hints = [ir.Constant(_I32, hint) for hint in (0, 3, 1)]  # read, keep, data
        size = 4 if row.item_type == _FLOAT else 8
        zero, line = ir.Constant(_I64, 0), ir.Constant(_I64, 64)
        end = _bytes(builder, row.length, size)
        with cgutils.for_range_slice(builder, zero, end, line) as (at, _):
            builder.call(prefetch, [_pointer(builder, row.data, at, _I8), *hints])
        return context.get_dummy_value()

    return signature, generate
