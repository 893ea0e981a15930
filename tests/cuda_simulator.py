"""Numba's CUDA simulator with greenlets for threads: quick, strict, and with warps.

The simulator of numba-cuda runs each thread of a block in a thread of Python: a barrier
of 256 of them takes tens of milliseconds, warp primitives are missing, and mistakes go
unnoticed. Here a block is a set of greenlets that take turns:

- threads run until they wait for others, in a chosen order (``set_order``): forward,
  reverse or random. A kernel that lacks a barrier gives different answers. Blocks run
  one after the other, in the same order;
- a barrier that not all threads of a block reach, from the same line, is a
  `SimDeadlock`, and so is a warp operation that not all lanes of its mask reach;
- an index below 0, which wraps around on the device too, is an IndexError as one beyond
  the end is (in local memory the simulator does not see it);
- shared, local and new device memory is filled with garbage, and so is memory that is
  used again (``spoil``).

Works with ``NUMBA_ENABLE_CUDASIM=1`` only. `install` replaces the parts of the
simulator; numba-cuda is in maintenance, so they stay what they are.
"""

from __future__ import annotations

import math
import random
import sys
from collections import defaultdict
from typing import NamedTuple

import numpy as np
from greenlet import GreenletExit, getcurrent, greenlet
from numba import cuda
from numba.cuda import types
from numba.cuda.np import numpy_support
from numba.cuda.simulator import kernel, kernelapi

ORDERS = ("forward", "reverse", "random")
WARP = 32

_POISON = 0xA5
_order = "forward"
_running = None  # the _Thread whose turn it is


class SimDeadlock(RuntimeError):
    """Threads wait for others that will never come."""


class Wait(NamedTuple):
    """What a thread waits for, and where. Threads that agree go on together."""

    operation: str
    mask: int  # the lanes of a warp that take part; 0: all threads of the block
    site: tuple  # file and line


class _Thread:
    def __init__(self, number, block_dim, block_index, body):
        width, height, _ = block_dim
        self.number, self.lane = number, number % WARP
        self.index = kernelapi.Dim3(
            number % width, number // width % height, number // (width * height)
        )
        self.block_index = kernelapi.Dim3(*block_index)
        self.greenlet = greenlet(body)
        self.wait = self.value = self.result = None

    @property
    def is_done(self):
        return self.greenlet.dead

    def __repr__(self):
        return f"thread {self.number} of block {tuple(self.block_index)}"

    def switch(self):
        """Run until it waits or ends."""
        global _running
        _running = self
        try:
            self.greenlet.switch()
        except Exception as error:
            error.add_note(f"in {self!r}")
            raise
        finally:
            _running = None


def _wait_for(operation, mask, value, depth=2):
    """Let the others run until they are there too; what the operation gives."""
    frame = sys._getframe(depth)
    thread = _running
    if mask and not int(mask) >> thread.lane & 1:
        raise SimDeadlock(f"{operation}: lane {thread.lane} is not in its own mask")
    thread.wait = Wait(operation, int(mask), (frame.f_code.co_filename, frame.f_lineno))
    thread.value = value
    thread.greenlet.parent.switch()
    return thread.result


# -- blocks --------------------------------------------------------------------------


class _Block:
    """Takes the place of the simulator's BlockManager."""

    def __init__(self, function, grid_dim, block_dim, debug):
        self._function, self._grid_dim, self._block_dim = function, grid_dim, block_dim

    def run(self, grid_point, *args):
        point = _reordered(grid_point, self._grid_dim)

        def body():
            # On a device nothing warns. Each greenlet has settings of its own.
            with np.errstate(all="ignore"):
                self._function(*args)

        n_threads = math.prod(self._block_dim)
        threads = [
            _Thread(number, self._block_dim, point, body) for number in range(n_threads)
        ]
        rng, ready, hub = random.Random(repr(point)), list(threads), getcurrent()
        for thread in threads:
            thread.greenlet.parent = hub
        try:
            while ready:
                if _order == "reverse":
                    ready.reverse()
                elif _order == "random":
                    rng.shuffle(ready)
                for thread in ready:
                    thread.switch()
                ready = _release(threads)
        finally:
            for thread in threads:
                thread.greenlet.throw(GreenletExit)


