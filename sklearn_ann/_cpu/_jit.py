"""The one place that decides how CPU kernels are compiled."""

from __future__ import annotations

import numba

from sklearn_ann._cpu import _compiling  # noqa: F401  tells of what is compiled
from sklearn_ann._cpu._cache import keep_on_disk
from sklearn_ann._cpu._numba import without_literals

if numba.config.DISABLE_JIT:
    raise RuntimeError(
        "sklearn_ann needs Numba's compiler: its kernels have vector instructions, "
        "which Python cannot interpret. Unset the environment variable "
        "NUMBA_DISABLE_JIT."
    )


def jit(function, **options):
    """Compile a kernel at its first call; later processes load the machine code."""
    # nogil:  the thread pool of ``_threads`` runs kernels side by side.
    # No fastmath: bounds hold for IEEE arithmetic in the order that is written, and
    # exact distances must not depend on how a loop was vectorised.
    # Never ``parallel=True``: Numba's workqueue layer aborts the process when two
    # Python threads call it, and GNU OpenMP does so after a fork.
    compiled = numba.njit(nogil=True, error_model="numpy", **options)(function)
    without_literals(compiled)
    return keep_on_disk(compiled)


def inlined_jit(function):
    """As `jit`, for a part of a hot loop that is a function for the reader's sake.

    A call would copy each array that it is given, ten words and more. Inlined, it still
    counts references to each, two atomic operations: put the call behind the test that
    most iterations fail.
    """
    return jit(function, forceinline=True)


def jit_in_caller(function):
    """As `jit`, for a part of a kernel that one place calls: compiled only there."""
    return jit(function, inline="always")
