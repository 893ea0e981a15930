"""``python -m sklearn_ann.warm_up``: compile everything, and say how far it is.

For servers and container images.
"""

from __future__ import annotations

import time

from sklearn_ann._backend import cache_folder, compiled_so_far
from sklearn_ann.warm_up import steps


def _main() -> None:
    began, all_steps = time.perf_counter(), list(steps())
    for number, (name, step) in enumerate(all_steps, 1):
        n_before, start = compiled_so_far(), time.perf_counter()
        print(f"[{number}/{len(all_steps)}] {name} ... ", end="", flush=True)
        step()
        seconds, n = time.perf_counter() - start, compiled_so_far() - n_before
        print(f"{n} functions compiled, {seconds:.1f} s", flush=True)
    folder = cache_folder()
    print(f"All is compiled after {time.perf_counter() - began:.1f} s.")
    if folder is None:
        print("It is not kept. Set NUMBA_CACHE_DIR to a folder that can be written.")
    else:
        print(f"It is kept in {folder}")


if __name__ == "__main__":
    _main()
