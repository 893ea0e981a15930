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
``rtsys``
    What machine code asks for memory. Without it nothing is loaded from disk.
``dumps``
    Pickles what ``FunctionCache`` hands over. Without it nothing is written to disk.
``Compiler``, ``JITCodeLibrary``
    Compile one function, and hold what LLVM makes of it: see ``PartCompiler``. Numba
    documents the first one. Where methods of the second are renamed, parts of kernels
    are optimized and their machine code is generated as if they were kernels, which
    takes longer.
``_nrt``, an option of ``njit`` (``_jit.py``)
    Whether references to arrays are counted. Without it no kernel can be compiled.
``Dispatcher.add_overload``, ``Dispatcher._compile_for_args``, ``default_manager``
    What Python's calls find, and which types hold references: see ``kernels_only``.
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
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_lock import global_compiler_lock
from numba.core.datamodel import default_manager
from numba.core.event import Listener, register
from numba.core.imputils import impl_ret_borrowed
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys
from numba.core.serialize import dumps
from numba.core.typing.templates import AttributeTemplate

__all__ = [
    "AttributeTemplate",
    "CacheLocator",
    "CompileResultCacheImpl",
    "FunctionCache",
    "Listener",
    "PartCompiler",
    "cgutils",
    "cpu_target",
    "dumps",
    "global_compiler_lock",
    "impl_ret_borrowed",
    "kernels_only",
    "llvm_lock",
    "register",
    "rtsys",
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


class PartCompiler(Compiler):
    """Compiles a function as far as LLVM's modules can be linked, and no further."""

    def define_pipelines(self):
        codegen, name = self.state.targetctx.codegen(), self.state.func_id.func_qualname
        self.state.library = _PartLibrary(codegen, name)
        return super().define_pipelines()


class _PartLibrary(JITCodeLibrary):
    """A function and those that it calls, neither optimized nor as machine code."""

    def _optimize_final_module(self):
        pass

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name):
        self._ensure_finalized()
        return 0

    @property
    def codegen(self):
        return _NoCode


class _NoCode:
    @staticmethod
    def set_env(name, env):
        """There is nothing that would use the environment of a function."""


def kernels_only(dispatcher, may_return_arrays):
    """Refuse calls from Python to a function without machine code."""

    def add_overload(compiled):
        result = default_manager[compiled.signature.return_type]
        if not may_return_arrays and result.contains_nrt_meminfo():
            name = dispatcher.__name__
            raise TypeError(f"{name} returns an array, and counts no references.")
        dispatcher.overloads[tuple(compiled.signature.args)] = compiled

    def refuse(*args, **kwargs):
        name = dispatcher.__name__
        raise TypeError(f"{name} is a part of kernels: Python cannot call it.")

    dispatcher.add_overload, dispatcher._compile_for_args = add_overload, refuse
