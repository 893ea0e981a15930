"""The operations of the seam on an NVIDIA GPU, compiled by numba-cuda on first use.

The answers are those of ``_cpu``, to the last bit, and so is the index, which is built
on the host: a model fitted with one of them is searched with the other.

Who calls whom, from the seam down; the names are those of the files::

    on_device: a lock for each GPU, and the operations
     |
     +-- _knn  _radius  _ivf_flat  _ivf_pq  _kmeans  _refine
     |    |     the operations, in files named as those of _cpu; flat and probed
     |    |     searches run through _knn and _radius, along a route
     |    |
     |    +-- _routes           which panels a query visits
     |    |    |
     |    |    +-- _fp32_routes       vectors, filtered in float32
     |    |    |    |
     |    |    |    +-- _queries          queries on the GPU
     |    |    |    +-- _fp32_chains      the filter along the lists that are probed
     |    |    |    +-- _fp32_filter      the filter of all rows, its tiles
     |    |    |    +-- _fp32_vectors     float32 images, and their proven bound
     |    |    |
     |    |    +-- _pq_routes         codes, filtered by tables
     |    |         |
     |    |         +-- _pq_tables        tables, and their proven bound
     |    |         +-- _pq_filter        sums of table entries
     |    |
     |    +-- _topk             thresholds, and the k smallest, by a block
     |
     +-- _pq_codes         encode_pq; what codes stand for

    used by all of them:

    _image         the index on the GPU, for as long as it lives
    _memory        what fits at once
    _scratch       memory for the arrays of a search
    _candidates    what the filters append to
    _chains        panels of each query
    _distance      exact distances
    _compat        numba-cuda
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import traceback
from types import SimpleNamespace

from sklearn_ann._cpu import (
    accumulate_codewords,
    decode_rows,
    encode_sq8,
    place_pq,
    rank_duplicates,
)
from sklearn_ann._cuda._compat import (
    check_device,
    copy_to_gpu_of,
    copy_to_host,
    gpu_of,
    use_device,
)
from sklearn_ann._cuda._image import drop_dead_images
from sklearn_ann._cuda._ivf_flat import radius_ivf_flat, scan_ivf_flat
from sklearn_ann._cuda._ivf_pq import (
    candidates_ivf_pq,
    radius_ivf_pq,
    scan_ivf_pq,
)
from sklearn_ann._cuda._kmeans import accumulate_clusters, assign, encode_training_rows
from sklearn_ann._cuda._knn import knn
from sklearn_ann._cuda._pq_codes import encode_pq
from sklearn_ann._cuda._radius import radius
from sklearn_ann._cuda._refine import refine

__all__ = ["OPERATIONS", "copy_to_gpu_of", "copy_to_host", "gpu_of", "on_device"]

_ON_DEVICE = (
    *(accumulate_clusters, assign, encode_training_rows, knn, radius),
    *(radius_ivf_flat, scan_ivf_flat),
    *(candidates_ivf_pq, encode_pq, radius_ivf_pq, refine, scan_ivf_pq),
)

# They make parts of the index, which is built on the host, or read it there. Each reads
# or writes a row once: to copy it to a GPU would be as much work.
_ON_HOST = (accumulate_codewords, decode_rows, encode_sq8, place_pq, rank_duplicates)

OPERATIONS = sorted(operation.__name__ for operation in (*_ON_DEVICE, *_ON_HOST))

# One search at a time has the memory of a GPU. By number of the GPU.
_locks: dict[int, threading.Lock] = {}

if hasattr(os, "register_at_fork"):
    # A thread that the child of a fork does not have may hold them. The fork does not
    # wait for the end of a search, as it does for locks that are held over forks: CUDA
    # does not work in the child of a process that has used it, and says so there.
    os.register_at_fork(after_in_child=_locks.clear)


@functools.cache
def on_device(number):
    """The operations on one GPU, as a backend."""
    check_device(number)

    def bind(operation):
        @functools.wraps(operation)
        def run(*args):
            # One lock for two threads that ask at the same time: this is atomic.
            lock = _locks.setdefault(number, threading.Lock())
            with lock, use_device(number):
                drop_dead_images()
                handled = sys.exception()
                try:
                    return operation(*args)
                except BaseException as error:
                    _drop_arrays(error, handled)
                    raise

        return run

    bound = {operation.__name__: bind(operation) for operation in _ON_DEVICE}
    bound |= {operation.__name__: operation for operation in _ON_HOST}
    return SimpleNamespace(**bound)


def _drop_arrays(error, handled):
    """Drop what the frames of an error hold, and of those before it in an operation.

    Whoever catches it keeps them alive, and drops them where no GPU is in use. The
    error that the caller was handling at the time is the caller's.
    """
    while error is not None and error is not handled:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
