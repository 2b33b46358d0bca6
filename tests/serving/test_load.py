"""``kgrec serve`` under load and under attack, as short versions of benchmarks/serve.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Trained

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def measured(out: Path, name: str, run: Path, *arguments: str) -> dict[str, Any]:
    """Runs the benchmark on a run; returns what it wrote."""
    done = subprocess.run(
        [sys.executable, "benchmarks/serve.py", "--run", str(run), "--out", str(out), *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads((out / f"{name}.json").read_text())
    return found


def test_a_load_of_all_routes_has_no_error(trained: Trained, tmp_path: Path) -> None:
    found = measured(
        tmp_path, "serve_soak", trained(), "--minutes", "0.2", "--clients", "16",
        "--workers", "2",
    )  # fmt: skip
    assert found["load"]["errors"] == 0
    assert set(found["load"]["statuses"]) == {"200"}
    assert found["load"]["statuses"]["200"] > 200


def test_the_service_survives_every_fault(trained: Trained, tmp_path: Path) -> None:
    found = measured(tmp_path, "serve_faults", trained(), "--faults", "--toy")
    assert len(found["answers"]) == 13
    assert found["answers"]["a worker killed under load"]["200"] > 0
    assert set(found["answers"]["reload under load"]) == {"200"}
