"""Words for writing LLVM IR, which the vector arithmetic of this folder is made of."""

from __future__ import annotations

from typing import NamedTuple

from llvmlite import ir
from numba import types

from sklearn_ann._cpu._numba import cgutils

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
FLOAT, DOUBLE = ir.FloatType(), ir.DoubleType()


def splat(builder, vector_type, scalar):
    """A vector with `scalar` in every lane."""
    empty = ir.Constant(vector_type, ir.Undefined)
    first = builder.insert_element(empty, scalar, ir.Constant(I32, 0))
    lanes = ir.Constant(ir.VectorType(I32, vector_type.count), [0] * vector_type.count)
    return builder.shuffle_vector(first, empty, lanes)


def constant(vector_type, value):
    return ir.Constant(vector_type, [value] * vector_type.count)


def declare(builder, name, result, arguments):
    """A function of LLVM."""
    function_type = ir.FunctionType(result, arguments)
    return cgutils.get_or_insert_function(builder.module, function_type, name)


def pointer(builder, base, offset, item_type):
    """`offset` bytes after the pointer `base`, as a pointer to `item_type`."""
    raw = builder.bitcast(base, I8.as_pointer())
    return builder.bitcast(builder.gep(raw, [offset]), item_type.as_pointer())


def load(builder, base, offset, item_type):
    # Unpickled and memory-mapped arrays start anywhere: no alignment is promised.
    value = builder.load(pointer(builder, base, offset, item_type))
    value.align = 1
    return value


def store(builder, value, base, offset):
    builder.store(value, pointer(builder, base, offset, value.type)).align = 1


def array_struct(context, builder, array_type, array):
    return context.make_array(array_type)(context, builder, array)


def axis_length(builder, struct, axis):
    return builder.extract_value(struct.shape, axis)


def bytes_of(builder, count, size):
    return builder.mul(count, ir.Constant(I64, size))


def fold(builder, vector, combine):
    """One number from all lanes of a vector, by halves: ``combine(low, high)``.

    The order is the same on every processor. The reductions of LLVM take their care
    for NaN, or add one lane after the other, three times as long.
    """
    width = vector.type.count
    while width > 1:
        width //= 2
        undefined = ir.Constant(vector.type, ir.Undefined)
        halves = range(width), range(width, 2 * width)
        low, high = (
            builder.shuffle_vector(
                vector, undefined, ir.Constant(ir.VectorType(I32, width), list(half))
            )
            for half in halves
        )
        vector = combine(low, high)
    return builder.extract_element(vector, ir.Constant(I32, 0))


def pick(builder, sign, a, b):
    """``a if a sign b else b`` of floats, lane by lane."""
    return builder.select(builder.fcmp_ordered(sign, a, b), a, b)


class Row(NamedTuple):
    """One row of a 2-D array, in the machine code to be."""

    data: ir.Value
    item_type: ir.Type
    length: ir.Value

    def load(self, builder, at, count):
        """`count` values from number `at` on, as doubles: a vector, or one double."""
        offset = bytes_of(builder, at, 4 if self.item_type == FLOAT else 8)
        narrow, wide = self.item_type, DOUBLE
        if count > 1:
            narrow, wide = ir.VectorType(narrow, count), ir.VectorType(wide, count)
        value = load(builder, self.data, offset, narrow)
        return value if self.item_type == DOUBLE else builder.fpext(value, wide)


def row_of(context, builder, array_type, array, i):
    """Row i of a C-contiguous array of float32 or float64."""
    struct = array_struct(context, builder, array_type, array)
    is_single = array_type.dtype == types.float32
    item_type, size = (FLOAT, 4) if is_single else (DOUBLE, 8)
    length = axis_length(builder, struct, 1)
    offset = bytes_of(builder, builder.mul(i, length), size)
    return Row(pointer(builder, struct.data, offset, I8), item_type, length)
