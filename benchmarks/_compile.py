"""The first minute: how long kernels compile where nothing has been compiled yet.

A process of its own with an empty cache fits and searches, a second one finds what the
first has compiled. Each function counts without those that it calls.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SECTIONS = "estimators", "kernels", "budget"

_SETTINGS = {
    "FlatL2Neighbors": {},
    "IVFFlatNeighbors": {"nlist": 50, "nprobe": 10, "random_state": 0},
    "IVFPQNeighbors": {"nlist": 50, "nprobe": 10, "m": 96, "random_state": 0},
}

# Sentence embeddings; a quick run has the least that m=96 and 50 lists take.
_SHAPE, _QUICK_SHAPE = (14_504, 768), (3000, 96)

# A processor without the vector instructions that some have and others have not.
_PORTABLE = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}


def estimators(run, subject):
    """What a user waits for: the first fit and searches, cold and warm."""
    for name in _names(run):
        with tempfile.TemporaryDirectory() as cache:
            for state in "empty", "filled":
                measured = _measured(name, run, cache)
                functions = measured.pop("functions")
                if state == "empty":
                    run.once(name, lambda functions=functions: functions)
                run.tables["estimators"].append(
                    {
                        "estimator": name,
                        "cache": state,
                        **{f"{part}, s": seconds for part, seconds in measured.items()},
                        "sum, s": sum(measured.values()) - measured["import"],
                        "functions": len(functions),
                        "instructions": n_instructions(functions),
                    }
                )


def kernels(run, subject):
    """Where that time goes."""
    totals = {}
    for name in _names(run):
        for one in run.once(name, _functions_of, name, run):
            row = totals.setdefault(one["name"], {"seconds": {}, "instructions": {}})
            for unit, values in row.items():
                values[name] = values.get(name, 0) + one[unit]
    rows = [
        {
            "function": function,
            "instructions": max(row["instructions"].values()),
            **{f"{name}, s": row["seconds"].get(name) for name in _names(run)},
        }
        for function, row in totals.items()
    ]
    # Of the others some hundredths of a second each.
    rows.sort(key=lambda row: -row["instructions"])
    run.tables["kernels"] += rows[:30]


def budget(run, subject):
    """What a test compares with: it is the same on each processor."""
    from numba import __version__

    for name in _names(run):
        with tempfile.TemporaryDirectory() as cache:
            functions = portable_functions(name, cache)
        run.tables["budget"].append(
            {
                "estimator": name,
                "functions": len(functions),
                "instructions": n_instructions(functions),
                "Numba": __version__,
            }
        )


def portable_functions(name, cache):
    """What the budget counts of an estimator: see `measure`."""
    return measure(name, _QUICK_SHAPE, cache, _PORTABLE)["functions"]


def n_instructions(functions):
    return sum(one["instructions"] for one in functions)


def _names(run):
    """The estimators to measure; in a quick run the one that compiles least."""
    return list(_SETTINGS)[: 1 if run.quick else None]


def _functions_of(name, run):
    with tempfile.TemporaryDirectory() as cache:
        return _measured(name, run, cache)["functions"]


def _measured(name, run, cache):
    return measure(name, _QUICK_SHAPE if run.quick else _SHAPE, cache)


def measure(name, shape, cache, environ=None):
    """The seconds of a process that fits and searches, and the functions it compiles.

    Parameters
    ----------
    name : str
        Of an estimator.
    shape : tuple of int
        Of the float32 vectors.
    cache : str
        Folder of compiled code.
    environ : dict, default=None
        More variables of its environment.

    Returns
    -------
    measured : dict
        Seconds of the import, of ``fit``, of the first query and of the first batch;
        ``functions`` has a dict for each function and signature, with its name, its own
        seconds, and its instructions: of a kernel all in its machine code, of its parts
        those that LLVM gets of it, both in LLVM's language.
    """
    command = [sys.executable, __file__, name, *map(str, shape)]
    environ = {**os.environ, "NUMBA_CACHE_DIR": cache, **(environ or {})}
    done = subprocess.run(command, env=environ, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def _main(name, *shape):
    measured, began = {}, time.perf_counter()

    def lap(part):
        nonlocal began
        measured[part] = time.perf_counter() - began
        began = time.perf_counter()

    import numpy as np

    import sklearn_ann

    lap("import")
    X = np.random.default_rng(0).standard_normal(tuple(map(int, shape)), np.float32)
    index = getattr(sklearn_ann, name)(**_SETTINGS[name])
    compiled = _listen()
    began = time.perf_counter()
    index.fit(X)
    lap("fit")
    index.kneighbors(X[:1])
    lap("first query")
    index.kneighbors(X[:1000])
    lap("first batch")
    measured["functions"] = compiled()
    print(json.dumps(measured))


def _listen():
    """Note what Numba compiles from now on; a function that tells."""
    from numba.core.event import Listener, register

    noted, under_way = [], []

    class Notes(Listener):
        def on_start(self, event):
            under_way.append((time.perf_counter(), []))

        def on_end(self, event):
            began, within = under_way.pop()
            seconds = time.perf_counter() - began
            if under_way:
                under_way[-1][1].append(seconds)
            noted.append((event.data, seconds - sum(within)))

    register("numba:compile", Notes())

    def tell():
        for data, seconds in noted:
            compiled = data["dispatcher"].overloads[tuple(data["args"])]
            yield {
                "name": data["dispatcher"].__qualname__.removesuffix(".<locals>.impl"),
                "seconds": seconds,
                "instructions": _instructions(compiled),
            }

    return lambda: list(tell())


def _instructions(compiled):
    module = compiled.library._final_module
    name = compiled.fndesc.llvm_func_name
    # A part holds those that it calls, which are counted by themselves.
    is_part = compiled.library.get_pointer_to_function(name) == 0
    functions = [module.get_function(name)] if is_part else module.functions
    return sum(
        sum(1 for _ in block.instructions)
        for function in functions
        for block in function.blocks
    )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout
    _main(*sys.argv[1:])
