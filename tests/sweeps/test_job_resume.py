"""How a job of a sweep resumes: with damaged checkpoints, and with ckpt_path."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Train

pytestmark = pytest.mark.slow
JOB = Path("logs/sweeps/s/run")  # nothing is varied


def cut_short(folder: Path) -> None:
    """Makes a finished sweep of one job one that was killed after the job's last epoch."""
    (folder / "metrics.json").unlink()
    about = folder.parent / "sweep.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"finished": None}))


def metrics(folder: Path) -> dict[str, float]:
    values = json.loads((folder / "metrics.json").read_text())
    return {k: v for k, v in values.items() if k.startswith(("val/", "test/", "train/loss"))}


@pytest.mark.parametrize("best", ["whole", "torn"])
def test_a_torn_checkpoint_does_not_block_a_job(best, train: Train, tmp_path: Path):
    words = ("-m", "seed=1", "sweep=s")
    assert train(*words).code == 0
    folder = tmp_path / JOB
    expected = metrics(folder)
    cut_short(folder)
    last = folder / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    if best == "torn":
        (folder / "checkpoints" / "best.ckpt").write_bytes(b"")
    done = train(*words)
    assert done.code == 0, done.out + done.err
    consequence = {"whole": f"resumes from {folder}/checkpoints/best.ckpt", "torn": "begins anew"}
    begin = f"warning: {last}: found no readable checkpoint"
    (line,) = (x for x in (folder / "train.log").read_text().splitlines() if begin in x)
    assert line.endswith(f"; the run {consequence[best]}")
    assert metrics(folder) == expected


def test_a_job_resumes_from_its_own_checkpoint_before_another_one(train: Train, tmp_path: Path):
    first = train("epochs=1", "seed=1")
    last = f"ckpt_path={first.folder}/checkpoints/last.ckpt"
    words = ("-m", "seed=1", "sweep=s", last)
    assert train(*words).code == 0
    folder = tmp_path / JOB
    log = folder / "train.log"
    assert "epoch   2" in log.read_text()
    assert "epoch   1" not in log.read_text()
    cut_short(folder)
    log.write_text("")
    assert train(*words).code == 0
    assert f"resuming from {folder}/checkpoints/last.ckpt" in log.read_text()
    assert "epoch   " not in log.read_text()
