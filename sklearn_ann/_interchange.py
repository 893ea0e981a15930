"""Arrays on a GPU: copied to the host at the door, answers copied back.

The index is that of the host, and so is its validation: `to_host` copies an array from
the GPU once, whole, and from then on it is a NumPy array like any other. The price is
paid on the bus. The bytes of the queries cross it, and again when a GPU searches for
them; so do 16 bytes for each neighbour, or 8 without distances.

A library that is not imported cannot have made the array, so none is imported here.
"""

from __future__ import annotations

import sys

import numpy as np

from sklearn_ann._backend import get_cuda_memory


def library_of(X):
    """Who copies X, an array on a GPU: 'torch', 'cupy', 'numba'. None on the host."""
    if X is None or type(X) is np.ndarray:
        return None
    if _is_instance(X, "torch", "Tensor"):
        return "torch" if X.is_cuda else None
    if _is_instance(X, "cupy", "ndarray"):
        return "cupy"
    return "numba" if hasattr(X, "__cuda_array_interface__") else None


def device_for(X, device):
    """The device of a call: the one that is asked for, or for None that of X."""
    library = library_of(X) if device is None else None
    if library is None:
        return device
    if library == "torch":
        number = X.device.index
    elif library == "cupy":
        number = X.device.id
    else:
        number = get_cuda_memory().gpu_of(X)
    return f"cuda:{number}"


def to_host(X):
    """A NumPy copy of an array on a GPU, of any strides; anything else as it is."""
    library = library_of(X)
    if library == "torch":
        try:
            return X.cpu().numpy()
        except TypeError as error:
            raise TypeError(
                f"X is a tensor of {X.dtype} that NumPy cannot hold: {error} Convert "
                "it first, for example with X.float()."
            ) from error
    if library == "cupy":
        return X.get()
    return X if library is None else get_cuda_memory().copy_to_host(X)


def as_like(X, array):
    """A NumPy array as one of the library of X, where X is; itself on the host."""
    library = library_of(X)
    if library == "torch":
        return sys.modules["torch"].from_numpy(array).to(X.device)
    if library == "cupy":
        with X.device:
            return sys.modules["cupy"].asarray(array)
    return array if library is None else get_cuda_memory().copy_to_gpu_of(X, array)


def _is_instance(X, module, name):
    cls = getattr(sys.modules.get(module), name, None)
    return cls is not None and isinstance(X, cls)
