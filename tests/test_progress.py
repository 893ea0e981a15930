"""What is shown of long work."""

import sys

import pytest

from sklearn_ann import FlatL2Neighbors, _blocks, _progress, _radius
from sklearn_ann._progress import watched

BLOCKS = [(0, 4), (4, 8), (8, 10)]


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(_progress, "_PATIENCE", 0.0)
    monkeypatch.setattr(_progress, "_BETWEEN_LINES", 0.0)


def test_nothing_is_shown_that_is_not_wanted(capsys, impatient):
    assert list(watched(BLOCKS, 10, "work", 0)) == BLOCKS
    assert capsys.readouterr() == ("", "")


def test_short_work_shows_nothing(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    assert list(watched(BLOCKS, 10, "work", 1)) == BLOCKS
    assert capsys.readouterr() == ("", "")


def test_without_tqdm_lines_say_how_long_the_rest_takes(capsys, monkeypatch, impatient):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    now = [0.0]
    monkeypatch.setattr(_progress.time, "monotonic", lambda: now[0])
    for _ in watched(BLOCKS, 10, "work", 1):
        now[0] += 10.0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["work: 40%, about 15 s left", "work: 80%, about 5 s left"]


def test_tqdm_shows_a_bar(capsys, impatient):
    pytest.importorskip("tqdm")
    assert list(watched(BLOCKS, 10, "work", 1)) == BLOCKS
    bar = capsys.readouterr().err
    assert "work" in bar
    assert "10/10" in bar


def test_searches_of_many_rows_are_watched(capsys, monkeypatch, impatient, rng):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    monkeypatch.setattr(_blocks, "_BLOCK_BYTES", 8 * 3 * 40)  # 40 rows
    monkeypatch.setattr(_radius, "_QUERIES", 50)
    X = rng.standard_normal((100, 3))
    for verbose, n_lines in ((0, 0), (1, 2)):
        index = FlatL2Neighbors(verbose=verbose).fit(X)
        capsys.readouterr()
        for search in (
            index.kneighbors,
            index.kneighbors_graph,
            index.radius_neighbors,
            lambda index=index: index.radius_neighbors_graph(X),
            lambda index=index: index.fit_transform(X),
        ):
            search()
            lines = capsys.readouterr().out.splitlines()
            assert len([x for x in lines if "s left" in x]) == n_lines
        index.kneighbors(X)
        assert capsys.readouterr().out == ""
