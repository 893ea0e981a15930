"""The memory of a GPU: whether an index fits, and which parts of a task fit."""

from __future__ import annotations

from sklearn_ann._cuda._candidates import CANDIDATE_BYTES
from sklearn_ann._cuda._compat import free_memory
from sklearn_ann._cuda._fp32_filter import TILE
from sklearn_ann._cuda._scratch import forget_scratch, kept_bytes

# Part of the free memory that a batch of queries may take.
_SHARE = 0.5


def check_room(n_bytes, what):
    """Raise an error that says how large something is that does not fit."""
    if n_bytes > free_memory():
        forget_scratch()
    if n_bytes > free_memory():
        raise MemoryError(
            f"{what} needs {_in_gib(n_bytes)} on the GPU, of which "
            f"{_in_gib(free_memory())} are free. Use device='cpu', or fewer rows."
        )


def split_queries(n, n_bytes, capacity):
    """Parts of n queries that fit: each takes some bytes, and has some candidates."""
    n_bytes += CANDIDATE_BYTES * capacity
    room = _room() * _SHARE / n_bytes
    if room < 1:
        raise MemoryError(
            f"A query needs {_in_gib(n_bytes)} on the GPU, of which "
            f"{_in_gib(_room())} are free."
        )
    most = n if room >= n else int(room)
    if most > TILE:
        most = most // TILE * TILE
    return _parts(n, most)


def split_rows(n, n_bytes):
    """Parts of n rows that fit, of so many bytes each."""
    room = _room() * _SHARE / n_bytes
    return _parts(n, n if room >= n else int(room))


def split_counts(counts, n_bytes=CANDIDATE_BYTES):
    """Parts of some queries that fit: each has some items of so many bytes."""
    room = _room() * _SHARE / n_bytes
    parts, start, total = [], 0, 0
    for query, count in enumerate(counts.tolist()):
        if total + count > room and query > start:
            parts.append((start, query))
            start, total = query, 0
        total += count
    return [*parts, (start, len(counts))]


def _room():
    """Bytes for the arrays of a search."""
    return free_memory() + kept_bytes()


def _parts(n, most):
    """Starts and ends of parts of n items, each of at most so many."""
    most = max(1, most)
    return [(start, min(n, start + most)) for start in range(0, n, most)]


def _in_gib(n_bytes):
    return f"{n_bytes / 2**30:.2f} GiB"
