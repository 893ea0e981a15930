"""A short projection of vectors, which makes no distance longer.

The axes are the columns of a matrix A whose largest singular value is at most 1. With
B = (I - AA')^(1/2), the map ``y -> (A'y, |By|)`` has the length of y, and two vectors
are not further from each other after it than before::

    |A'(y - z)|^2 + (|By| - |Bz|)^2  <=  |A'(y - z)|^2 + |B(y - z)|^2  =  |y - z|^2

so what bounds the distance of two projections from below bounds that of the vectors.
The last number, the tail, is the root of ``|y|^2 - |A'y|^2``: nobody needs B.

The idea is that of PCA trees and of Hwang et al., "A fast nearest neighbor search
algorithm by nonlinear embedding", 2012, for the tail.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from sklearn_ann._cpu._arrays import zeros
from sklearn_ann._cpu._distance import sqnorm
from sklearn_ann._cpu._ir import (
    FLOAT,
    I64,
    array_struct,
    axis_length,
    bytes_of,
    constant,
    declare,
    load,
    splat,
    store,
)
from sklearn_ann._cpu._jit import jit_maker, jit_part
from sklearn_ann._cpu._numba import cgutils
from sklearn_ann._cpu._rounding import nudged_up
from sklearn_ann._cpu._sq8_simd import TILE

# A vector whose largest feature (in units) is larger, or smaller, has no projection:
# float32 might overflow, or lose more than the error accounts for.
_TOO_LONG, _TOO_SHORT = 2.0**40, 2.0**-60

# Features whose products are added up before they join the others: it bounds how many
# roundings a sum has.
_FEATURES = 64

_LANES = 16  # floats in one vector
_VECTORS = 2  # vectors of axes held in registers at once, for each row of the tile


def _emit_block(builder, d, first, vectors, axes, width, column):
    """Sums of products of some features from number `first` on, as pointers."""
    floats = ir.VectorType(FLOAT, _LANES)
    fma = declare(builder, f"llvm.fma.v{_LANES}f32", floats, [floats] * 3)
    sums = {
        (i, j): cgutils.alloca_once_value(builder, constant(floats, 0.0))
        for i in range(TILE)
        for j in range(_VECTORS)
    }
    for total in sums.values():
        builder.store(constant(floats, 0.0), total)
    stop = builder.add(first, ir.Constant(I64, _FEATURES))
    stop = builder.select(builder.icmp_signed("<", stop, d), stop, d)
    one = ir.Constant(I64, 1)
    with cgutils.for_range_slice(builder, first, stop, one) as (t, _):
        some = [
            load(builder, axes, _place(builder, t, width, column, j), floats)
            for j in range(_VECTORS)
        ]
        for i in range(TILE):
            at = _place(builder, ir.Constant(I64, i), d, t, 0)
            value = splat(builder, floats, load(builder, vectors, at, FLOAT))
            for j, axis in enumerate(some):
                total = builder.call(fma, [value, axis, builder.load(sums[i, j])])
                builder.store(total, sums[i, j])
    return sums


def _place(builder, row, length, column, vector):
    """The offset of a vector of floats, from a column of a row on."""
    at = builder.add(builder.mul(row, length), column)
    return builder.add(bytes_of(builder, at, 4), ir.Constant(I64, 4 * _LANES * vector))


@intrinsic
def _multiply_tile(typingctx, vectors, axes, products):
    """``products = vectors @ axes`` in float32, (4, d) and (d, w) to (4, w).

    All C-contiguous; w is a multiple of 32.
    """
    signature = types.void(vectors, axes, products)

    def generate(context, builder, signature, args):
        vectors, axes, products = (
            array_struct(context, builder, *pair)
            for pair in zip(signature.args, args, strict=True)
        )
        d, width = (axis_length(builder, axes, axis) for axis in (0, 1))
        floats = ir.VectorType(FLOAT, _LANES)
        zero, columns, features = (
            ir.Constant(I64, n) for n in (0, _LANES * _VECTORS, _FEATURES)
        )
        places = [(i, j) for i in range(TILE) for j in range(_VECTORS)]
        with cgutils.for_range_slice(builder, zero, width, columns) as (column, _):
            offsets = {
                (i, j): _place(builder, ir.Constant(I64, i), width, column, j)
                for i, j in places
            }
            for at in offsets.values():
                store(builder, constant(floats, 0.0), products.data, at)
            with cgutils.for_range_slice(builder, zero, d, features) as (first, _):
                sums = _emit_block(
                    builder, d, first, vectors.data, axes.data, width, column
                )
                for place, at in offsets.items():
                    total = load(builder, products.data, at, floats)
                    total = builder.fadd(total, builder.load(sums[place]))
                    store(builder, total, products.data, at)
        return context.get_dummy_value()

    return signature, generate


@jit_part
def has_projection(magnitude):
    """Whether a vector has a projection, whose largest feature is this in units."""
    return magnitude == 0.0 or _TOO_SHORT <= magnitude <= _TOO_LONG


class Vectors(NamedTuple):
    """Some vectors on the way to their codes, up to 4: centered, in units."""

    centered: np.ndarray  # (4, d)  float64
    magnitudes: np.ndarray  # (4,)  float64  the largest of their features
    images: np.ndarray  # (4, width)  float64  their projections, minus `middle`
    errors: np.ndarray  # (4,)  float64  how far off these are, rounded up
    narrow: np.ndarray  # (4, d)  float32  scratch of `project`
    products: np.ndarray  # (4, width)  float32  scratch of `project`


@jit_maker
def empty_vectors(d, width):
    return Vectors(
        centered=zeros((TILE, d), np.float64),
        magnitudes=zeros(TILE, np.float64),
        images=zeros((TILE, width), np.float64),
        errors=zeros(TILE, np.float64),
        narrow=zeros((TILE, d if width > 0 else 0), np.float32),
        products=zeros((TILE, width), np.float32),
    )


@jit_part
def largest_of_image(vectors, i):
    """The magnitude of the largest feature of a projection."""
    largest = 0.0
    for t in range(vectors.images.shape[1]):
        largest = max(largest, abs(vectors.images[i, t]))
    return largest


@jit_part
def project(
    n,           # IN     int         how many vectors
    vectors,     # INOUT  Vectors     gets `images` and `errors`
    projection,  # IN     Projection
):
    """Project some vectors.

    One that is too long or too short, or not finite, gets the image 0 and its whole
    distance from `middle` as the error.
    """
    centered, images, errors = vectors.centered, vectors.images, vectors.errors
    narrow, products = vectors.narrow, vectors.products
    d, width = centered.shape[1], images.shape[1]
    middle, middle_norm = projection.middle, 0.0
    for t in range(width):
        middle_norm += middle[t] * middle[t]
    for i in range(n):
        for t in range(d):
            narrow[i, t] = np.float32(centered[i, t])
    _multiply_tile(narrow, projection.axes, products)
    # Roundings of a sum of products in float32, one more of the vector, and some of
    # the sums in float64 below.
    n_roundings = _FEATURES + (d + _FEATURES - 1) // _FEATURES + 2
    relative = np.sqrt(width) * n_roundings * 2.0**-24 * 1.01
    for i in range(n):
        square, kept = sqnorm(centered, i), 0.0
        if not has_projection(vectors.magnitudes[i]):
            images[i] = 0.0
            errors[i] = nudged_up(np.sqrt(square)) + nudged_up(np.sqrt(middle_norm))
            continue
        for t in range(width - 1):
            product = np.float64(products[i, t])
            kept += product * product
            images[i, t] = product - middle[t]
        tail = np.sqrt(max(square - kept, 0.0))
        images[i, width - 1] = tail - middle[width - 1]
        lost = (relative * (2 + relative) + 1e-15 * (d + width)) * square
        error = relative * np.sqrt(square)
        if lost > 0:
            error += lost / max(tail, np.sqrt(lost))
        errors[i] = error * (1 + 1e-6)
