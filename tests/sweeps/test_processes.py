"""Sweeps in processes of their own that are killed and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, SMALL

from kgrec.sweeps.folder import SweepFolder
from kgrec.sweeps.state import FINISHED

pytestmark = pytest.mark.slow

JOBS = ["-m", *SMALL, "epochs=40", "patience=null", "model.K=2,4", "seed=1,2", "ranking=none"]
PATIENCE = 300  # seconds; a loaded machine takes long


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "train.py"), *JOBS, *words]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, out
    return out


def wait_for(condition: Callable[[], bool]) -> None:
    start_time = time.monotonic()
    while not condition():
        assert time.monotonic() - start_time < PATIENCE
        time.sleep(0.05)


def states(folder: Path, name: str) -> list[str]:
    where = folder / "logs" / "sweeps" / name
    if not (where / "sweep.json").is_file():
        return []
    return [state.state for state in SweepFolder.read(where).states()]


def metrics_of(folder: Path, name: str) -> dict[str, dict[str, float]]:
    where = folder / "logs" / "sweeps" / name
    metrics = {p.parent.name: json.loads(p.read_text()) for p in where.glob("*/metrics.json")}
    return {
        job: {k: v for k, v in m.items() if k.startswith(("val/", "test/", "train/epochs"))}
        for job, m in metrics.items()
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """The metrics of an uninterrupted sweep."""
    folder = tmp_path_factory.mktemp("whole")
    finish(start(folder, "sweep=s"))
    return metrics_of(folder, "s")


def test_a_killed_sweep_resumes_and_ends_with_the_same_metrics(tmp_path, whole):
    words = ("sweep=s", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    process = start(tmp_path, *words)
    wait_for(lambda: FINISHED in states(tmp_path, "s") and "running" in states(tmp_path, "s"))
    process.kill()
    process.communicate()
    wait_for(lambda: "running" not in states(tmp_path, "s"))  # its workers end with it
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("metrics.json")}
    assert 0 < len(before) < 4
    finish(start(tmp_path, *words))
    assert states(tmp_path, "s") == [FINISHED] * 4
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())
    assert metrics_of(tmp_path, "s") == whole


def test_a_killed_worker_fails_no_job(tmp_path, whole):
    process = start(tmp_path, "sweep=s", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    wait_for(lambda: "running" in states(tmp_path, "s"))
    status = next((tmp_path / "logs" / "sweeps" / "s").glob("*/status.json"))
    psutil.Process(json.loads(status.read_text())["process"]["pid"]).kill()
    out = finish(process)
    assert "the launcher broke down" in out
    assert states(tmp_path, "s") == [FINISHED] * 4
    assert metrics_of(tmp_path, "s") == whole


def test_ctrl_c_says_how_to_resume(tmp_path, whole):
    process = start(tmp_path, "sweep=s")
    wait_for(lambda: "running" in states(tmp_path, "s"))
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert "interrupted; the same command with sweep=s resumes" in out
    assert "Traceback" not in out
    assert (tmp_path / "logs" / "sweeps" / "s" / "sweep.csv").is_file()
    assert set(states(tmp_path, "s")) == {"interrupted", "waiting"}
    finish(start(tmp_path, "sweep=s"))
    assert metrics_of(tmp_path, "s") == whole


def test_submitit_finishes_all_jobs_though_one_is_killed(tmp_path, whole):
    process = start(tmp_path, "sweep=s", "hydra/launcher=submitit_local")
    wait_for(lambda: "running" in states(tmp_path, "s"))
    status = next((tmp_path / "logs" / "sweeps" / "s").glob("*/status.json"))
    psutil.Process(json.loads(status.read_text())["process"]["pid"]).kill()
    assert "the launcher broke down" not in finish(process)  # it has waited for the others
    assert states(tmp_path, "s") == [FINISHED] * 4
    assert metrics_of(tmp_path, "s") == whole