def _reordered(grid_point, grid_dim):
    """Another block instead: all get their turn, in the chosen order."""
    if _order == "forward":
        return grid_point
    n = math.prod(grid_dim)
    places = list(range(n))[::-1]
    if _order == "random":
        random.Random(n).shuffle(places)
    place = places[np.ravel_multi_index(grid_point, grid_dim)]
    return tuple(map(int, np.unravel_index(place, grid_dim)))


def _release(threads):
    """The threads that have waited long enough, with their results."""
    waiting = [thread for thread in threads if not thread.is_done]
    if not waiting:
        return []
    if all(thread.wait.mask == 0 for thread in waiting):
        sites = {thread.wait[::2] for thread in waiting}
        if len(sites) > 1:
            raise SimDeadlock(f"threads of a block at different barriers: {sites}")
        if len(waiting) < len(threads):
            raise SimDeadlock(f"barrier after threads have ended: {sites}")
        released = waiting
        _finish_barrier(released)
    else:
        released = []
        for group in _warp_groups(waiting):
            mask = group[0].wait.mask
            if sum(1 << thread.lane for thread in group) == mask:
                _finish_warp_operation(group)
                released += group
    if not released:
        examples = [f"{thread!r} at {thread.wait}" for thread in waiting[:8]]
        raise SimDeadlock("nobody can go on: " + "; ".join(examples))
    for thread in released:
        thread.wait = None
    return released


