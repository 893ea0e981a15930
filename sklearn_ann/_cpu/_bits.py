"""Masks of 64 bits, one for each row of a panel."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from sklearn_ann._cpu._ir import I64, declare


@intrinsic
def lowest_bit(typingctx, mask):
    """Number of the lowest bit that is set in a 64-bit mask, which is not 0."""

    def generate(context, builder, signature, args):
        function = declare(builder, "llvm.cttz.i64", I64, [I64, ir.IntType(1)])
        return builder.call(function, [args[0], ir.Constant(ir.IntType(1), 1)])

    return types.intp(types.uint64), generate


@intrinsic
def count_bits(typingctx, mask):
    """How many bits of a 64-bit mask are set."""

    def generate(context, builder, signature, args):
        function = declare(builder, "llvm.ctpop.i64", I64, [I64])
        return builder.call(function, [args[0]])

    return types.intp(types.uint64), generate
