"""Keys and tokens are in no file, log, output or list of processes."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, SMALL
from kgrec_command import Kgrec, failed

from kgrec.errors import ConfigError
from kgrec.serving.middleware.access import VARIABLE
from kgrec.tracking.access import ADDRESSES, drop_empty_mode

CANARY = "c4nary"
SECRETS = {
    "WANDB_API_KEY": f"{CANARY}1".ljust(40, "a"),
    "HTTPS_PROXY": f"http://user:{CANARY}3@127.0.0.1:9",
    "HTTP_PROXY": f"http://user:{CANARY}4@127.0.0.1:9",
    "AWS_SECRET_ACCESS_KEY": f"{CANARY}5",
    "HF_TOKEN": f"hf_{CANARY}6",
    "GITHUB_TOKEN": f"{CANARY}7",
    "DATABASE_URL": f"postgres://user:{CANARY}8@host/db",
    VARIABLE: f"{CANARY}9".ljust(40, "b"),
}


def watched(command: list[str], folder: Path) -> tuple[str, set[str]]:
    """The output of a command, and the command lines of its processes."""
    environment = {**os.environ, **SECRETS, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    lines: set[str] = set()
    with (folder / "out.txt").open("w") as out:
        process = psutil.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out)
        while process.poll() is None:
            try:
                family = [process, *process.children(recursive=True)]
                lines |= {" ".join(each.cmdline()) for each in family}
                process.wait(0.2)
            except (psutil.Error, subprocess.TimeoutExpired):
                continue
    assert process.returncode == 0, (folder / "out.txt").read_text()
    return (folder / "out.txt").read_text(), lines


@pytest.mark.slow
def test_a_run_and_its_report_hold_no_key(tmp_path):
    small = [word for word in SMALL if not word.startswith("logger=")]
    train = [str(ROOT / "train.py"), *small, "model=svd", f"hydra.run.dir={tmp_path / 'run'}"]
    report = ["-m", "kgrec.cli", "report", "run", "--out", "report"]
    for command in (train, report):
        _, lines = watched([sys.executable, *command], tmp_path)
        assert len(lines) >= 1
        assert not [line for line in lines if CANARY in line]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []


@pytest.mark.parametrize("name", ADDRESSES)
def test_a_password_in_an_address_is_refused_without_repeating_it(name, monkeypatch):
    monkeypatch.setenv(name, f"https://me:{CANARY}@wandb.example.invalid")
    with pytest.raises(ConfigError, match=f"{name}: found a user name or password") as caught:
        drop_empty_mode()
    assert CANARY not in str(caught.value)
    monkeypatch.setenv(name, "https://wandb.example.invalid/@me")
    drop_empty_mode()


def test_kgrec_sync_refuses_it_before_it_asks_the_server(kgrec: Kgrec, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")  # the command removes it; this restores it
    monkeypatch.setenv("WANDB_BASE_URL", f"https://me:{CANARY}@wandb.example.invalid")
    part = tmp_path / "run" / "wandb" / "offline-run-1"
    part.mkdir(parents=True)
    (part / "run-1.wandb").touch()
    (tmp_path / "run" / "metrics.json").write_text("{}")
    output = kgrec("sync", "run")
    failed(output, "WANDB_BASE_URL: found a user name or password")
    assert CANARY not in output.err
