"""Say that kernels are compiled: it takes a while, and happens once."""

from __future__ import annotations

import contextlib
import logging
import time

from sklearn_ann._cpu._numba import Listener, register

# When compiling has taken so many seconds, one line tells.
_PATIENCE = 1.0

_logger = logging.getLogger("sklearn_ann")


class Compilation(Listener):
    """What the kernels of this package have cost since the process began.

    Numba compiles one function at a time, and within it those that it calls.

    Attributes
    ----------
    n_functions : int
        Functions that were compiled, those of Numba that kernels use among them; each
        signature counts.
    seconds : float
    """

    def __init__(self):
        self.n_functions, self.seconds = 0, 0.0
        self._depth, self._began = 0, 0.0
        self._is_announced, self._n_printing = False, 0

    def on_start(self, event):
        if self._depth == 0:
            # Code that is made at run time may be of no module.
            module = event.data["dispatcher"].__module__ or ""
            if not module.startswith("sklearn_ann."):
                return
            self._began = time.perf_counter()
        self._depth += 1
        self._announce()

    def on_end(self, event):
        if self._depth == 0:
            return
        self._depth, self.n_functions = self._depth - 1, self.n_functions + 1
        self._announce()
        if self._depth == 0:
            seconds = time.perf_counter() - self._began
            self.seconds += seconds
            if self._is_announced:
                name = event.data["dispatcher"].__name__.strip("_")
                self._say(f"Compiled {name} in {seconds:.1f} s.")

    @contextlib.contextmanager
    def printed(self, is_wanted):
        """Print meanwhile what is logged otherwise."""
        self._n_printing += bool(is_wanted)
        try:
            yield
        finally:
            self._n_printing -= bool(is_wanted)

    def _announce(self):
        under_way = time.perf_counter() - self._began
        if not self._is_announced and self.seconds + under_way > _PATIENCE:
            self._is_announced = True
            self._say(
                "Compiling for this processor, for up to a minute. That happens once: "
                "later processes load the compiled code."
            )

    def _say(self, line):
        _logger.info(line)
        if self._n_printing:
            print(line, flush=True)


compilation = Compilation()
register("numba:compile", compilation)
