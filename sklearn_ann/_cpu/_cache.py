"""Compiled code on disk.

Numba's own cache gives up where no folder can be written or the disk is full, and loads
whatever bytes its files hold, as pickles and as machine code. This one puts a checksum
before them, of the code and of all that it depends on. A file that does not match, for
whatever reason, is as good as none: the function is compiled and the file written
again. What cannot be written costs a warning, and time in the next process.

A ``FunctionCache`` of Numba drives a ``CompileResultCacheImpl``, which chooses a folder
by its list of locators, and a `_cache_file` with ``load`` and ``save``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import stat
import tempfile
import uuid
import warnings
from pathlib import Path

import llvmlite
import numba
import numpy as np

from sklearn_ann._cpu._numba import (
    CacheLocator,
    CompileResultCacheImpl,
    FunctionCache,
    dumps,
    global_compiler_lock,
    llvm_lock,
    rtsys,
    use_cache,
)
from sklearn_ann._forks import hold_over_forks

_CHECKSUM_BYTES = hashlib.sha256().digest_size

_HINT = (
    "Set the environment variable NUMBA_CACHE_DIR to a folder that can be written, "
    "has room and lasts."
)

_has_warned, _folder = False, None


def keep_on_disk(dispatcher):
    """Give a compiled function its files, if there is any place for them.

    Parameters
    ----------
    dispatcher : numba.core.dispatcher.Dispatcher
        Made without ``cache=True``.

    Returns
    -------
    dispatcher : numba.core.dispatcher.Dispatcher
        The same.
    """
    global _folder
    try:
        cache = _KernelCache(dispatcher.py_func)
        use_cache(dispatcher, cache)
        _folder = cache.cache_path
    except (RuntimeError, OSError) as error:
        _warn_once(
            "No folder was found for the compiled code of sklearn_ann, so that each "
            f"process compiles it again, for up to a minute ({error})."
        )
    return dispatcher


def cache_folder():
    """The folder that compiled code is kept in; None if there is none."""
    return _folder


def _warn_once(message):
    """Warn for the first time in this process; further reasons would be no news."""
    global _has_warned
    if not _has_warned:
        _has_warned = True
        warnings.warn(f"{message} {_HINT}", RuntimeWarning, stacklevel=3)


# -- folders -------------------------------------------------------------------------


def private_folder():
    """A folder for temporary files that only this user can write to.

    Pickles are loaded from it: who can write to it runs code as this user.

    Returns
    -------
    folder : str
        Made if it was not there.

    Raises
    ------
    OSError
        If it is not there and cannot be made, or others may write to it or replace it.
    """
    if not hasattr(os, "geteuid"):
        raise OSError("whether a folder is private is not known on this system")
    parent, user = tempfile.gettempdir(), os.geteuid()
    if (mode := os.stat(parent).st_mode) & 0o022 and not mode & stat.S_ISVTX:
        raise OSError(f"others may rename what is in {parent}")
    folder = os.path.join(parent, f"sklearn_ann_numba_{user}")
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    status = os.lstat(folder)
    is_private = status.st_uid == user and not status.st_mode & 0o077
    if not (stat.S_ISDIR(status.st_mode) and is_private):
        raise OSError(f"{folder} is not a folder of this user alone")
    return folder


class _PrivateLocator(CacheLocator):
    """Files in the private folder, where none of Numba's own places will do."""

    def __init__(self, py_func, py_file):
        self._line = py_func.__code__.co_firstlineno
        self._subfolder = self.get_suitable_cache_subpath(py_file)

    @classmethod
    def from_function(cls, py_func, py_file):
        # Without sources nothing would tell whether compiled code is of today.
        if not os.path.exists(py_file):
            return None
        locator = cls(py_func, py_file)
        try:
            locator.ensure_cache_path()
        except OSError:
            return None
        _warn_once(
            "Numba can write to none of its usual folders. The compiled code of "
            f"sklearn_ann is kept in {private_folder()} until that is emptied, then "
            "compiled again, for up to a minute."
        )
        return locator

    def get_cache_path(self):
        # Looked at each time: it may have been removed and made by someone else.
        return os.path.join(private_folder(), self._subfolder)

    def get_source_stamp(self):
        return None

    def get_disambiguator(self):
        return str(self._line)


class _KernelCacheImpl(CompileResultCacheImpl):
    _locator_classes = [*CompileResultCacheImpl._locator_classes, _PrivateLocator]


# -- files ---------------------------------------------------------------------------


def _stamp():
    """What compiled code depends on, besides its function: the code that it calls."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for path in (*sorted(here.glob("*.py")), here.parent / "_layout.py"):
        if path.exists():
            digest.update(path.read_bytes())
    versions = numba.__version__, llvmlite.__version__, np.__version__
    return digest.hexdigest(), *versions


_STAMP = _stamp()


class _KernelCache(FunctionCache):
    """The cache of one compiled function."""

    _impl_class = _KernelCacheImpl

    def __init__(self, py_func):
        super().__init__(py_func)
        self._cache_file = _CheckedFiles(self._impl.locator, self._impl.filename_base)

    def load_overload(self, sig, target_context):
        # Numba's own tells its target of all functions first, which takes a tenth of a
        # second, and only compiling needs it.
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _warn_once(
                "Compiled code of sklearn_ann cannot be kept, so that each process "
                f"compiles it again, for up to a minute ({error})."
            )


class _CheckedFiles:
    """A file for each signature of a function and each kind of processor.

    It holds a checksum, then a pickle. What Numba keeps in an index besides, version
    and source, is part of what the checksum is of.
    """

    def __init__(self, locator, filename_base):
        self._locator, self._filename_base = locator, filename_base

    def load(self, key):
        """What was saved under a key, or None."""
        try:
            content = memoryview(Path(self._path(key)).read_bytes())
        except OSError:
            return None
        checksum, pickled = content[:_CHECKSUM_BYTES], content[_CHECKSUM_BYTES:]
        return pickle.loads(pickled) if checksum == self._sum(key, pickled) else None

    def save(self, key, data):
        """Write a file of its own and put it in place: no other process sees a half."""
        pickled, path = dumps(data), self._path(key)
        written = f"{path}.tmp.{uuid.uuid4().hex[:16]}"
        try:
            with open(written, "wb") as file:
                file.write(self._sum(key, pickled))
                file.write(pickled)
            os.replace(written, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(written)
            raise

    def _path(self, key):
        name = hashlib.sha256(repr(key).encode()).hexdigest()[:20]
        folder = self._locator.get_cache_path()
        return os.path.join(folder, f"{self._filename_base}.{name}.nbc")

    def _sum(self, key, pickled):
        identity = repr((_STAMP, self._locator.get_source_stamp(), key))
        digest = hashlib.sha256(identity.encode())
        digest.update(pickled)
        return digest.digest()


# -- forks ---------------------------------------------------------------------------

# The first is held throughout a compilation, the second in each call of LLVM, also in
# those that compile nothing.
hold_over_forks(global_compiler_lock)
hold_over_forks(llvm_lock)
