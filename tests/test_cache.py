"""Compiled code on disk: used when it is good, and never in the way."""

import errno
import importlib.util
import os
import shutil
import stat
import tempfile
from pathlib import Path

import numba
import numpy as np
import pytest

from sklearn_ann._cpu import _cache
from sklearn_ann._cpu._jit import jit

needs_users = pytest.mark.skipif(
    not hasattr(os, "geteuid"), reason="this system does not say who owns a file"
)

# A kernel that is compiled in a moment, for two signatures, and what its cache did.
_CHAIN = """
import warnings
import numpy as np
warnings.simplefilter("always")
with warnings.catch_warnings(record=True) as caught:
    import sklearn_ann._cpu
    from sklearn_ann._cpu._lists import chain
    from sklearn_ann._layout import InvertedLists
    lists = InvertedLists(np.arange(3), np.array([0, 2, 3]), np.array([2, 1]))
    for dtype in (np.int64, np.int32):
        assert chain(np.array([1, 0], dtype), lists).tolist() == [2, 0, 1]
stats = chain.stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
print(*(warning.message for warning in caught), sep="\\n")
"""

_SEARCH = """
import warnings
warnings.simplefilter("always")
with warnings.catch_warnings(record=True) as caught:
    import numpy as np
    from sklearn_ann import FlatL2Neighbors
    X = np.arange(10.0)[:, None]
    ids = FlatL2Neighbors(2).fit(X).kneighbors([[2.1]], return_distance=False)
assert ids.tolist() == [[2, 3]]
print(*(warning.message for warning in caught), sep="\\n")
"""


def hits_misses_and_warnings(output):
    counts, *messages = output.splitlines()
    return [int(count) for count in counts.split()], [m for m in messages if m]


@pytest.fixture
def package(tmp_path):
    """A copy of the package, in a folder that is first on the path."""
    original = Path(importlib.util.find_spec("sklearn_ann").origin).parent
    ignore = shutil.ignore_patterns("__pycache__")
    return shutil.copytree(original, tmp_path / "copy" / "sklearn_ann", ignore=ignore)


