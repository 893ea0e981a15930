"""The picture of the recall curve: what is drawn, and where."""

import sys

import numpy as np
import pytest
from sklearn.datasets import make_blobs

from sklearn_ann import IVFFlatNeighbors, IVFPQNeighbors, RecallCurveDisplay

NPROBE, RECALL, SECONDS = [1, 2, 4], [0.5, 0.8, 1.0], [1e-5, 2e-5, 4e-5]


@pytest.fixture
def pyplot():
    pytest.importorskip("matplotlib", reason="the picture is drawn with matplotlib")
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


@pytest.fixture(scope="module")
def index():
    X, _ = make_blobs(2000, 6, centers=30, cluster_std=3.0, random_state=0)
    return IVFFlatNeighbors(nlist=20, random_state=0).fit(X)


def test_a_curve_is_recall_against_queries_per_second(pyplot):
    display = RecallCurveDisplay.from_curves(
        NPROBE, RECALL, SECONDS, chosen_nprobe=2, name="lists", color="red"
    )
    np.testing.assert_array_equal(display.line_.get_xdata(), RECALL)
    np.testing.assert_allclose(display.line_.get_ydata(), [1e5, 5e4, 2.5e4])
    assert display.line_.get_color() == "red"
    assert display.ax_.get_xlabel() == "Recall"
    assert display.ax_.get_ylabel() == "Queries per second"
    assert display.ax_.get_yscale() == "log"
    (text,) = display.ax_.get_legend().get_texts()
    assert text.get_text() == "lists"
    _, chosen = display.ax_.get_lines()
    assert chosen.get_xdata() == [0.8]
    assert chosen.get_color() == "red"
    assert display.figure_ is display.ax_.figure


def test_several_estimators_share_a_picture(pyplot, index):
    _, ax = pyplot.subplots()
    first = RecallCurveDisplay.from_estimator(index, ax=ax)
    X, _ = make_blobs(2000, 6, centers=30, cluster_std=3.0, random_state=0)
    codes = IVFPQNeighbors(nlist=20, m=3, store_vectors=True, random_state=0).fit(X)
    second = RecallCurveDisplay.from_estimator(codes, X[:50] + 0.1, ax=ax, name="PQ")
    assert first.ax_ is second.ax_ is ax
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["IVFFlatNeighbors", "PQ"]
    assert first.nprobe.tolist() == sorted({1, 2, 4, 8, 16, 20, index.nprobe_})
    chosen = first.recall[first.nprobe == index.nprobe_]
    assert ax.get_lines()[1].get_xdata() == chosen == index.recall_


def test_what_a_search_probes_is_marked(pyplot, index):
    pinned = IVFFlatNeighbors(nlist=20, nprobe=50, random_state=0)
    display = RecallCurveDisplay.from_estimator(
        pinned.fit(index.reconstruct(range(2000)))
    )
    assert display.chosen_nprobe == 20
    assert display.ax_.get_lines()[1].get_xdata() == [1.0]


def test_drawing_again_makes_a_new_figure(pyplot):
    display = RecallCurveDisplay(
        nprobe=NPROBE, recall=RECALL, seconds_per_query=SECONDS
    )
    first = display.plot().figure_
    assert display.plot(name="again").figure_ is not first
    assert display.ax_.get_lines()[1].get_xdata().size == 0  # nothing was chosen


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch, index):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    display = RecallCurveDisplay(
        nprobe=NPROBE, recall=RECALL, seconds_per_query=SECONDS
    )
    for draw in (display.plot, lambda: RecallCurveDisplay.from_estimator(index)):
        with pytest.raises(ImportError, match=r"RecallCurveDisplay.*matplotlib"):
            draw()
