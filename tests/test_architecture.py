"""The rules of the house, kept by tests instead of by memory."""

import ast
import inspect
import sys
from pathlib import Path

import named_tuples
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


def dotted_names(path):
    """Full names of what a file takes from modules that it imports, in any way."""
    yield from imported_modules(path)
    nodes = list(ast.walk(tree(path)))
    aliases = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                aliases[name] = alias.name if alias.asname else name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in nodes:
        if isinstance(node, ast.Attribute):
            first, _, rest = ast.unparse(node).partition(".")
            if first in aliases:
                yield f"{aliases[first]}.{rest}"


def is_private(name):
    """Whether a name of scikit-learn, Numba or llvmlite may move with any release."""
    inside = "numba.core", "numba.cuda.core", "numba.cuda.cudadrv"
    is_dunder = name.endswith("__")
    return is_within(name, "sklearn", "numba", "llvmlite") and (
        ("._" in name and not is_dunder)
        or is_within(name, *inside, "llvmlite.binding.ffi")
    )


# The file that knows what a package keeps private, and says what breaks if it moves.
COMPAT = {
    "_sklearn.py": ["sklearn"],
    "_cpu/_numba.py": ["numba", "llvmlite"],
    "_cuda/_compat.py": ["numba", "llvmlite"],
}


@EACH_FILE
def test_one_file_each_knows_the_inside_of_other_packages(path):
    known = COMPAT.get(path.relative_to(PACKAGE).as_posix(), [])
    for name in dotted_names(path):
        assert not is_private(name) or is_within(name, *known), name


@pytest.mark.parametrize(
    "source",
    [
        "from sklearn.utils._param_validation import Interval",
        "from sklearn.neighbors import _base",
        "from sklearn.utils import validation as v\nv._check_y(y)",
        "import sklearn\nsklearn.utils._tags",
        "from numba.core import cgutils",
        "import numba.core.caching",
        "import numba\nnumba.core.types",
        "def search():\n    from numba.cuda.cudadrv.driver import driver",
        "from numba.cuda.core import config",
        "from numba.extending import _Intrinsic",
        "from llvmlite.binding import ffi",
        "import llvmlite.binding as llvm\nllvm.ffi.lib",
    ],
)
def test_the_test_of_private_names_finds_them(source, tmp_path):
    path = tmp_path / "source.py"
    path.write_text(source)
    assert any(map(is_private, dotted_names(path)))


def test_the_test_of_private_names_lets_public_ones_pass(tmp_path):
    path = tmp_path / "source.py"
    path.write_text(
        "import numba, llvmlite\nfrom numba.extending import intrinsic\n"
        "from llvmlite import ir\nfrom sklearn.utils import check_array\n"
        "from sklearn_ann._cpu._numba import cgutils\nnumba.config.DISABLE_JIT\n"
        "numba.__version__, llvmlite.__version__\n"
    )
    assert not any(map(is_private, dotted_names(path)))


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
    assert n_lines <= 50


@pytest.fixture(scope="module")
def package():
    return named_tuples.Package(path.read_text(encoding="utf-8") for path in PATHS)


@EACH_FILE
def test_named_tuples_are_unpacked_by_field(path, package):
    assert package.positional_uses(path.read_text(encoding="utf-8")) == []


_TUPLES = """
class Block(NamedTuple):
    codes: np.ndarray
    rows: np.ndarray

class Pair(NamedTuple):
    first: Block
    number: int

def make(n):
    block_ = Block(codes=n, rows=n)
    return block_

def make_pair(n):
    return Pair(make(n), n)
"""

_KERNEL = """
def kernel(
    n,     # IN     int
    rows,  # INOUT  Block
):
    {}
"""


@pytest.mark.parametrize(
    "source",
    [
        _KERNEL.format("codes, rows = rows"),
        _KERNEL.format("_, *others = rows"),
        _KERNEL.format("n, (codes, rows) = 3, rows"),
        _KERNEL.format("codes, others = n, *rows"),
        _KERNEL.format("search(*rows[1:])"),
        _KERNEL.format("codes = rows[0]"),
        _KERNEL.format("codes = rows[-1]"),
        _KERNEL.format("for i in range(n):\n        codes = rows[:n]"),
        "def search(index):\n    _, codes, *_ = index",
        "def search(image):\n    return image[5:]",
        "def search(self):\n    codes, rows = self._index",
        "def search(self):\n    def part():\n        return self._index[1:]",
        "def search(rows: Block):\n    codes, rows = rows",
        "def search(rows):\n    '\\nrows : Block\\n'\n    rows[1:]",
        "def search(n):\n    rows = Block(n, n)\n    codes, rows = rows",
        "def search(n):\n    codes, rows = make(n)",
        "def search(n):\n    pair = make_pair(n)\n    codes, rows = pair.first",
        "def search(n):\n    part = make_pair(n).first._replace(codes=n)\n    part[1:]",
        "codes, rows = make(3)",
    ],
)
def test_the_test_of_named_tuples_finds_positions(source):
    assert len(named_tuples.Package([_TUPLES, source]).positional_uses(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        _KERNEL.format("codes, rows = rows.codes, rows.rows"),
        _KERNEL.format("codes = rows.codes[1:], rows.rows[0]"),
        _KERNEL.format("n_codes, d = rows.codes.shape"),
        "def search(rows):\n    first, last = rows\n    return rows[1:]",
        "def search(n):\n    first, last = make_pair(n).number",
        "def search(index):\n    return type(index)(*map(len, index))",
    ],
)
def test_the_test_of_named_tuples_lets_fields_pass(source):
    assert named_tuples.Package([_TUPLES, source]).positional_uses(source) == []


def uses_after_free(source):
    """What functions borrow, do not get as arguments and do not keep to their end.

    Numba frees an array after the last line that names its owner.
    """
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef):
            continue
        given = {argument.arg for argument in function.args.args}
        nodes = list(ast.walk(function))
        calls = [
            (node.func.id, node.args[0].id, node.lineno)
            for node in nodes
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("borrowed", "as_bytes", "keep")
            and isinstance(node.args[0], ast.Name)
        ]
        kept = {name for what, name, _ in calls if what == "keep"}
        for node in nodes:
            if isinstance(node, ast.Return) and isinstance(node.value, ast.Name):
                kept.add(node.value.id)
        borrowed = {name for what, name, _ in calls if what != "keep"}
        yield from borrowed - given - kept


@EACH_KERNEL_FILE
def test_what_a_kernel_makes_and_borrows_is_kept(path):
    assert list(uses_after_free(path.read_text(encoding="utf-8"))) == []


def test_the_test_of_borrowed_tuples_finds_what_is_not_kept():
    kernel = "def kernel(index):\n    owned = make()\n    block = borrowed(owned)\n"
    assert list(uses_after_free(kernel)) == ["owned"]
    assert list(uses_after_free(kernel + "    keep(owned)\n")) == []
    assert list(uses_after_free(kernel + "    return owned\n")) == []
    assert list(uses_after_free("def kernel(index):\n    borrowed(index)\n")) == []
    kernel = "def kernel(n):\n    words = zeros(n)\n    return as_bytes(words)[0]\n"
    assert list(uses_after_free(kernel)) == ["words"]


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
