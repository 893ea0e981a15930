"""The seam: what a machine must offer, and how to get at it."""

from __future__ import annotations

import functools
import importlib
import threading
from typing import Protocol

from sklearn_ann._forks import hold_over_forks

_importing = threading.RLock()
hold_over_forks(_importing)


class Backend(Protocol):
    """The operations of a machine. A module satisfies it: ``_cpu``.

    Shapes and meanings are in the docstrings of ``_cpu``. `n_threads` is the number of
    threads of the CPU that may work; answers do not depend on it.
    """

    def encode_sq8(
        self,
        X,
        rows,
        positions,
        center,
        unit,
        projection,
        codes,
        scales,
        full,
        n_threads,
    ): ...

    def rank_duplicates(self, X, rows): ...

    def knn(self, Q, index, k, n_threads): ...

    def radius(self, Q, index, sqradius, with_sqdists, n_threads): ...

    def encode_training_rows(self, X, rows, index, n_threads): ...

    def assign(self, X, rows, index, n_threads, encoded=None, guesses=None): ...

    def accumulate_clusters(self, X, rows, order, starts, n_threads): ...

    def scan_ivf_flat(self, Q, index, probes, k, n_threads): ...

    def radius_ivf_flat(self, Q, index, probes, sqradius, with_sqdists, n_threads): ...

    def encode_pq(self, X, labels, centroids, codebooks_t, half_sqnorms, n_threads): ...

    def accumulate_codewords(self, residuals, codes, dsub, n_threads): ...

    def place_pq(
        self, codes, order, positions, owners, index, panels, row_terms, n_threads
    ): ...

    def decode_rows(self, positions, index): ...

    def scan_ivf_pq(self, Q, index, probes, probe_sqdists, k, n_threads): ...

    def candidates_ivf_pq(self, Q, index, probes, probe_sqdists, k, n_threads): ...

    def radius_ivf_pq(self, Q, index, probes, sqradius, with_sqdists, n_threads): ...

    def refine(self, Q, X, candidates, k, n_threads): ...


def get_backend(device):
    """The operations on a device.

    Imported on first use, so that ``import sklearn_ann`` does not wait for Numba, nor
    the CPU for CUDA.

    Parameters
    ----------
    device : str or None
        None or 'cpu', 'cuda' or 'cuda:N' for GPU number N; 'cuda' is number 0. What
        None means for an array on a GPU is decided before.

    Returns
    -------
    backend : module or namespace

    Raises
    ------
    ValueError
        If there is no such kind of device.
    ImportError
        If numba-cuda is not installed.
    RuntimeError
        If there is no such GPU, or Numba's compiler is switched off.
    """
    if device in (None, "cpu"):
        return _import("sklearn_ann._cpu")
    kind, _, number = device.partition(":") if isinstance(device, str) else ("", "", "")
    if kind == "cuda" and (device == "cuda" or number.isdecimal()):
        cuda = _import("sklearn_ann._cuda")
        return cuda.on_device(int(number or 0))
    raise ValueError(
        f"device={device!r} is unknown. Use device=None or device='cpu', or "
        "device='cuda' or device='cuda:1' for an NVIDIA GPU."
    )


# -- arrays that only their ``__cuda_array_interface__`` describes ---------------------
#
# CUDA is imported on first use, as for a backend, and with the same errors.


def gpu_of(array):
    """The number of the GPU that holds an array."""
    return _import("sklearn_ann._cuda").gpu_of(array)


def copy_to_host(array):
    """A NumPy copy of an array on a GPU."""
    return _import("sklearn_ann._cuda").copy_to_host(array)


def copy_to_gpu_of(other, array):
    """A copy of a NumPy array on the GPU that holds another array."""
    return _import("sklearn_ann._cuda").copy_to_gpu_of(other, array)


# -- what is compiled ------------------------------------------------------------------


def compiled_so_far():
    """How many functions this process has compiled for the CPU."""
    return _import("sklearn_ann._cpu").compilation.n_functions


def printed_compilation(is_wanted):
    """A context in which what is compiled is printed, if that is wanted."""
    return _import("sklearn_ann._cpu").compilation.printed(is_wanted)


def cache_folder():
    """The folder that code compiled for the CPU is kept in; None if there is none."""
    return _import("sklearn_ann._cpu").cache_folder()


# -- imports -------------------------------------------------------------------------


@functools.cache
def _import(name):
    """A module, whose import a fork waits for."""
    with _importing:
        return importlib.import_module(name)
