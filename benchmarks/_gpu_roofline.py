"""What the GPU can do at best, and how near to it the kernels come.

Kernels are timed alone, by events on the GPU: those that a search has launched are
launched again with the same arguments. So the thresholds are those at the end of the
search, and few candidates are appended, as in all rounds but the first.
"""

import math
import statistics
from contextlib import ExitStack, contextmanager
from inspect import signature
from unittest.mock import patch

import numpy as np

NO_CLOCK = "the simulator has no clock"

# Launches wait behind a kernel that lasts so many milliseconds for each of them, so
# that the GPU has all when it begins: a launch may take longer than a small kernel.
_MS_A_LAUNCH = 0.5

# Threads and blocks of the kernels that measure the ceilings: enough for any GPU.
_THREADS, _BLOCKS = 256, 4096

# Names of ceilings.
_READ = "read, GB/s"
_MULTIPLY = "float32 multiply-add, TFLOP/s"
_LOOK_UP = "look-ups in shared memory, 10^12/s"


def ceilings(run):
    """What the device copies, reads, multiplies and looks up."""
    device = _Device(run)
    own = device.kernels
    n, n_steps, n_blocks = (2**12, 2, 1) if run.options.sim else (2**30, 2**14, _BLOCKS)
    source, target = device.empty(n), device.empty(n)
    ms = device.ms(lambda: target.copy_to_device(source))
    yield _rate("copy, GB/s", 2 * 4 * n / 1e6, ms)
    ms = device.ms_of([device.launch_of(own.read, n_blocks, source)])
    yield _rate(_READ, 4 * n / 1e6, ms)
    steps = n_steps * n_blocks * _THREADS
    ms = device.ms_of([device.launch_of(own.multiply, n_blocks, n_steps)])
    yield _rate(_MULTIPLY, own.FLOP_A_STEP * steps / 1e9, ms)
    ms = device.ms_of([device.launch_of(own.look_up, n_blocks, n_steps)])
    yield _rate(_LOOK_UP, own.LOOK_UPS_A_STEP * steps / 1e9, ms)
    try:
        torch = run.torch()
    except ImportError as error:
        yield {"what": "matrices, TFLOP/s", "skipped": str(error)}
        return
    for name in ("float32", "TF32", "bfloat16"):
        torch.backends.cuda.matmul.allow_tf32 = name == "TF32"
        dtype = torch.bfloat16 if name == "bfloat16" else torch.float32
        x = torch.randn(8192, 8192, device="cuda", dtype=dtype)
        # Both libraries work in the default stream, where the clock is.
        ms = device.ms(lambda x=x: x @ x)
        torch.backends.cuda.matmul.allow_tf32 = False
        yield _rate(f"matrices, {name}, TFLOP/s", 2 * 8192**3 / 1e9, ms)


def _rate(what, work_per_ms, ms):
    if ms is None:
        return {"what": what, "skipped": NO_CLOCK}
    return {"what": what, "value": work_per_ms / ms}


def kernels(run):
    """The filters alone, against the ceilings of reading and of what they compute."""
    device = _Device(run)
    measured = {row["what"]: row.get("value") for row in run.rows_of(ceilings)}
    for name, X, Q in run.data_sets():
        for estimator, kinds, variant in _fitted(run, X):
            for batch in run.batches:
                if run.seconds_left < 0:
                    yield {"kernel": run.STOPPED}
                    return
                with _recorded(run) as launches:
                    estimator.kneighbors(Q[:batch])
                for kind in kinds:
                    own = [call for call in launches if _name(call[0]) == kind]
                    if own:
                        found = _compare(device, own, batch, measured)
                        where = {"data": name, "batch": batch}
                        yield {"kernel": kind, **variant, **where, **found}


def _fitted(run, X):
    """The estimators, the kernels of each that are looked at, and in which variant."""
    from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors
    from sklearn_ann._cuda import _pq_filter

    flat = FlatL2Neighbors(run.k, device="cuda").fit(X)
    yield flat, ("filter_few", "filter_many"), {}
    # They also search the centroids, with the other two.
    params = {"nlist": run.nlist_for(X), "nprobe": run.nprobe, "random_state": 0}
    params = {"device": "cuda", "max_iter": 2, **params}
    lists = IVFFlatNeighbors(run.k, **params).fit(X)
    yield lists, ("filter_chains", "filter_lists"), {}
    parts = {"nbits": 4, "m": 2} if run.options.sim else {"nbits": 8}
    codes = IVFPQNeighbors(run.k, **params, **parts).fit(X)
    for dtype, most in (("float32", X.shape[1]), ("float16", 0)):
        # Whatever would be taken for so many parts.
        with patch.object(_pq_filter, "MOST_FLOATS", most):
            yield codes, ("filter_codes",), {"tables": dtype}


@contextmanager
def _recorded(run):
    """The launches of filters: function, grid, block and arguments of each."""
    from sklearn_ann._cuda import _fp32_filter, _fp32_routes, _pq_routes
    from sklearn_ann._cuda._compat import launch

    launches = []

    def record(*call):
        launch(*call)
        if 0 not in np.atleast_1d(call[1]):
            launches.append(call)

    with ExitStack() as patches:
        for module in (_fp32_filter, _fp32_routes, _pq_routes):
            patches.enter_context(patch.object(module, "launch", record))
        if run.options.sim:
            # Its searches are so small that two kernels would not be used.
            patches.enter_context(patch.object(_fp32_filter, "MOST_FEW", 1))
            patches.enter_context(patch.object(_fp32_routes, "_SHARED", 1))
        yield launches


