"""The only file that knows numba-cuda: compiling, launching, memory, missing GPUs.

It uses some names that numba-cuda does not document. A comment beside each says what
breaks when it moves.
"""

from __future__ import annotations

import contextlib
import math
import threading
from types import SimpleNamespace

import numpy as np
from numba import cuda, types

# That of Numba itself, without numba-cuda, has no such name or another one there. If
# numba-cuda renames it, nobody has a GPU: every import ends in the error below.
if getattr(cuda, "implementation", None) != "NVIDIA":
    raise ImportError(
        "device='cuda', and device=None for an array on a GPU, need numba-cuda. "
        'Install it with pip install "sklearn-ann-numba[cuda13]" (for an NVIDIA driver '
        '580 or newer) or "sklearn-ann-numba[cuda12]" (525 or newer), or use '
        "device='cpu'."
    )

# Private: Numba's settings, by the environment variables without "NUMBA_". When it
# moves, this import fails. When ENABLE_CUDASIM is renamed, so does the next line; when
# CUDA_LOW_OCCUPANCY_WARNINGS is, every launch.
from numba.cuda.core import config

# Private: an error of the driver. When it moves, this import fails.
from numba.cuda.cudadrv.driver import CudaAPIError

from sklearn_ann._forks import hold_over_forks

__all__ = [
    "FULL_WARP",
    "INFINITY",
    "WARP",
    "add_exactly_rounded",
    "bits_of",
    "check_device",
    "clear",
    "copy_to_gpu_of",
    "copy_to_host",
    "copy_wide",
    "cuda",
    "device",
    "device_in_use",
    "empty",
    "float16",
    "float32",
    "float64",
    "float_of",
    "free_memory",
    "fused_multiply_add",
    "gpu_of",
    "int32",
    "int64",
    "kernel",
    "launch",
    "load4",
    "multiply_exactly_rounded",
    "to_device",
    "use_device",
]

IS_SIMULATED = bool(config.ENABLE_CUDASIM)


class _InUse(threading.local):
    """Each thread has a GPU of its own in use."""

    number = 0


_in_use = _InUse()

# Settings of Numba are those of all threads. A fork waits until they are as they were.
_changing_settings = threading.RLock()
hold_over_forks(_changing_settings)

WARP = 32
FULL_WARP = 0xFFFFFFFF

# The driver's number of that error: CUDA_ERROR_OUT_OF_MEMORY.
_OUT_OF_MEMORY = 2

# Without fastmath: the bounds of ``_fp32_vectors`` hold for IEEE arithmetic, and
# infinite thresholds must stay infinite. Signatures come with the first call: with one
# in the decorator, importing a kernel would need a GPU.
device = cuda.jit(device=True)


def kernel(function=None, *, launch_bounds=None):
    """Make a kernel of a function, which may be called from the host.

    Launch bounds are the largest number of threads of a block, and how many such blocks
    an SM shall have room for: the compiler uses no more registers than that leaves to a
    thread.
    """
    # The simulator has no registers, and no such option.
    options = {} if IS_SIMULATED else {"launch_bounds": launch_bounds}
    return cuda.jit(function, **options)


# -- devices -------------------------------------------------------------------------


def check_device(number):
    """Raise an error that says what is missing, if there is no such GPU."""
    if not cuda.is_available():
        raise RuntimeError(
            f"device='cuda:{number}' needs an NVIDIA GPU, and none was found. It needs "
            'a driver of version 580 or newer with pip install "sklearn-ann-numba'
            '[cuda13]", 525 or newer with "sklearn-ann-numba[cuda12]". Use device=None '
            "or device='cpu' to search on the CPU."
        )
    if number >= len(cuda.gpus):
        raise RuntimeError(
            f"device='cuda:{number}' does not exist: there are {len(cuda.gpus)} GPUs, "
            "numbered from 0."
        )


