"""Arrays on a GPU: copied to the host at the door, answers copied back.

The index is that of the host, and so is its validation: a call copies an array from
the GPU once, whole, and from then on it is a NumPy array like any other. The price is
paid on the bus. The bytes of the queries cross it, and again when a GPU searches for
them; so do 16 bytes for each neighbour, or 8 without distances.

A library that is not imported cannot have made the array, so none is imported here.
"""

from __future__ import annotations

import sys

import numpy as np

from sklearn_ann._backend import copy_to_gpu_of, copy_to_host, get_backend, gpu_of


class Call:
    """One call of an estimator: its input, who works on it, and the way back.

    Parameters
    ----------
    given : array-like or None
        The input as the caller gave it, on the host or on a GPU.
    device : str or None
        The device that is asked for, see ``get_backend``. None is where the input is.

    Attributes
    ----------
    X : array-like or None
        The input on the host: a NumPy copy of an array on a GPU, anything else as it
        is.
    backend : module or namespace
        The operations on the device of the call.
    """

    __slots__ = ("X", "_given", "_library", "backend")

    def __init__(self, given, device):
        library = library_of(given)
        if device is None and library is not None:
            device = _device_of(given, library)
        self.backend = get_backend(device)
        self.X = given if library is None else _to_host(given, library)
        self._given, self._library = given, library

    def give_back(self, array):
        """A NumPy array in the library of the input, where that is."""
        given, library = self._given, self._library
        if library is None:
            return array
        if library == "torch":
            return sys.modules["torch"].from_numpy(array).to(given.device)
        if library == "cupy":
            with given.device:
                return sys.modules["cupy"].asarray(array)
        return copy_to_gpu_of(given, array)


def library_of(X):
    """Who copies X, an array on a GPU: 'torch', 'cupy', 'numba'. None on the host."""
    if X is None or type(X) is np.ndarray:
        return None
    if _is_instance(X, "torch", "Tensor"):
        return "torch" if X.is_cuda else None
    if _is_instance(X, "cupy", "ndarray"):
        return "cupy"
    return "numba" if hasattr(X, "__cuda_array_interface__") else None


def as_host_array(X):
    """A NumPy copy of an array on a GPU, of any strides; anything else as it is."""
    library = library_of(X)
    return X if library is None else _to_host(X, library)


def _device_of(X, library):
    """The GPU that holds X, as `device` names it."""
    if library == "torch":
        number = X.device.index
    elif library == "cupy":
        number = X.device.id
    else:
        number = gpu_of(X)
    return f"cuda:{number}"


def _to_host(X, library):
    if library == "torch":
        try:
            return X.cpu().numpy()
        except TypeError as error:
            raise TypeError(
                f"X is a tensor of {X.dtype} that NumPy cannot hold: {error} Convert "
                "it first, for example with X.float()."
            ) from error
    return X.get() if library == "cupy" else copy_to_host(X)


def _is_instance(X, module, name):
    cls = getattr(sys.modules.get(module), name, None)
    return cls is not None and isinstance(X, cls)
