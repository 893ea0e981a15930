"""Vector arithmetic of the search among codes, as LLVM IR.

Tables of floats to bytes, sums of table entries for 64 codes at once, and the
comparison of 64 such sums with a limit. With AVX-512 VBMI a table of 256 bytes is held
in four registers and 64 codes are looked up by two byte permutes (after Quicker ADC:
Andre, Kermarrec and Le Scouarnec, 2019); elsewhere the look-ups are plain loads, but
for codes of 4 bits, whose tables of 16 bytes every byte shuffle looks up.
"""

from __future__ import annotations

from functools import partial, reduce

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
from sklearn_ann._layout import CODEWORDS, NIBBLES, PANEL

HAS_PERMUTE = {"avx512vbmi", "avx512bw"} <= target_features()

# Sums at a time where look-ups are plain loads: they do not wait for each other.
_SCALARS = 4

# Shuffles of 16 bytes, and their number of lanes; the widest comes last.
_SHUFFLES = [
    (name, width)
    for feature, name, width in (
        ("avx2", "llvm.x86.avx2.pshuf.b", 32),
        ("avx512bw", "llvm.x86.avx512.pshuf.b.512", 64),
    )
    if feature in target_features()
]

# Whether pairs of codes are looked up code by code. Where there is a permute, one table
# of both takes no longer and is more exact.
SPLITS_PAIRS = bool(_SHUFFLES) and not HAS_PERMUTE


def _table(context, builder, array_type, array, i, j):
    """Pointer to ``array[i, j]``, 256 entries."""
    struct = array_struct(context, builder, array_type, array)
    m = axis_length(builder, struct, 1)
    number = builder.add(builder.mul(i, m), j)
    size = builder.extract_value(struct.strides, 1)
    return pointer(builder, struct.data, builder.mul(number, size), I8)


