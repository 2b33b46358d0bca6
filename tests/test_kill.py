"""Commands that are killed with SIGKILL, and started again, end as undisturbed ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the harness needs fork and pidfds"),
]


def test_nothing_is_lost_and_nothing_is_done_twice(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "benchmarks/kill.py", "--every", "2", "--out", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    commands = json.loads((tmp_path / "kill.json").read_text())["commands"]
    assert all(not found["faults"] for found in commands.values())
    kills = sum(found["random"] + found["changes"] for found in commands.values())
    assert kills >= 200
    hit = {phase for found in commands.values() for phase in found["phases"]}
    # The preparation takes milliseconds, and is hit by chance.
    assert {"writing the cache", "an epoch", "a checkpoint", "the results"} <= hit
    assert (tmp_path / "kill.md").read_text().strip() in done.stdout
