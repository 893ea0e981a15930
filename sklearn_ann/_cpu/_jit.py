"""The one place that decides how CPU kernels are compiled."""

from __future__ import annotations

import numba

# nogil:  the thread pool of ``_threads`` runs kernels side by side.
# cache:  a new process loads the machine code instead of compiling it again.
# No fastmath: the bounds of ``_sq8`` hold for IEEE arithmetic in the order that is
# written, and exact distances must not depend on how a loop was vectorised.
# Never ``parallel=True``: Numba's workqueue layer aborts the process when two Python
# threads call it, and GNU OpenMP does so after a fork.
jit = numba.njit(nogil=True, cache=True, error_model="numpy")

# For a part of a hot loop that is a function for the reader's sake: a call would copy
# each array and each tuple of arrays that it is given, some hundred words.
inlined_jit = numba.njit(
    nogil=True, cache=True, error_model="numpy", forceinline=True
)
