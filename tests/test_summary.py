"""A fitted estimator in a few lines: text, and HTML."""

from html.parser import HTMLParser

import numpy as np
import pytest
from sklearn import config_context
from sklearn.exceptions import NotFittedError

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(1200, 8)).astype(np.float32)


def make(X):
    lists = {"nlist": 12, "random_state": 0}
    return [
        FlatL2Neighbors().fit(X),
        IVFFlatNeighbors(**lists).fit(X),
        IVFPQNeighbors(**lists, m=4, store_vectors=True).fit(X),
    ]


def test_the_lines_say_what_the_attributes_say(X):
    flat, vectors, codes = (index.summary().splitlines() for index in make(X))
    assert flat[0] == "FlatL2Neighbors"
    assert flat[1].split() == ["rows:", "1,200", "of", "8", "features,", "float32"]
    assert len(flat) == 3
    _, index, refined = make(X)
    low, high = index.recall_interval_
    assert vectors[3].split() == (
        f"lists: 12, imbalance {index.imbalance_factor_:.2f}".split()
    )
    assert vectors[4].split() == ["nprobe_:", str(index.nprobe_)]
    assert vectors[5].split(maxsplit=1)[1] == (
        f"{index.recall_:.4f} (95 % interval {low:.4f} to {high:.4f})"
    )
    assert codes[5].split() == ["refine_factor_:", str(refined.refine_factor_)]
    assert codes[6].startswith("recall_:")


@pytest.mark.parametrize("nprobe", [9, "many", np.array([1, 2])], ids=str)
def test_another_nprobe_is_named_and_a_wrong_one_is_no_error(nprobe, X):
    index = make(X)[1]
    assert "is set" not in index.summary()
    index.set_params(nprobe=nprobe)
    assert f"{index.nprobe_} (nprobe={nprobe!r} is set)" in index.summary()
    assert "<table>" in index._repr_html_()


def test_memory_is_that_of_all_arrays(X):
    flat, _, codes = make(X)
    n_bytes = int(flat.summary().splitlines()[2].split()[1].replace(",", ""))
    # The vectors, a byte a feature, 8 bytes a row, and what is rounded up.
    assert X.nbytes + X.size + 8 * 1200 < n_bytes < 1.1 * (X.nbytes + X.size + 9600)
    bare = IVFPQNeighbors(nlist=12, m=4, random_state=0).fit(X)
    sizes = [
        int(index.summary().splitlines()[2].split()[1].replace(",", ""))
        for index in (codes, bare)
    ]
    assert sizes[0] - sizes[1] == X.nbytes


def test_what_is_not_fitted_has_no_summary():
    with pytest.raises(NotFittedError):
        IVFFlatNeighbors().summary()


class Tags(HTMLParser):
    """Whether what is opened is closed, and the cells of tables."""

    def __init__(self):
        super().__init__()
        self.open, self.cells = [], []

    def handle_starttag(self, tag, attributes):
        if tag not in ("input", "meta", "link", "br", "img", "path", "rect", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if self.open[-1:] in (["th"], ["td"]):
            self.cells.append(data)


def test_a_notebook_shows_them_beside_the_diagram(X):
    for index in make(X):
        unfitted = type(index)()
        for html in (index._repr_html_(), index._repr_mimebundle_()["text/html"]):
            tags = Tags()
            tags.feed(html)
            assert not tags.open
            for line in index.summary().splitlines()[1:]:
                name, value = line.split(":", maxsplit=1)
                # Behind the parameters, of which one has the same name.
                at = tags.cells[::-1].index(name)
                assert tags.cells[::-1][at - 1] == value.strip()
            assert html.count("<table>") == 1
            assert "sk-container-id" in html
        assert "<th>rows</th>" not in unfitted._repr_html_()


def test_where_text_is_wanted_there_is_no_html(X):
    index = make(X)[1]
    with config_context(display="text"):
        assert not hasattr(index, "_repr_html_")
        assert set(index._repr_mimebundle_()) == {"text/plain"}