def _to_bytes(builder, numbers):
    """64 numbers below 256 as bytes.

    With AVX-512 two kinds of packs take less time than truncation.
    """
    if "avx512bw" not in target_features():
        return builder.trunc(numbers, ir.VectorType(I8, PANEL))
    quarters = [
        _choose(builder, numbers, numbers, range(at, at + 16))
        for at in range(0, PANEL, 16)
    ]
    words = [
        _pack(builder, "packusdw", quarters[n], quarters[n + 1], ir.VectorType(I16, 32))
        for n in (0, 2)
    ]
    packed = _pack(builder, "packuswb", *words, ir.VectorType(I8, PANEL))
    # Packed within each 16 bytes: four numbers of each quarter.
    fours = builder.bitcast(packed, ir.VectorType(I32, 16))
    in_order = [4 * (n % 4) + n // 4 for n in range(16)]
    fours = _choose(builder, fours, fours, in_order)
    return builder.bitcast(fours, ir.VectorType(I8, PANEL))


def _pack(builder, name, a, b, narrow):
    pack = declare(builder, f"llvm.x86.avx512.{name}.512", narrow, [a.type] * 2)
    return builder.call(pack, [a, b])


@intrinsic
def round_table(
    typingctx, products, row, upper_halves, lower_halves, i, j, inverse, bits
):
    """Halves of `bits` bits of ``(products[row] - smallest) * inverse``, rounded down.

    They go to ``upper_halves[i, j]`` and ``lower_halves[i, j]``. Returns the smallest
    of the 256 products.
    """
    f4, intp = types.float32, types.intp
    signature = f4(
        products, intp, upper_halves, lower_halves, intp, intp, f4, types.int32
    )

    def generate(context, builder, signature, args):
        products, row, upper_halves, lower_halves, i, j, inverse, bits = args
        products = array_struct(context, builder, signature.args[0], products)
        at = bytes_of(builder, row, 4 * CODEWORDS)
        table = pointer(builder, products.data, at, I8)
        upper = _table(context, builder, signature.args[2], upper_halves, i, j)
        lower = _table(context, builder, signature.args[3], lower_halves, i, j)
        floats, ints = (ir.VectorType(item, PANEL) for item in (FLOAT, I32))
        parts = [
            load(builder, table, ir.Constant(I64, 4 * PANEL * part), floats)
            for part in range(CODEWORDS // PANEL)
        ]
        smaller = partial(pick, builder, "<")
        smallest = fold(builder, reduce(smaller, parts), smaller)
        offset, inverse = (splat(builder, floats, s) for s in (smallest, inverse))
        bits = splat(builder, ints, bits)
        one, both = constant(ints, 1), builder.add(bits, bits)
        largest_entry = builder.sub(builder.shl(one, both), one)
        mask = builder.sub(builder.shl(one, bits), one)
        for part, entries in enumerate(parts):
            steps = builder.fmul(builder.fsub(entries, offset), inverse)
            steps = pick(builder, "<", steps, builder.sitofp(largest_entry, floats))
            whole = builder.fptosi(steps, ints)
            at = ir.Constant(I64, PANEL * part)
            store(builder, _to_bytes(builder, builder.lshr(whole, bits)), upper, at)
            store(builder, _to_bytes(builder, builder.and_(whole, mask)), lower, at)
        return smallest

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
    first_half = builder.call(permute, [parts[0], codes, parts[1]])
    second_half = builder.call(permute, [parts[2], codes, parts[3]])
    is_second = builder.icmp_signed("<", codes, ir.Constant(bytes_type, None))
    return builder.select(is_second, second_half, first_half)


def _shuffle(builder, nibbles, table):
    """64 entries of a table of 16 bytes."""
    name, width = _SHUFFLES[-1]
    bytes_type = ir.VectorType(I8, width)
    shuffle = declare(builder, name, bytes_type, [bytes_type] * 2)
    sixteen = load(builder, table, ir.Constant(I64, 0), ir.VectorType(I8, NIBBLES))
    lanes = [lane % NIBBLES for lane in range(width)]
    repeated = _choose(builder, sixteen, sixteen, lanes)
    parts = [
        builder.call(
            shuffle,
            [repeated, _choose(builder, nibbles, nibbles, range(at, at + width))],
        )
        for at in range(0, PANEL, width)
    ]
    return parts[0] if len(parts) == 1 else _choose(builder, *parts, range(PANEL))


def _look_up_pairs(builder, codes, table):
    """Sums of an entry of each of two tables of 16 bytes, one after the other."""
    low_nibbles = builder.and_(codes, constant(codes.type, NIBBLES - 1))
    high_nibbles = builder.lshr(codes, constant(codes.type, 4))
    second_table = pointer(builder, table, ir.Constant(I64, NIBBLES), I8)
    first = _shuffle(builder, low_nibbles, table)
    second = _shuffle(builder, high_nibbles, second_table)
    return builder.add(first, second)


def _choose(builder, a, b, lanes):
    """Lanes of two vectors, numbered one after the other."""
    lanes = list(lanes)
    return builder.shuffle_vector(
        a, b, ir.Constant(ir.VectorType(I32, len(lanes)), lanes)
    )


def _emit_sums(builder, m, panels, table, sums, look_up):
    """Sums over the tables of a query for some panels: a table is loaded once.

    Two bytes are added as one word. What the odd ones carry into it is known from
    adding them once more on their own, and taken off in the end.
    """
    words = ir.VectorType(I16, PANEL // 2)
    empty, eight = ir.Constant(words, None), constant(words, 8)
    totals = [
        [cgutils.alloca_once_value(builder, empty) for _ in range(2)] for _ in panels
    ]
    with cgutils.for_range(builder, m) as loop:
        row = pointer(builder, table, bytes_of(builder, loop.index, CODEWORDS), I8)
        at = bytes_of(builder, loop.index, PANEL)
        for panel, (both, odd) in zip(panels, totals, strict=True):
            code = load(builder, panel, at, ir.VectorType(I8, PANEL))
            entries = builder.bitcast(look_up(builder, code, row), words)
            builder.store(builder.add(builder.load(both), entries), both)
            entries = builder.lshr(entries, eight)
            builder.store(builder.add(builder.load(odd), entries), odd)
    for number, (both, odd) in enumerate(totals):
        odd = builder.load(odd)
        even = builder.sub(builder.load(both), builder.shl(odd, eight))
        lanes = [lane // 2 + PANEL // 2 * (lane % 2) for lane in range(PANEL)]
        total = _choose(builder, even, odd, lanes)
        store(builder, total, sums, ir.Constant(I64, 2 * PANEL * number))


def _emit_scalar_sums(builder, m, panels, table, sums):
    """The same by plain loads."""
    zero, size = ir.Constant(I64, 0), ir.Constant(I64, _SCALARS)
    for number, panel in enumerate(panels):
        row_of_sums = pointer(builder, sums, ir.Constant(I64, 2 * PANEL * number), I8)
        stop = ir.Constant(I64, PANEL)
        with cgutils.for_range_slice(builder, zero, stop, size) as (lane, _):
            totals = [cgutils.alloca_once(builder, I32) for _ in range(_SCALARS)]
            for total in totals:
                builder.store(ir.Constant(I32, 0), total)
            with cgutils.for_range(builder, m) as loop:
                at = bytes_of(builder, loop.index, CODEWORDS)
                row = pointer(builder, table, at, I8)
                at = builder.add(bytes_of(builder, loop.index, PANEL), lane)
                codes = pointer(builder, panel, at, I8)
                for n, total in enumerate(totals):
                    code = load(builder, codes, ir.Constant(I64, n), I8)
                    entry = load(builder, row, builder.zext(code, I64), I8)
                    entry = builder.zext(entry, I32)
                    builder.store(builder.add(builder.load(total), entry), total)
            for n, total in enumerate(totals):
                at = bytes_of(builder, builder.add(lane, ir.Constant(I64, n)), 2)
                word = builder.trunc(builder.load(total), I16)
                store(builder, word, row_of_sums, at)


@intrinsic
def sum_entries(typingctx, codes, panels, is_paired, tables, i, sums):
    """``sums[p, lane]`` of ``tables[i, j, codes[panels[p], j, lane]]`` over all j.

    For a tuple of panels, (len(panels), 64) uint16. With SPLITS_PAIRS and paired codes
    the first 32 bytes of a table are two tables, one for each half of a code.
    """
    intp, boolean = types.intp, types.boolean
    signature = types.void(codes, panels, boolean, tables, intp, sums)

    def generate(context, builder, signature, args):
        codes, panels, is_paired, tables, i, sums = args
        panels = cgutils.unpack_tuple(builder, panels)
        codes, tables, sums = (
            array_struct(context, builder, signature.args[at], array)
            for at, array in ((0, codes), (3, tables), (5, sums))
        )
        m = axis_length(builder, codes, 1)
        panel_bytes = bytes_of(builder, m, PANEL)
        panels = [
            pointer(builder, codes.data, builder.mul(panel, panel_bytes), I8)
            for panel in panels
        ]
        at = builder.mul(i, bytes_of(builder, m, CODEWORDS))
        table = pointer(builder, tables.data, at, I8)
        if HAS_PERMUTE:
            _emit_sums(builder, m, panels, table, sums.data, _permute)
        elif SPLITS_PAIRS:
            with builder.if_else(is_paired) as (split, otherwise):
                with split:
                    _emit_sums(builder, m, panels, table, sums.data, _look_up_pairs)
                with otherwise:
                    _emit_scalar_sums(builder, m, panels, table, sums.data)
        else:
            _emit_scalar_sums(builder, m, panels, table, sums.data)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def sums_within(typingctx, sums, number, row_terms, panel, step, limit):
    """Bit j is set unless the bound of row j of the panel exceeds the limit.

    It is ``row_terms[64 * panel + j] + step * sums[number, j]``.
    """
    f4 = types.float32
    signature = types.uint64(sums, types.intp, row_terms, types.intp, f4, f4)

    def generate(context, builder, signature, args):
        sums, number, row_terms, panel, step, limit = args
        sums = array_struct(context, builder, signature.args[0], sums)
        row_terms = array_struct(context, builder, signature.args[2], row_terms)
        floats = ir.VectorType(FLOAT, PANEL)
        at = bytes_of(builder, number, 2 * PANEL)
        words = load(builder, sums.data, at, ir.VectorType(I16, PANEL))
        at = bytes_of(builder, panel, 4 * PANEL)
        term = load(builder, row_terms.data, at, floats)
        product = builder.fmul(
            splat(builder, floats, step), builder.uitofp(words, floats)
        )
        bound = builder.fadd(term, product)
        limit = splat(builder, floats, limit)
        return builder.bitcast(builder.fcmp_ordered("<=", bound, limit), I64)

    return signature, generate
