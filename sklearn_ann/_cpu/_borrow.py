"""Tuples of arrays that kernels share, by pointer.

Numba passes a tuple by value: a call copies all words of all of its arrays, some
hundred, and counts references to each, two atomic operations. That takes longer than
the work of a hot loop, all the more when threads count the same references, and LLVM
spends most of its time on these copies.
"""

from __future__ import annotations

from numba import types
from numba.extending import (
    infer_getattr,
    intrinsic,
    lower_getattr_generic,
    models,
    overload,
    register_model,
)

from sklearn_ann._cpu._ir import I8, array_struct
from sklearn_ann._cpu._numba import AttributeTemplate, cgutils, impl_ret_borrowed
from sklearn_ann._layout import read_only


class Borrowed(types.Type):
    """A pointer to a NamedTuple, whose fields are read as those of the tuple.

    A field that is a NamedTuple itself is Borrowed, too.
    """

    def __init__(self, owned):
        self.owned = owned
        super().__init__(f"Borrowed({owned.name})")

    def kind_of(self, field):
        """The type of a field, and its number."""
        number = self.owned.fields.index(field)
        kind = self.owned[number]
        return Borrowed(kind) if isinstance(kind, types.BaseTuple) else kind, number


@register_model(Borrowed)
class _Model(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, I8.as_pointer())


@infer_getattr
class _Fields(AttributeTemplate):
    key = Borrowed

    def generic_resolve(self, borrowed, field):
        if field in borrowed.owned.fields:
            return borrowed.kind_of(field)[0]
        return None


@lower_getattr_generic(Borrowed)
def _read_field(context, builder, borrowed, value, field):
    kind, number = borrowed.kind_of(field)
    struct_type = context.get_value_type(borrowed.owned)
    struct = builder.bitcast(value, struct_type.as_pointer())
    place = cgutils.gep_inbounds(builder, struct, 0, number)
    if isinstance(kind, Borrowed):
        return builder.bitcast(place, I8.as_pointer())
    value = builder.load(place)
    if isinstance(kind, types.Array):
        struct = array_struct(context, builder, kind, value)
        # Nobody owns its memory.
        struct.meminfo = struct.meminfo.type(None)
        struct.parent = struct.parent.type(None)
        value = struct._getvalue()
    return value


@intrinsic
def borrowed(typingctx, owned):
    """A pointer to a NamedTuple of arrays, whose references are not counted.

    The arrays must outlive it, and Numba frees an array after the last line that names
    it. So borrow what a function is given, which its caller keeps during the call, or
    ``keep`` it. The tuple is copied to the stack: a pointer must not be returned.
    """

    def generate(context, builder, signature, args):
        place = cgutils.alloca_once_value(builder, args[0])
        return builder.bitcast(place, I8.as_pointer())

    return Borrowed(owned)(owned), generate


@intrinsic
def keep(typingctx, value):
    """Nothing is done; what was borrowed of a value is there until this line."""

    def generate(context, builder, signature, args):
        return context.get_dummy_value()

    return types.void(value), generate


@intrinsic
def _without_writing(typingctx, array):
    def generate(context, builder, signature, args):
        return impl_ret_borrowed(context, builder, signature.return_type, args[0])

    return array.copy(readonly=True)(array), generate


@overload(read_only)
def _read_only(array):
    return lambda array: _without_writing(array)
