"""The rules of the house, kept by tests instead of by memory."""

import ast
import inspect
import sys
from pathlib import Path

import pytest

import sklearn_ann

PACKAGE = Path(sklearn_ann.__file__).parent
PATHS = sorted(PACKAGE.rglob("*.py"))
IDS = [path.relative_to(PACKAGE).as_posix() for path in PATHS]

EACH_FILE = pytest.mark.parametrize("path", PATHS, ids=IDS)
EACH_KERNEL_FILE = pytest.mark.parametrize(
    "path",
    [path for path in PATHS if path.parent.name == "_cpu"],
    ids=[name for name in IDS if name.startswith("_cpu/")],
)
EACH_CUDA_FILE = pytest.mark.parametrize(
    "path",
    [path for path in PATHS if path.parent.name == "_cuda"],
    ids=[name for name in IDS if name.startswith("_cuda/")],
)
EACH_OTHER_FILE = pytest.mark.parametrize(
    "path",
    [path for path in PATHS if path.parent == PACKAGE],
    ids=[name for name in IDS if "/" not in name],
)


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_modules(path):
    """Full names of the modules that a file imports, anywhere in it."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_within(module, *packages):
    return any(f"{module}.".startswith(f"{package}.") for package in packages)


def is_standard(module):
    return module.partition(".")[0] in sys.stdlib_module_names


@EACH_KERNEL_FILE
def test_kernels_know_numpy_numba_and_each_other(path):
    allowed = (
        *("numpy", "numba", "llvmlite"),
        *("sklearn_ann._cpu", "sklearn_ann._layout", "sklearn_ann._forks"),
    )
    for module in imported_modules(path):
        assert is_standard(module) or is_within(module, *allowed), module


@EACH_CUDA_FILE
def test_one_file_knows_numba_cuda(path):
    allowed = ["numpy", "sklearn_ann._cuda", "sklearn_ann._layout"]
    if path.name == "_compat.py":
        allowed += ["numba", "llvmlite", "sklearn_ann._forks"]
    if path.name == "__init__.py":
        # What happens on the host.
        allowed += ["sklearn_ann._cpu"]
    for module in imported_modules(path):
        assert is_standard(module) or is_within(module, *allowed), module


@EACH_OTHER_FILE
def test_estimators_reach_kernels_through_the_seam_only(path):
    kernels = "sklearn_ann._cpu", "sklearn_ann._cuda", "numba", "llvmlite"
    for module in imported_modules(path):
        assert not is_within(module, *kernels), module


@pytest.mark.parametrize(
    "name", ["_layout.py", "_checks.py", "_backend.py", "_forks.py"]
)
def test_what_all_parts_share_depends_on_numpy_alone(name):
    allowed = "numpy", "sklearn_ann._forks"
    for module in imported_modules(PACKAGE / name):
        assert is_standard(module) or is_within(module, *allowed), module


@EACH_FILE
def test_one_file_knows_the_inside_of_numbas_cache(path):
    private = "numba.core.caching", "numba.core.serialize", "numba.core.compiler_lock"
    if path.name != "_cache.py":
        for module in imported_modules(path):
            assert not is_within(module, *private), module


@EACH_FILE
def test_one_file_decides_how_kernels_are_compiled(path):
    names = {
        node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)
        for node in ast.walk(tree(path))
    }
    names |= {module.rpartition(".")[2] for module in imported_modules(path)}
    compilers = {"njit", "vectorize", "guvectorize", "stencil", "cfunc", "prange"}
    if path.name == "_jit.py":
        assert names & compilers == {"njit"}
    else:
        assert not names & compilers
        assert "numba.jit" not in set(imported_modules(path))


@EACH_FILE
def test_no_kernel_is_parallel_or_breaks_ieee_arithmetic(path):
    keywords = {
        node.arg for node in ast.walk(tree(path)) if isinstance(node, ast.keyword)
    }
    assert not keywords & {"parallel", "fastmath"}


@EACH_FILE
def test_files_fit_into_the_head(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def functions():
    for path, name in zip(PATHS, IDS, strict=True):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef):
                yield pytest.param(node, id=f"{name}:{node.name}")


@pytest.mark.parametrize("function", list(functions()))
def test_functions_fit_on_a_screen(function):
    n_lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        n_lines -= docstring.end_lineno - docstring.lineno + 1
    assert n_lines <= 60


def test_importing_the_package_does_not_import_numba(run_script):
    source = "import sys, sklearn_ann, sklearn_ann.datasets; print(*sys.modules)"
    modules = set(run_script(source).split())
    assert "sklearn_ann" in modules
    kernels = {"numba", "llvmlite", "sklearn_ann._cpu", "sklearn_ann._cuda"}
    assert not modules & {*kernels, "pooch"}


def test_public_names_are_those_of_all():
    public = {
        name
        for name, value in vars(sklearn_ann).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public | {"__version__"} == set(sklearn_ann.__all__)
