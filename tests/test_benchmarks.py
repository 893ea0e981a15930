"""The benchmarks count, compare and write down what they say."""

import sys
from pathlib import Path

import numpy as np
import pytest
import reference

FOLDER = Path(__file__).parents[1] / "benchmarks"
if not FOLDER.is_dir():
    pytest.skip("they come with the repository only", allow_module_level=True)
sys.path.append(str(FOLDER))

import _compile  # noqa: E402
import _data  # noqa: E402
import _flat  # noqa: E402
import _graph  # noqa: E402
import _harness  # noqa: E402
import _ivf_flat  # noqa: E402
import _ivf_pq  # noqa: E402
import _recall  # noqa: E402
import _report  # noqa: E402

REPORTS = {"flat": _flat, "ivf_flat": _ivf_flat, "ivf_pq": _ivf_pq}
REPORTS |= {"graph": _graph, "recall": _recall, "compile": _compile}


def read(name):
    return (FOLDER / "results" / f"{name}.md").read_text(encoding="utf-8")


def test_exact_neighbors_are_those_of_the_oracle(rng):
    X = np.round(rng.normal(0, 2, (300, 4))) + 1e6
    Q = np.round(rng.normal(0, 2, (20, 4))) + 1e6
    sqdists, ids = _data.exact_neighbors(X, Q, 3)
    expected = reference.knn_of_many(Q, X, 3)
    np.testing.assert_array_equal(ids, expected[1])
    np.testing.assert_array_equal(sqdists, expected[0])


def test_rows_that_a_peer_finds_count_once():
    X, Q = np.array([[0.0], [1.0], [-1.0], [2.0]]), np.full((1, 1), 0.5)
    for ids, expected in (
        ([3, 0], [0.25, 2.25]),
        ([0, 2], [0.25, 2.25]),
        ([2, 2], [2.25, np.nan]),
        ([-1, 1], [0.25, np.nan]),
        ([-1, -1], [np.nan, np.nan]),
    ):
        found = _data.found_sqdists(X, Q, np.array([ids]))
        np.testing.assert_array_equal(found, [expected])


def test_peers_take_turns_with_the_same_queries(monkeypatch):
    monkeypatch.setattr(_harness, "settle", lambda quick: True)
    asked = []

    def peer(name, seconds):
        def ask(method, *args):
            if method == "time":
                calls, warm_up = args
                asked.append((name, calls, warm_up))
                return [seconds] * len(calls), np.zeros((len(calls), 1), int)

        return ask

    peers = {"fast": peer("fast", 0.001), "slow": peer("slow", 0.5)}
    timings = _harness.measure(peers, 10, 1, 25, budget=100.0)
    rounds = asked[2:]
    assert [name for name, _, _ in rounds] == ["fast", "slow"] * 7
    for (_, fast, _), (_, slow, _) in zip(rounds[::2], rounds[1::2], strict=True):
        assert set(fast) == set(slow)
    assert len(fast) == 5
    assert len({fast[0] for _, fast, _ in rounds}) > 1  # other queries in each round
    assert {warm_up for name, _, warm_up in rounds if name == "slow"} == {False}
    assert timings["fast"].seconds == 0.001
    assert timings["slow"].n_disturbed == 0


def test_a_peer_counts_with_the_first_quartile_of_its_rounds():
    timing = _harness.Timing(rounds=[5.0, 1.0, 9.0, 2.0, 3.0])
    assert timing.seconds == 2.0


def test_variables_that_change_a_peer_do_not_reach_it(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
    peer = _harness.PeerProcess("SklearnBrute", {}, {"OPENBLAS_VERBOSE": "0"})
    seen = []
    monkeypatch.setattr(
        _harness.subprocess, "Popen", lambda *_, env, **__: seen.append(env)
    )
    with pytest.raises(AttributeError), _harness.start(peer):
        pass
    (environment,) = seen
    assert "OMP_NUM_THREADS" not in environment
    assert "OPENBLAS_CORETYPE" not in environment
    assert environment["OPENBLAS_VERBOSE"] == "0"


def test_a_table_is_read_as_it_was_written():
    rows = [{"peer": "ours", "ms": 1234.5, "k": 10}, {"peer": "a|b", "ms": 0.01234}]
    text = _report.table(rows)
    assert text.splitlines() == [
        "| peer |     ms |  k |",
        "| ---- | -----: | -: |",
        "| ours |  1,230 | 10 |",
        "| a/b  | 0.0123 |  - |",
    ]
    report = "# A\n\n<!-- begin x -->\n\nold\n\n<!-- end x -->\n\nprose\n"
    report = _report.replace_block(report, "x", text + "\n\nMeasured now.")
    assert report.startswith("# A\n") and report.endswith("\n\nprose\n")
    read = _report.read_table(report, "x")
    assert read[0] == {"peer": "ours", "ms": "1,230", "k": "10"}
    assert _report.read_table(_report.clear(report), "x") == []
    with pytest.raises(ValueError, match="one block 'y'"):
        _report.replace_block(report, "y", "")


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_has_a_block_for_what_is_measured(name):
    tables = {"speed": ["speed", "peers"], "curve": ["curve", "recall"]}
    blocks = ["machine"]
    for section in REPORTS[name].SECTIONS:
        blocks += tables.get(section, [section])
    for block in blocks:
        assert "new" in _report.replace_block(read(name), block, "new")
    assert _report.read_table(read(name), blocks[1])


def test_the_picture_shows_what_the_reports_have():
    import _picture

    for _, report, peer, _ in _picture._SERIES:
        rows = _report.read_table(read(report), "curve")
        assert any(row["peer"] == peer for row in rows), peer
    ways = {row["way"] for row in _report.read_table(read("graph"), "graph")}
    assert ways == set(_picture._WAYS)
    for _, column, _ in _picture._EXACT:
        assert column in _report.read_table(read("flat"), "speed")[0]
