"""The acceptance command keeps what it has found."""

import json
import subprocess
import sys
import time
from pathlib import Path

import cuda_lane
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_acceptance.py"
pytestmark = [
    pytest.mark.skipif(not SCRIPT.exists(), reason="it comes with the repository only"),
    pytest.mark.skipif(not cuda_lane.SIMULATED, reason="the GPU is busy with tests"),
]


def command(folder, *more):
    line = [sys.executable, SCRIPT, "--sim", "--commit", "abc", "--output", folder]
    return [*map(str, (*line, *more))]


def found(folder):
    path = folder / "gpu_acceptance.json"
    return json.loads(path.read_text()) if path.exists() else {"found": {}}


def test_a_stage_that_is_killed_leaves_its_rows_and_resumes(tmp_path):
    process = subprocess.Popen(command(tmp_path, "--stages", "same_as_cpu"))
    while not found(tmp_path)["found"].get("same_as_cpu"):
        assert process.poll() is None, "it ended without a row"
        time.sleep(0.01)
    process.kill()
    process.wait()
    before = found(tmp_path)
    assert before["found"]["same_as_cpu"][0]["estimator"] == "FlatL2Neighbors"
    assert before["finished"] == [] and before["commit"] == "abc"
    stages = "--stages", "environment,same_as_cpu"
    assert subprocess.run(command(tmp_path, *stages, "--resume")).returncode == 0
    after = found(tmp_path)
    assert after["finished"] == ["environment", "same_as_cpu"]
    rows = after["found"]["same_as_cpu"]
    assert rows[0] == before["found"]["same_as_cpu"][0]
    assert len(rows) > len(before["found"]["same_as_cpu"])
    report = (tmp_path / "gpu_acceptance.md").read_text()
    assert "IVFPQNeighbors" in report and "python" in report
