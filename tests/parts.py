"""Calls from Python of parts of kernels, which only kernels can call."""

import numba


def called(part):
    """A kernel that does nothing but call a part."""
    return numba.njit(lambda *args: part(*args), error_model="numpy")
