"""Every kernel compiles to machine code as good as declared, without a GPU.

numba-cuda compiles as it does at a launch: libNVVM makes code for link-time
optimization, for the architecture that numba-cuda takes for the device (sm_90a for an
H100), and nvJitLink makes machine code of it, with the launch bounds of the kernel.
Neither library needs a driver. Only the questions that numba-cuda asks the device are
answered here. What remains unseen is loading the code, and machines with other versions
of the two libraries. nvdisasm shows the machine code and what it needs. The table
KERNELS is the one place that says what a kernel may need.
"""

import re
import subprocess
import sysconfig
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

_HOW = "pip install -r .ci/cuda_compile.txt"
for module in ("numba_cuda", "nvidia.cu13"):
    pytest.importorskip(module, reason=f"{module} is not installed: {_HOW}")

from numba import config, types

if config.ENABLE_CUDASIM:
    pytest.skip("the simulator compiles nothing", allow_module_level=True)

NVDISASM = Path(sysconfig.get_path("purelib"), "nvidia", "cu13", "bin", "nvdisasm")
if not NVDISASM.is_file():
    pytest.skip(f"nvdisasm is not installed: {_HOW}", allow_module_level=True)

from numba.cuda import dispatcher
from numba.cuda.cudadrv import devices, driver

# Without it, numba-cuda compiles in another way.
if not driver._have_nvjitlink():
    pytest.skip(f"nvJitLink is not installed: {_HOW}", allow_module_level=True)

from numba.np import numpy_support

from sklearn_ann._cuda import (
    _distance,
    _fp32_chains,
    _fp32_filter,
    _fp32_vectors,
    _kmeans,
    _knn,
    _pq_codes,
    _pq_filter,
    _pq_tables,
    _queries,
    _refine,
    _topk,
)

f2, f4, f8 = types.float16, types.float32, types.float64
u1, i4, i8 = types.uint8, types.int32, types.int64
ARCHITECTURES = [(8, 0), (9, 0)]


def array(dtype, ndim=1):
    return types.Array(dtype, ndim, "C")


class Declared(NamedTuple):
    """A kernel, the types of its arguments, and what it may need."""

    function: object
    arguments: tuple
    registers: int
    shared: int = 0  # bytes
    float64: bool = False  # whether it computes in float64 on purpose
    bounds: tuple = ()  # threads of a block, and blocks on an SM: see ``kernel``
    wide_loads: tuple = ()  # instructions that must be there
    multiply_share: float = 0.0  # of the instructions of the largest loop


_FILTER = (
    *(array(f4), array(f4), array(f4), i8, f4, array(f4), i8, i8, i8),
    *(array(i8), array(i4), array(f4), array(f4), array(i4)),
)
_OPERANDS, _CANDIDATES = _FILTER[:6], _FILTER[9:]
_CHAINS = array(i4), array(i8), array(i4, 2), array(i4, 2)
_MEASURED = array(i8), array(i4), array(i4), array(i4), array(f8)
_MANY = _fp32_filter.MANY_THREADS, _fp32_filter.MANY_BLOCKS
_CODES, _WORDS = (array(i4), array(i4)), (array(f4, 3), array(i4))

KERNELS = {
    "filter_many": Declared(
        _fp32_filter.filter_many,
        _FILTER,
        registers=128,
        shared=4 * 2 * _fp32_filter.TWO_STEPS,
        bounds=_MANY,
        wide_loads=("LDG.E.128", "LDS.128"),
        multiply_share=0.83,
    ),
    "filter_few": Declared(
        _fp32_filter.filter_few,
        _FILTER,
        registers=48,
        shared=4 * _fp32_filter.FEW_FLOATS,
        wide_loads=("LDG.E.128", "LDS.128"),
        multiply_share=0.5,
    ),
    "filter_chains": Declared(
        _fp32_chains.filter_chains,
        (*_OPERANDS, *_CHAINS, i8, i8, *_CANDIDATES),
        registers=40,
        bounds=(_fp32_filter.TILE, 12),
        wide_loads=("LDG.E.128",),
    ),
    "filter_lists": Declared(
        _fp32_chains.filter_lists,
        (*_OPERANDS, array(i4), array(i4), array(i4), array(i4, 2), *_CANDIDATES),
        registers=128,
        shared=4 * 2 * _fp32_filter.TWO_STEPS,
        bounds=_MANY,
        wide_loads=("LDG.E.128", "LDS.128"),
        multiply_share=0.83,
    ),
    "set_thresholds": Declared(
        _fp32_filter.set_thresholds, (array(f4), f8, f8, array(f4)), 32, float64=True
    ),
    "shrink_candidates": Declared(
        _topk.shrink_candidates,
        (
            *(i8, f4, f4, array(f4), array(i8), array(f4), array(i4), array(i4)),
            *(array(f4), array(f4), array(i4)),
        ),
        registers=64,
        shared=16 * _topk.N_WARPS + 4 * _topk.N_WARPS,
    ),
    "select": Declared(
        _topk.select,
        (i8, array(i8), array(i4), array(i4), array(f8), array(f8, 2), array(i8, 2)),
        registers=64,
        float64=True,
    ),
    "accumulate": Declared(
        _kmeans._accumulate,
        (array(f4, 2), array(i4), array(i8), array(f8, 2)),
        registers=40,
        float64=True,
    ),
    "nearest": Declared(
        _pq_codes._nearest,
        (array(f4, 2), array(f4), array(f4), i8, array(u1, 2)),
        registers=80,
        wide_loads=("LDG.E.128",),
        multiply_share=0.4,
    ),
}
for entry in (f2, f4):
    KERNELS[f"filter_codes_{entry}"] = Declared(
        _pq_filter.FILTERS[numpy_support.as_dtype(entry)],
        (
            *(array(entry), array(f4), i8, array(i4), array(f4), array(f4, 2)),
            *(array(f4), *_CHAINS, i8, i8, *_CANDIDATES),
        ),
        registers=48,
        shared=16 * 1024,
        bounds=(_pq_filter.THREADS, 5),
        wide_loads=("LDG.E.128", "STS.128"),
    )
    KERNELS[f"fill_tables_{entry}"] = Declared(
        _pq_tables.fill_tables,
        (array(f4), array(f4), i8, array(f4, 3), i8, array(entry)),
        registers=40,
        wide_loads=("LDG.E.128",),
        multiply_share=0.17,
    )
