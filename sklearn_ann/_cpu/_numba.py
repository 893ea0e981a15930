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
``dumps``
    Pickles what ``FunctionCache`` hands over. Without it nothing is written to disk.
``Dispatcher._cache``
    Where a compiled function looks for its cache: see ``use_cache``. If it is renamed,
    each process compiles everything again, and the tests of the cache fail.
``global_compiler_lock``, ``llvm_lock``
    The thread that compiles holds the first one, each call of LLVM the second one.
    Without them the child of a fork may wait for ever, and the tests of forks fail.
"""

from __future__ import annotations

from llvmlite.binding import ffi
from numba.core import cgutils
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.core.serialize import dumps

__all__ = [
    "CacheLocator",
    "CompileResultCacheImpl",
    "FunctionCache",
    "cgutils",
    "cpu_target",
    "dumps",
    "global_compiler_lock",
    "llvm_lock",
    "use_cache",
]

CacheLocator = _CacheLocator
llvm_lock = ffi.lib._lock


def use_cache(dispatcher, cache):
    """Let a compiled function look for its machine code in a cache."""
    dispatcher._cache = cache
