"""What users are told of compiling."""

import logging
import re
from types import SimpleNamespace

import pytest

from sklearn_ann import IVFFlatNeighbors, _cpu, _ivf
from sklearn_ann._coarse_quantizer import train_centroids
from sklearn_ann._cpu import _compiling
from sklearn_ann._cpu._compiling import Compilation


def event_of(name, module="sklearn_ann._cpu._knn"):
    dispatcher = SimpleNamespace(__name__=name, __module__=module)
    return SimpleNamespace(data={"dispatcher": dispatcher})


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(_compiling.time, "perf_counter", lambda: clock.now)
    return clock


@pytest.fixture
def compilation(clock):
    return Compilation()


def compile_one(compilation, clock, seconds, name="search", inner=()):
    compilation.on_start(event_of(name))
    for part in inner:
        compile_one(compilation, clock, 0.0, part)
    clock.now += seconds
    compilation.on_end(event_of(name))


def test_functions_and_their_seconds_are_counted(compilation, clock):
    compile_one(compilation, clock, 0.25, inner=("part", "other part"))
    compile_one(compilation, clock, 0.5)
    assert compilation.n_functions == 4
    assert compilation.seconds == 0.75


# A function that was made by ``exec`` may be of no module.
@pytest.mark.parametrize("module", ["umap.layouts", None])
def test_code_of_others_is_not_told_of(module, compilation, clock, caplog):
    caplog.set_level(logging.INFO, "sklearn_ann")
    others = event_of("theirs", module)
    compilation.on_start(others)
    clock.now += 9
    compilation.on_end(others)
    assert compilation.n_functions == compilation.seconds == 0
    assert not caplog.messages


def test_one_line_tells_when_it_takes_longer(compilation, clock, caplog):
    caplog.set_level(logging.INFO, "sklearn_ann")
    compile_one(compilation, clock, 0.6)
    assert not caplog.messages
    compilation.on_start(event_of("_search"))
    assert not caplog.messages
    clock.now += 0.5
    # The first function that it calls.
    compilation.on_start(event_of("part"))
    assert len(caplog.messages) == 1
    assert "Compiling" in caplog.messages[0]
    compilation.on_end(event_of("part"))
    clock.now += 2
    compilation.on_end(event_of("_search"))
    assert caplog.messages[1:] == ["Compiled search in 2.5 s."]


@pytest.mark.parametrize("is_wanted", [True, False])
def test_lines_are_printed_where_they_are_wanted(is_wanted, compilation, clock, capsys):
    with compilation.printed(is_wanted):
        compile_one(compilation, clock, 3)
    compile_one(compilation, clock, 3)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == (2 if is_wanted else 0)


@pytest.mark.parametrize("verbose", [0, 1])
def test_a_verbose_fit_prints_them(verbose, rng, monkeypatch):
    is_printing = []

    def train(*args, **kwargs):
        is_printing.append(_cpu.compilation._n_printing > 0)
        return train_centroids(*args, **kwargs)

    monkeypatch.setattr(_ivf, "train_centroids", train)
    IVFFlatNeighbors(nlist=2, verbose=verbose).fit(rng.standard_normal((200, 4)))
    assert is_printing == [bool(verbose)]
    assert _cpu.compilation._n_printing == 0


_COUNT = """
import numpy as np
from sklearn_ann import _cpu
from sklearn_ann._cpu._lists import chain
from sklearn_ann._layout import InvertedLists
chain(np.arange(1), InvertedLists(np.arange(1), np.arange(2), np.arange(1)))
print(_cpu.compilation.n_functions, _cpu.compilation.seconds > 0)
print(_cpu.cache_folder())
"""


def test_kernels_are_counted_as_numba_compiles_them(run_script, tmp_path):
    folder = str(tmp_path / "cache")
    counted, found = run_script(_COUNT, NUMBA_CACHE_DIR=folder).splitlines()
    assert counted == "1 True"
    assert found.startswith(folder)
    # The second time it is loaded.
    assert run_script(_COUNT, NUMBA_CACHE_DIR=folder).startswith("0 False")


_COMMAND = """
import runpy, warnings
warnings.simplefilter("error")
runpy.run_module("sklearn_ann.warm_up", run_name="__main__")
# The module does not take the name of the function.
import sklearn_ann.warm_up.__main__
sklearn_ann.warm_up()
"""


def test_the_command_says_how_far_it_is_and_where_the_code_is(run_script):
    lines = run_script(_COMMAND).splitlines()
    assert re.match(r"\[1/8\] FlatL2Neighbors, float32 \.\.\. \d+ functions", lines[0])
    assert lines[7].startswith("[8/8] ")
    assert lines[9].startswith("It is kept in ")