for x in (f4, f8):
    KERNELS[f"take_{x}"] = Declared(
        _queries.take,
        (array(x, 2), array(i4), array(x, 2)),
        registers=32,
        float64=x is f8,
    )
    KERNELS[f"encode_{x}"] = Declared(
        _fp32_vectors.encode,
        (array(x, 2), array(i4), array(f8), *[f8] * 5, i8, array(f4), array(f4)),
        registers=96,
        float64=True,
    )
    KERNELS[f"decode_{x}"] = Declared(
        _pq_codes._decode,
        (*_CODES, array(x, 2), *_WORDS, array(i4), array(f8, 2), array(i4)),
        registers=80,
        float64=True,
    )
    KERNELS[f"subtract_{x}"] = Declared(
        _pq_codes._subtract,
        (array(x, 2), array(i4), array(x, 2), array(f4, 2)),
        registers=32,
        float64=True,
    )
    KERNELS[f"center_{x}"] = Declared(
        _pq_tables.center_queries,
        (
            *(array(x, 2), array(f8), array(f8), i8, f8, array(f8), array(f8)),
            *(array(f8), f8, f8, i8, *[array(f4)] * 4),
        ),
        registers=48,
        float64=True,
    )
    for q in (f4, f8):
        KERNELS[f"measure_{x}_{q}"] = Declared(
            _distance.measure,
            (array(x, 2), array(i4), array(q, 2), *_MEASURED),
            registers=96,
            float64=True,
        )
        KERNELS[f"measure_rows_{x}_{q}"] = Declared(
            _refine._measure_rows,
            (array(x, 2), array(q, 2), array(i4, 2), i8, array(i4), array(f8)),
            registers=96,
            float64=True,
        )
        KERNELS[f"measure_codes_{x}_{q}"] = Declared(
            _pq_codes.measure_codes,
            (*_CODES, array(x, 2), *_WORDS, array(q, 2), *_MEASURED),
            registers=128,
            float64=True,
        )
        KERNELS[f"measure_chains_{x}_{q}"] = Declared(
            _knn._measure_chains,
            (
                *(array(x, 2), array(i4), types.boolean, array(q, 2), array(i4)),
                *(*_CHAINS, i8, i8),
                *(array(f8), array(i4), array(f8, 2), array(i8, 2)),
            ),
            registers=160,
            shared=4,
            float64=True,
        )


# Registers of an SM.
SM_REGISTERS = 65536


class Compiled(NamedTuple):
    ptx: str  # after link-time optimization
    listing: str  # of nvdisasm
    instructions: list
    labels: dict

    def needs(self, attribute):
        """A number of the kernel, or the first of several."""
        about = self.listing.split(f"EIATTR_{attribute}\n")[1].split("//---")[0]
        return int(re.search(r"\.word\s+0x([0-9a-f]+)", about)[1], 16)

    def shared_arrays(self):
        """Alignments and sizes, in bytes."""
        found = re.findall(r"\.shared \.align (\d+) \.b8 \w+\[(\d+)\]", self.ptx)
        return [(int(alignment), int(size)) for alignment, size in found]


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=["sm_80", "sm_90a"])
def architecture(request):
    return request.param


@pytest.fixture(scope="module", params=KERNELS)
def declared_and_compiled(request, architecture, tmp_path_factory):
    declared = KERNELS[request.param]
    return declared, compile_(declared, architecture, tmp_path_factory.mktemp("code"))


