"""How far long work is, and about how long the rest takes."""

from __future__ import annotations

import time

# Work of fewer seconds shows nothing; lines of text follow each other after so many.
_PATIENCE, _BETWEEN_LINES = 2.0, 5.0


def watched(blocks, n, what, verbose):
    """Blocks of rows, one after the other; what is done is shown if that is wanted.

    Parameters
    ----------
    blocks : iterable of pairs of int
        Start and stop of each.
    n : int
        Rows of all.
    what : str
        Stands before the bar.
    verbose : int
        Whether to show anything: a bar of tqdm, or lines of text without it.
    """
    if not verbose:
        yield from blocks
        return
    try:
        from tqdm.auto import tqdm as bar
    except ImportError:
        bar = _Lines
    with bar(total=n, desc=what, unit=" rows", delay=_PATIENCE) as shown:
        for start, stop in blocks:
            yield start, stop
            shown.update(stop - start)


class _Lines:
    """What we use of tqdm, in lines of text."""

    def __init__(self, total, desc, unit, delay):
        self._total, self._what, self._done = total, desc, 0
        self._began = time.monotonic()
        self._next = self._began + delay

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def update(self, n):
        self._done += n
        now = time.monotonic()
        if now >= self._next and self._done < self._total:
            self._next = now + _BETWEEN_LINES
            left = (now - self._began) * (self._total - self._done) / self._done
            share = self._done / self._total
            print(f"{self._what}: {share:.0%}, about {left:.0f} s left", flush=True)