@pytest.fixture
def nowhere(package, tmp_path):
    """The environment of a process for which all of Numba's places are read-only.

    Below a file nothing can be made, not by root either.
    """
    (tmp_path / "file").write_text("")
    for folder in (package, package / "_cpu"):
        (folder / "__pycache__").write_text("")
    below = str(tmp_path / "file" / "below")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    return {
        "PYTHONPATH": str(package.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "NUMBA_CACHE_DIR": below,
        "HOME": below,
        "XDG_CACHE_HOME": below,
        "LOCALAPPDATA": below,
        "TMPDIR": str(temporary),
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder that kernels of this process are cached in."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(_cache, "_has_warned", False)
    return tmp_path / "cache"


def add(a, b):
    return a + b


def run():
    """Compile `add`, or load it: hits and misses of its cache."""
    kernel = jit(add)
    assert kernel(2.0, 3.0) == 5.0
    stats = kernel.stats
    return sum(stats.cache_hits.values()), sum(stats.cache_misses.values())


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


# -- good files ----------------------------------------------------------------------


def test_a_second_function_of_the_same_source_is_loaded(folder):
    assert run() == (0, 1)
    (path,) = files(folder)
    written = path.read_bytes()
    assert run() == (1, 0)
    assert files(folder) == [path] and path.read_bytes() == written


def test_a_second_process_compiles_nothing(run_script, tmp_path):
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert hits_misses_and_warnings(run_script(_CHAIN, **cache)) == ([0, 2], [])
    assert hits_misses_and_warnings(run_script(_CHAIN, **cache)) == ([2, 0], [])


def test_code_is_compiled_again_when_another_file_changed(package, run_script):
    # It may be one whose functions are part of the compiled code.
    environ = {
        "PYTHONPATH": str(package.parent),
        "NUMBA_CACHE_DIR": str(package.parent / "cache"),
    }
    run_script(_CHAIN, **environ)
    for name in ("_cpu/_refine.py", "_layout.py"):
        with open(package / name, "a", encoding="utf-8") as file:
            file.write("# changed\n")
        assert hits_misses_and_warnings(run_script(_CHAIN, **environ)) == ([0, 2], [])
    assert hits_misses_and_warnings(run_script(_CHAIN, **environ)) == ([2, 0], [])


# -- damaged files -------------------------------------------------------------------

DAMAGES = {
    "emptied": lambda content: b"",
    "only the checksum": lambda content: content[:32],
    "half": lambda content: content[: len(content) // 2],
    "without its end": lambda content: content[:-1],
    "longer": lambda content: content + b"\0",
    "garbage": lambda content: np.random.default_rng(0).bytes(len(content)),
    "zeros": lambda content: bytes(len(content)),
    "first bit": lambda content: bytes([content[0] ^ 1]) + content[1:],
    "last bit": lambda content: content[:-1] + bytes([content[-1] ^ 128]),
    "text": lambda content: b"version https://git-lfs.github.com/spec/v1\n",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_a_miss_and_is_replaced(damage, folder):
    run()
    (path,) = files(folder)
    path.write_bytes(damage(path.read_bytes()))
    assert run() == (0, 1)
    assert run() == (1, 0)
    assert files(folder) == [path]


def test_no_flipped_bit_is_loaded(folder, rng):
    kernel = jit(add)
    kernel(2.0, 3.0)
    (path,) = files(folder)
    good, (sig,) = path.read_bytes(), kernel.overloads
    target = kernel.targetctx
    for place in rng.choice(8 * len(good), 500, replace=False):
        bad = bytearray(good)
        bad[place // 8] ^= 1 << place % 8
        path.write_bytes(bad)
        assert jit(add)._cache.load_overload(sig, target) is None
    path.write_bytes(good)
    assert jit(add)._cache.load_overload(sig, target) is not None


def test_the_file_of_another_signature_is_a_miss(folder):
    run()
    (path,) = files(folder)
    assert jit(add)(2, 3) == 5
    (other,) = set(files(folder)) - {path}
    shutil.copy(other, path)
    assert run() == (0, 1)


def test_all_files_of_a_search_damaged_in_a_process(run_script, tmp_path):
    # Those of a search in the session's cache, each damaged in another way.
    run_script(_SEARCH)
    cache = tmp_path / "cache"
    shutil.copytree(os.environ["NUMBA_CACHE_DIR"], cache)
    for path, number in zip(files(cache), range(10**6), strict=False):
        damage = list(DAMAGES.values())[number % len(DAMAGES)]
        path.write_bytes(damage(path.read_bytes()))
    assert run_script(_SEARCH, NUMBA_CACHE_DIR=str(cache)) == ""


def test_a_file_that_cannot_be_read_is_a_miss(folder):
    run()
    (path,) = files(folder)
    path.unlink()
    path.mkdir()
    with pytest.warns(RuntimeWarning, match="NUMBA_CACHE_DIR"):
        assert run() == (0, 1)


# -- a disk that is full, or read-only -----------------------------------------------


def test_a_full_disk_is_one_warning(folder, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_cache.os, "replace", full)
    with pytest.warns(RuntimeWarning) as caught:
        assert run() == run() == (0, 1)
    (warning,) = caught
    assert "NUMBA_CACHE_DIR" in str(warning.message)
    assert "No space left on device" in str(warning.message)
    assert "compiles it again" in str(warning.message)
    assert files(folder) == []


def test_files_that_are_too_large_to_write_are_one_warning(run_script, tmp_path):
    pytest.importorskip("resource", reason="this system has no limits of files")
    limited = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
"""
    output = run_script(limited + _CHAIN, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    counts, (message,) = hits_misses_and_warnings(output)
    assert counts == [0, 2]
    assert "NUMBA_CACHE_DIR" in message and "File too large" in message
    assert files(tmp_path / "cache") == []


@needs_users
def test_where_nothing_can_be_written_a_private_folder_is_used(nowhere, run_script):
    for expected in ([0, 2], [2, 0]):
        counts, messages = hits_misses_and_warnings(run_script(_CHAIN, **nowhere))
        assert counts == expected
        (message,) = messages
        assert "NUMBA_CACHE_DIR" in message and nowhere["TMPDIR"] in message
    (private,) = Path(nowhere["TMPDIR"]).iterdir()
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert len(files(private)) == 2


@needs_users
def test_without_any_folder_a_search_works_with_one_warning(nowhere, run_script):
    # A folder that others may write to, in the place of the private one.
    private = Path(nowhere["TMPDIR"]) / f"sklearn_ann_numba_{os.geteuid()}"
    private.mkdir()
    private.chmod(0o777)
    (message,) = run_script(_SEARCH, **nowhere).splitlines()
    assert "NUMBA_CACHE_DIR" in message and "each process compiles it" in message
    assert files(private) == []


# -- the private folder --------------------------------------------------------------


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@needs_users
def test_the_private_folder_is_made_once(temporary):
    folder = Path(_cache.private_folder())
    assert folder.parent == temporary
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert _cache.private_folder() == str(folder)


@needs_users
@pytest.mark.parametrize("mode", [0o701, 0o710, 0o720, 0o702, 0o777, 0o1777])
def test_a_folder_that_others_can_use_is_not_private(mode, temporary):
    folder = Path(_cache.private_folder())
    folder.chmod(mode)
    with pytest.raises(OSError, match="not a folder of this user alone"):
        _cache.private_folder()


@needs_users
@pytest.mark.parametrize("kind", ["link", "broken link", "file"])
def test_what_is_no_folder_is_not_private(kind, temporary):
    folder = Path(_cache.private_folder())
    folder.rename(temporary / "mine")
    if kind == "file":
        folder.write_text("")
        folder.chmod(0o700)
    else:
        folder.symlink_to(temporary / ("mine" if kind == "link" else "none"))
    with pytest.raises(OSError, match="not a folder of this user alone"):
        _cache.private_folder()


@needs_users
def test_the_folder_of_another_user_is_not_private(temporary, monkeypatch):
    mine = Path(_cache.private_folder())
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    mine.rename(temporary / f"sklearn_ann_numba_{user + 1}")
    with pytest.raises(OSError, match="not a folder of this user alone"):
        _cache.private_folder()


@needs_users
@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_folder_that_others_can_rename_is_not_private(mode, temporary):
    _cache.private_folder()
    temporary.chmod(mode)
    try:
        with pytest.raises(OSError, match="others may rename"):
            _cache.private_folder()
        temporary.chmod(0o1777)
        _cache.private_folder()
    finally:
        temporary.chmod(0o700)


@needs_users
def test_a_private_folder_that_was_replaced_is_not_read(temporary, monkeypatch):
    (temporary / "file").write_text("")
    monkeypatch.setattr(_cache, "_has_warned", True)
    locators = [_cache._PrivateLocator]
    monkeypatch.setattr(_cache._KernelCacheImpl, "_locator_classes", locators)
    kernel, early = jit(add), jit(add)
    kernel(2.0, 3.0)
    assert len(files(Path(_cache.private_folder()))) == 1
    (sig,), target = kernel.overloads, kernel.targetctx
    assert early._cache.load_overload(sig, target) is not None
    Path(_cache.private_folder()).chmod(0o777)
    assert early._cache.load_overload(sig, target) is None
