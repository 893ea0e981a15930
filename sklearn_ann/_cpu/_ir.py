"""Words for writing LLVM IR: what ``_simd`` and ``_distance`` are made of."""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

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
