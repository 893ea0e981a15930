"""The one place that decides how CPU kernels are compiled."""

from __future__ import annotations

import numba

from sklearn_ann._cpu import _compiling  # noqa: F401  tells of what is compiled
from sklearn_ann._cpu._cache import keep_on_disk
from sklearn_ann._cpu._numba import PartCompiler, kernels_only, without_literals

if numba.config.DISABLE_JIT:
    raise RuntimeError(
        "sklearn_ann needs Numba's compiler: its kernels have vector instructions, "
        "which Python cannot interpret. Unset the environment variable "
        "NUMBA_DISABLE_JIT."
    )


# nogil:  the thread pool of ``_threads`` runs kernels side by side.
# No fastmath: bounds hold for IEEE arithmetic in the order that is written, and exact
# distances must not depend on how a loop was vectorised.
# Never ``parallel=True``: Numba's workqueue layer aborts the process when two Python
# threads call it, and GNU OpenMP does so after a fork.
# No wrapper for C, which nobody calls.
_OPTIONS = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}


def jit(function):
    """Compile a kernel that Python calls, when it first does.

    Later processes load its machine code, which holds all parts that it calls.
    """
    compiled = numba.njit(_nrt=True, **_OPTIONS)(function)
    without_literals(compiled)
    return keep_on_disk(compiled)


def jit_part(function, **options):
    """Compile a part of kernels, which Python cannot call.

    Numba would optimize it and generate its machine code, then link it into each of its
    callers and do so again. A part is optimized with the kernel that calls it. It may
    neither make nor return arrays, so that no references are counted: two atomic
    operations, and some lines of LLVM's, for each array that has a name.
    """
    return _part(function, makes_arrays=False, **options)


def jit_maker(function):
    """As `jit_part`, for a part that makes arrays, or calls one that does."""
    return _part(function, makes_arrays=True)


def _part(function, makes_arrays, **options):
    compiled = numba.njit(
        pipeline_class=PartCompiler,
        no_cpython_wrapper=True,
        _nrt=makes_arrays,
        **_OPTIONS,
        **options,
    )(function)
    without_literals(compiled)
    kernels_only(compiled, may_return_arrays=makes_arrays)
    return compiled


def inlined_jit(function):
    """As `jit_part`, for a part of a hot loop that is a function for the reader's sake.

    A call would copy each array that it is given, ten words and more.
    """
    return jit_part(function, forceinline=True)


def jit_in_caller(function):
    """As `jit_part`, for what one place calls: Numba compiles it only there."""
    return jit_part(function, inline="always")
