"""The arrays that kernels make, and copies of their rows.

For each form of ``np.empty`` and its like, which is a dtype, a number of axes and kinds
of lengths, Numba compiles functions of their own: a search had forty forms, and they
took a fifth of its compilation. Here an array is some instructions of its kernel.
Lengths are those of arrays that there are, and are not checked.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from sklearn_ann._cpu._ir import (
    I8,
    I32,
    I64,
    array_struct,
    axis_length,
    bytes_of,
    pointer,
)
from sklearn_ann._cpu._numba import cgutils

# Arrays begin where a cache line does.
_ALIGNMENT = 64


def _lengths_of(shape):
    """The types of the lengths of an array."""
    return tuple(shape) if isinstance(shape, types.BaseTuple) else (shape,)


def _array_of(dtype, shape):
    return types.Array(dtype, len(_lengths_of(shape)), "C")


def _made(fill):
    """What generates the code of a new array, with the values that `fill` stores."""

    def generate(context, builder, signature, args):
        kind, shape_type = signature.return_type, signature.args[0]
        struct, size, n_bytes = _allocate(context, builder, kind, shape_type, args[0])
        fill(builder, struct.data, size, n_bytes, args)
        return struct._getvalue()

    return generate


def _allocate(context, builder, kind, shape_type, shape):
    """The structure of a new array; its number of values; its bytes."""
    lengths = [shape]
    if isinstance(shape_type, types.BaseTuple):
        lengths = cgutils.unpack_tuple(builder, shape)
    lengths = [
        context.cast(builder, length, length_type, types.intp)
        for length, length_type in zip(lengths, _lengths_of(shape_type), strict=True)
    ]
    itemsize = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    strides = [ir.Constant(I64, itemsize)]
    for length in lengths[:0:-1]:
        strides.insert(0, builder.mul(strides[0], length))
    size = lengths[0]
    for length in lengths[1:]:
        size = builder.mul(size, length)
    n_bytes = builder.mul(size, ir.Constant(I64, itemsize))
    memory = context.nrt.meminfo_alloc_aligned(
        builder, n_bytes, ir.Constant(I32, _ALIGNMENT)
    )
    data = context.nrt.meminfo_data(builder, memory)
    struct = _struct(context, builder, kind, data, lengths, strides, memory)
    return struct, size, n_bytes


def _struct(context, builder, kind, data, lengths, strides, memory):
    """The structure of an array; who owns its memory, or None."""
    struct = context.make_array(kind)(context, builder)
    struct.data = builder.bitcast(data, struct.data.type)
    struct.shape = cgutils.pack_array(builder, lengths)
    struct.strides = cgutils.pack_array(builder, strides)
    struct.itemsize = strides[-1]
    struct.meminfo = struct.meminfo.type(None) if memory is None else memory
    struct.parent = struct.parent.type(None)
    return struct


@intrinsic
def empty(typingctx, shape, dtype):
    """As ``np.empty``: an int or a tuple of ints, and a dtype."""
    return _array_of(dtype.dtype, shape)(shape, dtype), _made(lambda *_: None)


@intrinsic
def zeros(typingctx, shape, dtype):
    """As ``np.zeros``: an int or a tuple of ints, and a dtype."""

    def fill(builder, data, size, n_bytes, args):
        cgutils.memset(builder, data, n_bytes, 0)

    return _array_of(dtype.dtype, shape)(shape, dtype), _made(fill)


@intrinsic
def filled(typingctx, n, value):
    """As ``np.full`` with one axis, of the dtype of the value."""

    def fill(builder, data, size, n_bytes, args):
        with cgutils.for_range(builder, size) as loop:
            builder.store(args[1], builder.gep(data, [loop.index]))

    value = types.unliteral(value)
    return _array_of(value, n)(n, value), _made(fill)


@intrinsic
def count_up(typingctx, n):
    """As ``np.arange`` up to a number, int64."""

    def fill(builder, data, size, n_bytes, args):
        with cgutils.for_range(builder, size) as loop:
            builder.store(loop.index, builder.gep(data, [loop.index]))

    return _array_of(types.int64, n)(n), _made(fill)


@intrinsic
def copy_row(typingctx, source, i, target, j):
    """``target[j] = source[i]``, C-contiguous and of the same shape and dtype."""

    def generate(context, builder, signature, args):
        source, target = (
            array_struct(context, builder, signature.args[n], args[n]) for n in (0, 2)
        )
        size = builder.extract_value(source.strides, 0)
        places = (
            pointer(builder, struct.data, builder.mul(number, size), I8)
            for struct, number in ((target, args[3]), (source, args[1]))
        )
        cgutils.raw_memcpy(builder, *places, size, 1)
        return context.get_dummy_value()

    return types.void(source, types.intp, target, types.intp), generate


@intrinsic
def as_bytes(typingctx, words):
    """The memory of an int32 array with one axis as int8; the array must outlive it."""

    def generate(context, builder, signature, args):
        kind, (words_type,) = signature.return_type, signature.args
        source = array_struct(context, builder, words_type, args[0])
        n_bytes = bytes_of(builder, axis_length(builder, source, 0), 4)
        lengths, strides = [n_bytes], [ir.Constant(I64, 1)]
        return _struct(
            context, builder, kind, source.data, lengths, strides, None
        )._getvalue()

    if words.dtype != types.int32 or words.ndim != 1 or words.layout != "C":
        return None
    return _array_of(types.int8, types.int64)(words), generate
