"""The operations of the seam on an NVIDIA GPU, compiled by numba-cuda on first use.

The answers are those of ``_cpu``, to the last bit, and so is the index, which is built
on the host: a model fitted with one of them is searched with the other.
"""

from __future__ import annotations

import functools
import threading
from types import SimpleNamespace

from sklearn_ann._cpu import (
    accumulate_codewords,
    decode_rows,
    encode_sq8,
    place_pq,
    rank_twins,
)
from sklearn_ann._cuda._compat import (
    check_device,
    copy_to_gpu_of,
    copy_to_host,
    gpu_of,
    use_device,
)
from sklearn_ann._cuda._ivf_flat import radius_ivf_flat, scan_ivf_flat
from sklearn_ann._cuda._ivf_pq import (
    candidates_ivf_pq,
    radius_ivf_pq,
    scan_ivf_pq,
)
from sklearn_ann._cuda._kmeans import accumulate_clusters, assign
from sklearn_ann._cuda._knn import knn
from sklearn_ann._cuda._pq_codes import encode_pq
from sklearn_ann._cuda._radius import radius
from sklearn_ann._cuda._refine import refine

__all__ = ["OPERATIONS", "copy_to_gpu_of", "copy_to_host", "gpu_of", "on_device"]

_ON_DEVICE = (
    *(accumulate_clusters, assign, knn, radius),
    *(radius_ivf_flat, scan_ivf_flat),
    *(candidates_ivf_pq, encode_pq, radius_ivf_pq, refine, scan_ivf_pq),
)

# They make parts of the index, which is built on the host, or read it there. Each reads
# or writes a row once: to copy it to a GPU would be as much work.
_ON_HOST = (accumulate_codewords, decode_rows, encode_sq8, place_pq, rank_twins)

OPERATIONS = sorted(operation.__name__ for operation in (*_ON_DEVICE, *_ON_HOST))

# One search at a time has the memory of a GPU.
_lock = threading.Lock()


@functools.cache
def on_device(number):
    """The operations on one GPU, as a backend."""
    check_device(number)

    def bind(operation):
        @functools.wraps(operation)
        def run(*args):
            with _lock, use_device(number):
                return operation(*args)

        return run

    bound = {operation.__name__: bind(operation) for operation in _ON_DEVICE}
    bound |= {operation.__name__: operation for operation in _ON_HOST}
    return SimpleNamespace(**bound)