def _compare(device, launches, batch, measured):
    """Time of the launches of one kernel, together, and the least it could be."""
    works = [_work(*launch, batch) for launch in launches]
    count, useful, n_bytes = map(sum, zip(*works, strict=True))
    looks_up = _name(launches[0][0]) == "filter_codes"
    unit, ceiling = ("G look-ups", _LOOK_UP) if looks_up else ("GFLOP", _MULTIPLY)
    row = {"launches": len(launches), unit: count / 1e9}
    row |= {"useful": useful / count, "MB": n_bytes / 1e6}
    ms = device.ms_of(launches)
    if ms is None:
        return {**row, "skipped": NO_CLOCK}
    compute, read = row[unit] / measured[ceiling], row["MB"] / measured[_READ]
    computing = "looking up" if looks_up else "multiplying"
    row |= {"ms": ms, "bound by": computing if compute > read else "reading"}
    return {**row, "fraction of the ceiling": max(compute, read) / ms}


def _work(function, grid, block, *rest):
    """Operations of a launch, those that are meant, and bytes of the rows it reads.

    What several blocks want is read from memory once, at best. With ``filter_chains``
    and ``filter_codes`` there is no saying, and it counts for each query: what is in
    the cache for another one may lift it above the ceiling.
    """
    *arguments, batch = rest
    given = dict(zip(signature(_function(function)).parameters, arguments, strict=True))
    if _name(function) == "filter_codes":
        return _work_on_codes(given)
    flop_a_pair = 2 * 4 * given["n_steps"]
    row_bytes = 16 * given["n_steps"] + 4
    if _name(function) in ("filter_few", "filter_many"):
        n_queries = grid[0] * (8 if _name(function) == "filter_few" else 128)
        rows = 128 * grid[1]
        pairs, useful = n_queries * rows, min(batch, n_queries) * rows
    elif _name(function) == "filter_chains":
        rows = _rows_of_chains(given["ends"], 2 * given["first"], 2 * given["last"])
        pairs = useful = rows
    else:
        items = given["items"].copy_to_host().astype(np.int64)
        members, panels = items[:, 1] - items[:, 0], items[:, 3] - items[:, 2]
        places = np.unique(items[:, 2:], axis=0)
        rows = 64 * int((places[:, 1] - places[:, 0]).sum())
        pairs, useful = len(items) * 128**2, 64 * int((members * panels).sum())
    return flop_a_pair * pairs, flop_a_pair * useful, rows * row_bytes


def _work_on_codes(given):
    """The same of ``filter_codes``: look-ups, and bytes of codes, terms and tables."""
    rows = _rows_of_chains(given["ends"], given["first"], given["last"])
    n_look_ups = rows * given["m"]
    tables = given["tables"].size * given["tables"].dtype.itemsize
    return n_look_ups, n_look_ups, n_look_ups + 4 * rows + tables


def _rows_of_chains(ends, first, last):
    """The places of all queries in some of the panels of their chains."""
    ends = ends.copy_to_host()[:, -1]
    return 64 * int((np.clip(ends, first, last) - first).sum())


def _function(kernel):
    """The Python function of a kernel, compiled or simulated."""
    return kernel.py_func if hasattr(kernel, "py_func") else kernel.fn


def _name(kernel):
    return _function(kernel).__name__


class _Device:
    """The kernels that measure, and the clock of the GPU."""

    def __init__(self, run):
        import _gpu_kernels

        from sklearn_ann._cuda import _compat

        self.kernels, self._compat, self._run = _gpu_kernels, _compat, run
        self._sums = _compat.to_device(np.zeros(_BLOCKS * _THREADS, np.float32))
        self._steps_a_ms = 1.0
        if not run.options.sim:
            n_steps = 2**14
            delay = self.launch_of(_gpu_kernels.multiply, 1, n_steps)
            self.ms_of([delay])
            self._steps_a_ms = n_steps / self.ms_of([delay])

    def empty(self, n):
        return self._compat.empty(n, np.float32)

    def launch_of(self, kernel, n_blocks, argument):
        return kernel, n_blocks, _THREADS, argument, self._sums

    def ms_of(self, launches):
        """The time of some launches, one after the other: the median."""

        def call():
            for launch in launches:
                self._compat.launch(*launch)

        return self.ms(call, len(launches))

    def ms(self, call, n_launches=1):
        """The time on the GPU of what a call starts there: the median."""
        call()  # compiles
        if self._run.options.sim:
            return None
        cuda = self._compat.cuda
        start, end = cuda.event(), cuda.event()
        n_steps = math.ceil(self._steps_a_ms * _MS_A_LAUNCH * n_launches)
        delay = self.launch_of(self.kernels.multiply, 1, n_steps)
        times = []
        for _ in range(self._run.rounds):
            self._compat.launch(*delay)
            start.record()
            call()
            end.record()
            end.synchronize()
            times.append(cuda.event_elapsed_time(start, end))
        return statistics.median(times)