def _warp_groups(waiting):
    """The threads of a warp that wait for the same operation, with the same mask."""
    groups = defaultdict(list)
    for thread in waiting:
        if thread.wait.mask:
            groups[thread.number // WARP, *thread.wait].append(thread)
    return groups.values()


# -- what barriers and warp operations give ------------------------------------------


def _finish_barrier(threads):
    values = [bool(thread.value) for thread in threads]
    result = {
        "syncthreads": None,
        "syncthreads_count": sum(values),
        "syncthreads_and": int(all(values)),
        "syncthreads_or": int(any(values)),
    }[threads[0].wait.operation]
    for thread in threads:
        thread.result = result


def _finish_warp_operation(threads):
    operation = threads[0].wait.operation
    values = {thread.lane: thread.value for thread in threads}
    if operation.startswith("shfl"):
        for thread in threads:
            lane = _source_lane(operation, thread.lane, thread.value[1])
            if lane not in values:
                raise SimDeadlock(f"{operation} reads lane {lane}, which is absent")
            thread.result = values[lane][0]
    elif operation == "match_any_sync":
        for thread in threads:
            thread.result = _mask(
                lane for lane in values if values[lane] == thread.value
            )
    else:
        is_true = [bool(value) for value in values.values()]
        ballot = _mask(lane for lane in values if values[lane])
        result = {
            "syncwarp": None,
            "all_sync": all(is_true),
            "any_sync": any(is_true),
            "eq_sync": len(set(is_true)) == 1,
            # A signed integer on the device too.
            "ballot_sync": int(np.uint32(ballot).astype(np.int32)),
        }[operation]
        for thread in threads:
            thread.result = result


def _mask(lanes):
    return sum(1 << lane for lane in lanes)


def _source_lane(operation, lane, argument):
    other = {
        "shfl_sync": argument % WARP,
        "shfl_up_sync": lane - argument,
        "shfl_down_sync": lane + argument,
        "shfl_xor_sync": lane ^ argument,
    }[operation]
    return other if 0 <= other < WARP else lane


# -- memory --------------------------------------------------------------------------


def _poisoned(shape, dtype):
    if isinstance(dtype, types.Type):
        dtype = numpy_support.as_dtype(dtype)
    array = np.empty(shape, dtype)
    array.reshape(-1).view(np.uint8)[:] = _POISON
    return array


class _Array:
    """An array as kernels see it: every index is checked."""

    __slots__ = ("_array",)

    def __init__(self, array):
        self._array = getattr(array, "_ary", array)

    def __getattr__(self, name):
        return getattr(self._array, name)

    def __len__(self):
        return len(self._array)

    def __getitem__(self, index):
        self._check(index)
        item = self._array[index]
        return _Array(item) if type(item) is np.ndarray else item

    def __setitem__(self, index, value):
        self._check(index)
        self._array[index] = value

    @staticmethod
    def _check(index):
        if type(index) is not tuple:
            index = (index,)
        for i in index:
            if type(i) is not slice and i < 0:
                raise IndexError(f"index {index} is negative")


class _Local(kernelapi.FakeCUDALocal):
    def array(self, shape, dtype, alignment=None):
        # As it is: inner loops live on these.
        return _poisoned(shape, dtype)


class _Shared(kernelapi.FakeCUDAShared):
    def array(self, shape, dtype, alignment=None):
        if shape == 0:
            return _Array(super().array(shape, numpy_support.as_dtype(dtype)))
        frame = sys._getframe(1)
        site = frame.f_code, frame.f_lasti
        # A new block is not given what another one has left behind.
        key = tuple(_running.block_index), site
        if key not in self._allocations:
            self._allocations[key] = _Array(_poisoned(shape, dtype))
        return self._allocations[key]


# -- what kernels call ---------------------------------------------------------------


class _Module(kernelapi.FakeCUDAModule):
    """The name ``cuda`` inside of a kernel."""

    def __init__(self, grid_dim, block_dim, dynshared_size):
        super().__init__(grid_dim, block_dim, dynshared_size)
        self._local, self._shared = _Local(), _Shared(dynshared_size)

    threadIdx = property(lambda self: _running.index)
    blockIdx = property(lambda self: _running.block_index)
    laneid = property(lambda self: _running.lane)

    def syncthreads(self):
        _wait_for("syncthreads", 0, None)

    def syncthreads_count(self, predicate):
        return _wait_for("syncthreads_count", 0, predicate)

    def syncthreads_and(self, predicate):
        return _wait_for("syncthreads_and", 0, predicate)

    def syncthreads_or(self, predicate):
        return _wait_for("syncthreads_or", 0, predicate)

    def syncwarp(self, mask=0xFFFFFFFF):
        _wait_for("syncwarp", mask, None)

    def shfl_sync(self, mask, value, lane):
        return _wait_for("shfl_sync", mask, (value, int(lane)))

    def shfl_up_sync(self, mask, value, delta):
        return _wait_for("shfl_up_sync", mask, (value, int(delta)))

    def shfl_down_sync(self, mask, value, delta):
        return _wait_for("shfl_down_sync", mask, (value, int(delta)))

    def shfl_xor_sync(self, mask, value, lane_mask):
        return _wait_for("shfl_xor_sync", mask, (value, int(lane_mask)))

    def ballot_sync(self, mask, predicate):
        return _wait_for("ballot_sync", mask, predicate)

    def all_sync(self, mask, predicate):
        return _wait_for("all_sync", mask, predicate)

    def any_sync(self, mask, predicate):
        return _wait_for("any_sync", mask, predicate)

    def eq_sync(self, mask, predicate):
        return _wait_for("eq_sync", mask, predicate)

    def match_any_sync(self, mask, value):
        return _wait_for("match_any_sync", mask, value)

    def activemask(self):
        raise SimDeadlock("activemask depends on the hardware: name the lanes")

    # Those of the simulator do not know negative numbers.

    def popc(self, value):
        return (int(value) & 0xFFFFFFFF).bit_count()

    def ffs(self, value):
        # Of numbers of 32 or 64 bits.
        value = int(value)
        return (value & -value).bit_length()

    def clz(self, value):
        return WARP - (int(value) & 0xFFFFFFFF).bit_length()


class _Swapped:
    """The name ``cuda`` of a module means the simulated one until the launch ends.

    Takes the place of a context of the simulator, which looks through the names of the
    module at each call of a device function.
    """

    _modules = []

    def __init__(self, function, module):
        self._names, self._module = function.__globals__, module

    def __enter__(self):
        if self._names.get("cuda") is cuda:
            self._names["cuda"] = self._module
            self._modules.append(self._names)

    def __exit__(self, *_):
        if _running is None:
            while self._modules:
                self._modules.pop()["cuda"] = cuda


def set_order(order):
    """The order in which threads, and blocks, take their turns."""
    global _order
    assert order in ORDERS
    _order = order


def spoil(array):
    """Fill an array of the device with garbage."""
    array._ary[...] = _poisoned(array.shape, array.dtype)
    return array


def install():
    """Put the parts of this module in the place of the simulator's."""
    kernel.BlockManager = _Block
    kernel.FakeCUDAModule = _Module
    kernel.FakeWithinKernelCUDAArray = _Array
    kernel.swapped_cuda_module = _Swapped
    stock = cuda.device_array

    def device_array(shape, dtype=np.float64, *args, **kwargs):
        return spoil(stock(shape, dtype, *args, **kwargs))

    cuda.device_array = device_array