@contextlib.contextmanager
def use_device(number):
    """Launches and new arrays are those of this GPU."""
    before = _in_use.number
    with cuda.gpus[number]:
        _in_use.number = number
        try:
            yield
        finally:
            _in_use.number = before


def device_in_use():
    """The number of the GPU that this thread uses; one thread at a time has a GPU."""
    return _in_use.number


def free_memory():
    """Bytes that are free on the GPU in use; infinitely many in the simulator."""
    context = cuda.current_context()
    if not IS_SIMULATED:
        # Private: memory that is to be freed, by and by. It is free. When the name
        # moves, every search fails.
        context.memory_manager.deallocations.clear()
    return context.get_memory_info().free


# -- arrays --------------------------------------------------------------------------


def to_device(array):
    """The array on the GPU in use: a copy, unless it is there."""
    if hasattr(array, "copy_to_host"):
        return array
    with _name_missing_bytes(array.nbytes):
        return cuda.to_device(np.ascontiguousarray(array))


def empty(shape, dtype):
    """An array on the GPU in use, with whatever its memory holds."""
    with _name_missing_bytes(np.dtype(dtype).itemsize * int(np.prod(shape))):
        return cuda.device_array(shape, dtype)


@contextlib.contextmanager
def _name_missing_bytes(n_bytes):
    """Turn the error of a full GPU into that of Python, with the bytes asked for."""
    try:
        yield
    except CudaAPIError as error:
        if error.args[0] != _OUT_OF_MEMORY:
            raise
        raise MemoryError(
            f"The GPU has no room for an array of {n_bytes:,} bytes. Use device='cpu', "
            "or fewer rows."
        ) from error


def clear(array):
    """Set all bytes of an array on the GPU in use to zero."""
    if IS_SIMULATED:
        array[...] = 0
    elif array.size:
        # Private: fills memory of the device. When it moves, every search fails.
        from numba.cuda.cudadrv.driver import device_memset

        device_memset(array, 0, array.nbytes)


def gpu_of(array):
    """The number of the GPU that holds an array of any library; 0 if it is empty."""
    pointer = array.__cuda_array_interface__["data"][0]
    if IS_SIMULATED or not pointer:
        return 0
    # Private: NVIDIA's driver. The interface of the array does not say which GPU it is
    # on. When the driver moves, device=None fails for arrays that are neither of torch
    # nor of CuPy, and so does copying them.
    from numba.cuda.cudadrv.driver import binding, driver

    attribute = binding.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    return int(driver.cuPointerGetAttribute(attribute, binding.CUdeviceptr(pointer)))


def copy_to_host(array):
    """A NumPy copy of an array of any library, of any strides that are positive."""
    if IS_SIMULATED:
        # Memory of the host.
        interface = array.__cuda_array_interface__
        return np.array(SimpleNamespace(__array_interface__=interface))
    # Not ``use_device``: another thread may be searching on another GPU.
    with cuda.gpus[gpu_of(array)]:
        # All that the owner has started, on whatever stream.
        cuda.synchronize()
        return cuda.as_cuda_array(array, sync=False).copy_to_host()


def copy_to_gpu_of(other, array):
    """A copy of a NumPy array on the GPU that holds another array."""
    with cuda.gpus[gpu_of(other)]:
        return to_device(array)


def launch(function, grid, block, *args):
    """Start a kernel, on nothing if the grid is empty."""
    if 0 in (grid if isinstance(grid, tuple) else (grid,)):
        return
    # Small searches have small grids: no reason to warn.
    with _changing_settings:
        before = config.CUDA_LOW_OCCUPANCY_WARNINGS
        config.CUDA_LOW_OCCUPANCY_WARNINGS = 0
        try:
            configured = function[grid, block]
        finally:
            config.CUDA_LOW_OCCUPANCY_WARNINGS = before
    configured(*args)


# -- arithmetic and loads that the simulator knows by other names --------------------