def compile_(declared, architecture, folder):
    class Device:
        """All that numba-cuda asks a device for."""

        compute_capability = architecture

    class Context:
        device = Device

    function = declared.function
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatcher, "get_current_device", lambda: Device)
        patch.setattr(devices, "get_context", lambda: Context)
        kernel = dispatcher._Kernel(
            function.py_func, declared.arguments, **function.targetoptions
        )
        ptx, cubin = kernel.library.get_lto_ptx(), kernel.library.get_cubin()
    (folder / "cubin").write_bytes(cubin.code)
    listing = subprocess.run(
        [NVDISASM, folder / "cubin"], capture_output=True, text=True, check=True
    ).stdout
    instructions, labels = [], {}
    for line in listing.splitlines():
        if label := re.match(r"\s*(\.L_x_\d+):", line):
            labels[label[1]] = len(instructions)
        if instruction := re.search(r"/\*[0-9a-f]{4,}\*/\s+([^.\s].*?);", line):
            instructions.append(instruction[1])
    return Compiled(ptx, listing, instructions, labels)


def operations(instructions):
    """How often each operation is there, without predicates and operands."""
    names = (re.sub(r"^@!?U?P\w+\s+", "", text).split()[0] for text in instructions)
    return Counter(names)


def loops(compiled):
    """The bodies of the loops: from a label to a branch back to it."""
    for end, text in enumerate(compiled.instructions):
        target = re.search(r"BRA.*`\((\.L_x_\d+)\)", text)
        start = compiled.labels.get(target[1], end + 1) if target else end + 1
        if start <= end:
            yield compiled.instructions[start : end + 1]


def test_the_architecture_is_that_of_a_launch(declared_and_compiled, architecture):
    _, compiled = declared_and_compiled
    target = {(8, 0): "sm_80", (9, 0): "sm_90a"}[architecture]
    assert re.search(r"^\.target (\w+)", compiled.ptx, re.MULTILINE)[1] == target


def test_resources_are_as_declared(declared_and_compiled):
    declared, compiled = declared_and_compiled
    assert compiled.needs("MIN_STACK_SIZE") == 0
    assert sum(size for _, size in compiled.shared_arrays()) <= declared.shared
    assert 0 < compiled.needs("REGCOUNT") <= declared.registers
    # Neither spills nor arrays that do not fit the registers.
    assert not any(
        name.startswith(("LDL", "STL")) for name in operations(compiled.instructions)
    )


def test_launch_bounds_are_as_declared(declared_and_compiled):
    declared, compiled = declared_and_compiled
    assert ("EIATTR_MAX_THREADS" in compiled.listing) == bool(declared.bounds)
    if declared.bounds:
        threads, blocks = declared.bounds
        assert compiled.needs("MAX_THREADS") == threads
        # An SM hands out registers by 8 for each thread.
        registers = -(-compiled.needs("REGCOUNT") // 8) * 8
        assert registers * threads * blocks <= SM_REGISTERS


def test_shared_arrays_that_are_read_16_bytes_at_a_time_are_so_aligned(
    declared_and_compiled,
):
    declared, compiled = declared_and_compiled
    if {"LDS.128", "STS.128"} & {*declared.wide_loads}:
        assert {alignment for alignment, _ in compiled.shared_arrays()} == {16}


def test_only_declared_kernels_compute_in_float64(declared_and_compiled):
    declared, compiled = declared_and_compiled
    n_float64 = len(re.findall(r"\.f64\b", compiled.ptx))
    assert (n_float64 > 0) == declared.float64


def test_loads_are_wide_where_declared(declared_and_compiled):
    declared, compiled = declared_and_compiled
    found = operations(compiled.instructions)
    for load in declared.wide_loads:
        assert any(name.startswith(load) for name in found), found


def test_the_largest_loop_multiplies(declared_and_compiled):
    declared, compiled = declared_and_compiled
    if declared.multiply_share:
        largest = max(loops(compiled), key=lambda body: operations(body)["FFMA"])
        assert operations(largest)["FFMA"] >= declared.multiply_share * len(largest)


def test_exact_distances_are_not_fused(declared_and_compiled):
    declared, compiled = declared_and_compiled
    if declared.function in (
        _distance.measure,
        _refine._measure_rows,
        _pq_codes.measure_codes,
    ):
        found = operations(compiled.instructions)
        assert found["DMUL"] and found["DADD"]
        assert not found["DFMA"]


@pytest.mark.parametrize(("entry", "most"), [(f2, 9), (f4, 8)])
def test_a_look_up_takes_few_instructions(entry, most, architecture, tmp_path):
    declared = KERNELS[f"filter_codes_{entry}"]
    compiled = compile_(declared, architecture, tmp_path)
    load = "LDS.U16" if entry == f2 else "LDS"
    hot = max(loops(compiled), key=lambda body: operations(body)[load] / len(body))
    found = operations(hot)
    # The codes of 16 rows, by one load.
    assert (found["LDG.E.128"], found[load], found["FADD"]) == (1, 16, 16)
    assert len(hot) <= most * 16
