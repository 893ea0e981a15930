"""All that we use of the inside of Numba and llvmlite; no other file here imports it.

These names are private to Numba (0.61 to 0.68) and llvmlite (0.44 to 0.50). A release
may move any of them. What breaks then:

``cgutils``
    Loops, stack variables and functions of LLVM in generated code. Numba's own guide to
    ``@intrinsic`` uses it; without it no file with vector instructions can be imported.
``cpu_target``
    Knows for which processor LLVM generates code (``_target.py``). Without it we cannot
    choose vector instructions, and the backend cannot be imported.
``FunctionCache``, ``CompileResultCacheImpl``, ``_CacheLocator``
    The cache of one compiled function, what chooses a folder for it, and one such
    folder. ``_cache.py`` derives from them, and the backend cannot be imported without.
    Where only their methods change, compiled code is no longer found on disk and the
    tests of the cache fail.
``AttributeTemplate``, ``impl_ret_borrowed``
    What the fields of a borrowed tuple are, and that an array is owned by two
    (``_borrow.py``). Numba's guide to its low-level API uses them.
``dumps``
    Pickles what ``FunctionCache`` hands over. Without it nothing is written to disk.
``Dispatcher.get_call_template``
    Chooses what a call compiles: see ``without_literals``. If it is renamed, constants
    are compiled apart again, and the first search takes longer.
``Dispatcher._cache``
    Where a compiled function looks for its cache: see ``use_cache``. If it is renamed,
    each process compiles everything again, and the tests of the cache fail.
``Listener``, ``register``
    Tell when a function is compiled (``_compiling.py``). Numba documents them, and may
    change them.
``global_compiler_lock``, ``llvm_lock``
    The thread that compiles holds the first one, each call of LLVM the second one.
    Without them the child of a fork may wait for ever, and the tests of forks fail.
"""

from __future__ import annotations

from llvmlite.binding import ffi
from numba import types
from numba.core import cgutils
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
from numba.core.compiler_lock import global_compiler_lock
from numba.core.event import Listener, register
from numba.core.imputils import impl_ret_borrowed
from numba.core.registry import cpu_target
from numba.core.serialize import dumps
from numba.core.typing.templates import AttributeTemplate

__all__ = [
    "AttributeTemplate",
    "CacheLocator",
    "CompileResultCacheImpl",
    "FunctionCache",
    "Listener",
    "cgutils",
    "cpu_target",
    "dumps",
    "global_compiler_lock",
    "impl_ret_borrowed",
    "llvm_lock",
    "register",
    "use_cache",
    "without_literals",
]

CacheLocator = _CacheLocator
llvm_lock = ffi.lib._lock


def without_literals(dispatcher):
    """Compile the same code for a call with a constant as for one with a variable."""
    find = dispatcher.get_call_template

    def get_call_template(args, kws):
        kws = {name: types.unliteral(kind) for name, kind in kws.items()}
        return find(tuple(map(types.unliteral, args)), kws)

    dispatcher.get_call_template = get_call_template


def use_cache(dispatcher, cache):
    """Let a compiled function look for its machine code in a cache."""
    dispatcher._cache = cache