if IS_SIMULATED:
    # Those of Numba, called as functions, are ten times slower.
    from numpy import float16, float32, float64, int32, int64

    def add_exactly_rounded(a, b):
        return a + b

    def multiply_exactly_rounded(a, b):
        return a * b

    def bits_of(value):
        return np.float32(value).view(np.int32)

    def float_of(bits):
        return np.int32(bits).view(np.float32)

    def fused_multiply_add(a, b, c):
        # The product is exact, and the sum is rounded to odd: to float32 then as if
        # there had been one rounding (Boldo and Melquiond, 2008).
        product, c = float(a) * float(b), float(c)
        total = product + c
        part = total - product
        rest = (product - (total - part)) + (c - part)
        if rest and math.isfinite(total) and not int(_bits_of_double(total)) & 1:
            total = math.nextafter(total, math.copysign(math.inf, rest))
        return np.float32(total)

    def _bits_of_double(value):
        return np.float64(value).view(np.int64)

    def load4(array, i):
        assert i % 4 == 0, "loads of 16 bytes are aligned"
        return array[i], array[i + 1], array[i + 2], array[i + 3]

    def copy_wide(source, i, target, j):
        n = 16 // source.itemsize
        assert i % n == j % n == 0, "copies of 16 bytes are aligned"
        assert source.dtype == target.dtype
        for step in range(n):
            target[j + step] = source[i + step]

else:
    from llvmlite import ir
    from numba import float32, float64, int32, int64

    # Private: code generation (cgutils, and the methods of a target context that the
    # two intrinsics below call). When they move, no filter compiles: tests/cuda_compile
    # fails, the simulator does not notice.
    from numba.cuda import cgutils, libdevice
    from numba.cuda.extending import intrinsic

    float16 = types.float16

    # A product and a sum that the compiler does not fuse into one operation.
    add_exactly_rounded = libdevice.dadd_rn
    multiply_exactly_rounded = libdevice.dmul_rn

    # Of float32, rounded once.
    fused_multiply_add = libdevice.fmaf_rn

    # A float32 and the int32 of the same bits.
    bits_of, float_of = libdevice.float_as_int, libdevice.int_as_float

    def _four_at(context, builder, array_type, array, i, dtype):
        """Where four numbers of 32 bits are, from number i of a 1-D array on."""
        struct = context.make_array(array_type)(context, builder, value=array)
        pointer = cgutils.get_item_pointer(
            context, builder, array_type, struct, [i], wraparound=False
        )
        four = ir.VectorType(context.get_data_type(dtype), 4)
        return builder.bitcast(pointer, ir.PointerType(four, pointer.type.addrspace))

    @intrinsic
    def load4(typingctx, array, i):
        """Four numbers of 32 bits of a 1-D array from number i on, in one load.

        The array starts at a multiple of 16 bytes, and i is a multiple of 4.
        """
        signature = types.UniTuple(array.dtype, 4)(array, types.int64)

        def generate(context, builder, signature, args):
            array_type = signature.args[0]
            four = _four_at(context, builder, array_type, *args, array_type.dtype)
            vector = builder.load(four, align=16)
            items = [
                builder.extract_element(vector, ir.Constant(ir.IntType(32), n))
                for n in range(4)
            ]
            return context.make_tuple(builder, signature.return_type, items)

        return signature, generate

    @intrinsic
    def copy_wide(typingctx, source, i, target, j):
        """Copy 16 bytes of a 1-D array, from number i on, to number j of another one.

        Both have one dtype and start at multiples of 16 bytes, as numbers i and j do.
        """
        signature = types.void(source, types.int64, target, types.int64)

        def generate(context, builder, signature, args):
            source_type, _, target_type, _ = signature.args
            four = _four_at(context, builder, source_type, *args[:2], types.int32)
            vector = builder.load(four, align=16)
            four = _four_at(context, builder, target_type, *args[2:], types.int32)
            builder.store(vector, four, align=16)
            return context.get_dummy_value()

        return signature, generate


# In float32, so that kernels of float32 stay such.
INFINITY = float32(math.inf)
