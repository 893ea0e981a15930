"""Arrays that a kernel uses without counting references to them.

Numba counts a reference whenever an array is taken out of a tuple or given to another
function, an atomic increment and a decrement. In a hot loop that costs more than the
work, all the more when threads count the same references.
"""

from __future__ import annotations

from numba import types
from numba.extending import intrinsic

from sklearn_ann._cpu._ir import array_struct


def _lend(context, builder, kind, value):
    """The same value, whose arrays say that nobody owns their memory."""
    if isinstance(kind, types.Array):
        struct = array_struct(context, builder, kind, value)
        struct.meminfo = struct.meminfo.type(None)
        struct.parent = struct.parent.type(None)
        return struct._getvalue()
    if isinstance(kind, types.BaseTuple):
        for n, item in enumerate(kind):
            lent = _lend(context, builder, item, builder.extract_value(value, n))
            value = builder.insert_value(value, lent, n)
    return value


@intrinsic
def borrowed(typingctx, value):
    """An array or a tuple, nested ones too, whose references are not counted.

    The arrays must outlive it, and Numba frees an array after the last line that names
    it. So borrow what a function is given: its caller keeps that during the call.
    """

    def generate(context, builder, signature, args):
        return _lend(context, builder, signature.args[0], args[0])

    return value(value), generate
