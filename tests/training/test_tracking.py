import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SMALL

from kgrec.training import tracking


@pytest.mark.parametrize("mode", ["online", "offline", "disabled"])
def test_wandb_mode_is_honoured(mode, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", mode)
    assert tracking.wandb_mode() == mode


def test_online_with_a_key_and_offline_without_or_with_a_malformed_one(monkeypatch):
    import wandb

    monkeypatch.delenv("WANDB_MODE")
    asked = []

    def login(**arguments: bool) -> bool:
        asked.append(arguments)
        return True

    monkeypatch.setattr(wandb, "login", login)
    assert tracking.wandb_mode() == "online"
    assert asked == [{"prompt": False, "verify": False}]
    monkeypatch.setattr(wandb, "login", lambda **_: False)
    assert tracking.wandb_mode() == "offline"

    def malformed(**_: bool) -> bool:
        raise ValueError("API key must have 40 characters")

    monkeypatch.setattr(wandb, "login", malformed)
    assert tracking.wandb_mode() == "offline"


def test_an_offline_run_can_be_read_back_and_nothing_else_is_written(tmp_path: Path):
    """In a process of its own, with an empty home and no key."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    environment |= {"HOME": str(home), "PYTHONPATH": str(ROOT)}
    overrides = [o for o in SMALL if not o.startswith("logger=")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *overrides, "hydra.run.dir=run"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["home", "run"]
    # matplotlib, which torchmetrics imports, keeps a list of fonts.
    assert [p for p in home.rglob("*") if p.is_file() and "matplotlib" not in p.parts] == []
    (offline,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    read = subprocess.run(
        ["wandb", "leet", "inspect", "--json", str(offline)],
        env=environment | {"PATH": f"{Path(sys.executable).parent}:{environment['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert read.returncode == 0, read.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    for part in ("val/auc", "train/loss", "popularity/test/auc", str(metrics["test/auc"])[:8]):
        assert part in read.stdout
