"""Kernels, which Python calls, and their parts, which only kernels call."""

import ast
from pathlib import Path

import numba
import numpy as np
import pytest

from sklearn_ann import _cpu
from sklearn_ann._cpu._arrays import as_bytes, count_up, empty, filled, zeros
from sklearn_ann._cpu._jit import inlined_jit, jit, jit_in_caller, jit_maker, jit_part

FILES = sorted(Path(_cpu.__file__).parent.glob("*.py"))


def double(x):
    return 2 * x


@pytest.mark.parametrize("compiler", [jit_part, jit_maker, inlined_jit])
def test_python_cannot_call_a_part(compiler):
    part = compiler(double)
    for _ in range(2):
        with pytest.raises(TypeError, match="double is a part of kernels"):
            part(1.0)
        # Also when it has been compiled, for a kernel.
        assert jit(lambda x: part(x))(1.0) == 2.0


def test_a_part_is_neither_optimized_nor_machine_code():
    inner = jit_part(double)
    outer = jit_part(lambda x: inner(x) + 1)
    kernel = jit(lambda x: outer(x))
    assert kernel(1.0) == 3.0
    names = [
        next(iter(function.overloads.values())).fndesc.llvm_func_name
        for function in (inner, outer, kernel)
    ]
    (compiled,) = outer.overloads.values()
    # A call is there until LLVM has optimized it away.
    assert names[0] in str(compiled.library.get_function(names[1]))
    (compiled,) = kernel.overloads.values()
    assert names[1] not in str(compiled.library.get_function(names[2]))
    defined = compiled.target_context.codegen()._engine.is_symbol_defined
    assert list(map(defined, names)) == [False, False, True]


def test_a_part_that_makes_an_array_must_say_so():
    part = jit_part(lambda n: len(empty(n, np.float64)))
    with pytest.raises(numba.core.errors.NumbaRuntimeError, match="NRT required"):
        jit(lambda n: part(n))(3)
    maker = jit_maker(lambda n: len(empty(n, np.float64)))
    assert jit(lambda n: maker(n))(3) == 3


@pytest.mark.parametrize("result", [lambda x: x, lambda x: (1, (x, x[0]))])
def test_a_part_returns_no_array(result):
    inner = jit_in_caller(result)
    part = jit_part(lambda x: inner(x))
    # Numba says so itself, but not of tuples.
    refused = TypeError, numba.core.errors.TypingError
    with pytest.raises(refused, match=r"return.* array"):
        jit(lambda x: len(part(x)))(np.zeros(3))


def parts_that_use_makers(sources):
    """Parts that count no references and name one that makes arrays.

    What that one makes would never be freed.
    """
    compilers, names = {}, {}
    for node in (node for text in sources for node in ast.parse(text).body):
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                assert node.name not in compilers
                compilers[node.name] = getattr(decorator, "id", "")
                names[node.name] = {
                    getattr(n, "id", getattr(n, "attr", None)) for n in ast.walk(node)
                }
    of = {
        compiler: {name for name in compilers if compilers[name] == compiler}
        for compiler in ("jit", "jit_part", "inlined_jit", "jit_in_caller", "jit_maker")
    }
    makers = of["jit_maker"] | of["jit"]
    # What is copied into its callers does there what it does.
    for _ in of["jit_in_caller"]:
        makers |= {name for name in of["jit_in_caller"] if names[name] & makers}
    parts = of["jit_part"] | of["inlined_jit"]
    return {name for name in parts if names[name] & makers}


def test_no_part_calls_a_maker():
    sources = [path.read_text(encoding="utf-8") for path in FILES]
    assert parts_that_use_makers(sources) == set()


def test_the_test_of_parts_finds_a_call_of_a_maker():
    maker = "@jit_maker\ndef make(n):\n    return empty(n, int)\n"
    direct = "@jit_part\ndef part(n):\n    return len(make(n))\n"
    copied = "@jit_in_caller\ndef copied(n):\n    return len(make(n))\n"
    through = "@inlined_jit\ndef part(n):\n    return copied(n)\n"
    neither = "@jit_part\ndef part(n):\n    return n\n"
    assert parts_that_use_makers([maker, direct]) == {"part"}
    assert parts_that_use_makers([maker, copied, through]) == {"part"}
    assert parts_that_use_makers([maker, copied, neither]) == set()


# -- arrays --------------------------------------------------------------------------

LENGTHS = [0, 1, 5, (0, 3), (2, 3), (2, 3, 4), (np.int32(2), 3)]


@pytest.mark.parametrize("shape", LENGTHS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int8, np.uint16])
def test_new_arrays_are_those_of_numpy(shape, dtype):
    for make, expected in ((zeros, np.zeros), (empty, np.empty)):
        made = jit(lambda shape, make=make: make(shape, dtype))(shape)
        want = expected(shape, dtype)
        assert made.dtype == want.dtype and made.shape == want.shape
        assert made.flags.c_contiguous and made.itemsize == want.itemsize
        assert made.ctypes.data % 64 == 0
        made[...] = 3
    assert not jit(lambda shape: zeros(shape, dtype))(shape).any()


@pytest.mark.parametrize("value", [-1, 2.5, np.float32(np.inf), np.int8(-7)])
def test_filled_arrays_have_the_dtype_of_the_value(value):
    made = jit(lambda n: filled(n, value))(5)
    assert made.dtype == np.asarray(value).dtype and (made == value).all()


def test_counting_up():
    np.testing.assert_array_equal(jit(lambda n: count_up(n))(5), np.arange(5))
    assert len(jit(lambda n: count_up(n))(0)) == 0


def test_bytes_of_words_are_their_memory():
    @jit
    def first_bytes(words):
        halves = as_bytes(words)
        return len(halves), halves[0], halves[4]

    words = np.array([258, -1], np.int32)
    n, first, fifth = first_bytes(words)
    assert (n, first, fifth) == (8, words.view(np.int8)[0], -1)


def test_only_words_have_bytes():
    for array in (np.zeros(3), np.zeros(4, np.int32)[::2], np.zeros((2, 2), np.int32)):
        with pytest.raises(numba.core.errors.TypingError):
            jit(lambda words: as_bytes(words)[0])(array)


def test_an_array_for_which_there_is_no_memory_is_an_error():
    with pytest.raises(MemoryError, match="too large"):
        jit(lambda n: zeros(n, np.float64))(2**60)
