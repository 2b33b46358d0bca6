"""Ctrl-C and SIGTERM at moments spread over whole commands."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from conftest import SMALL
from forked import Command

pytestmark = pytest.mark.slow

ALONE = (*SMALL, "epochs=3", "hydra.run.dir=run")
SWEEP = ("-m", *SMALL, "epochs=3", "model.K=2,4", "sweep=s")
JOBLIB = (*SWEEP, "epochs=200", "patience=null", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
SEARCH = (
    "-m", *SMALL, "epochs=3", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "model.d=8",
    "model.K=choice(2,4)", "model.H=1", "model.aggregator=sum", "optimizer.lr=0.01",
    "optimizer.weight_decay=0", "batch_size=512", "sweep=s",
)  # fmt: skip


def states(folder: Path) -> list[str]:
    files = sorted(folder.rglob("status.json"))
    return [json.loads(file.read_text()).get("state", "waiting") for file in files]


def check(command: Command, folder: Path, number: int = signal.SIGINT) -> None:
    """Checks that an interrupted command ended as it should; it may have been finished."""
    code, text = command.wait(), command.text()
    assert code in (0, 128 + number), text
    assert "Traceback" not in text
    assert "KeyboardInterrupt" not in text
    assert "Exception ignored" not in text
    assert command.remaining() == []
    lines = [line for line in text.splitlines() if line.startswith("interrupted")]
    assert len(lines) <= 1, text
    if code != 0 and not lines:  # after its end, while Python closes the process
        assert "running" not in states(folder)
    elif lines:
        assert text.rstrip().endswith(lines[0])
        assert set(states(folder)) <= {"interrupted", "finished", "waiting", "pruned"}


KINDS = {
    "run": (ALONE, 10, signal.SIGINT),
    "run, terminated": (ALONE, 3, signal.SIGTERM),
    "run with W&B": ((*ALONE, "logger=default"), 3, signal.SIGINT),
    "sweep": (SWEEP, 4, signal.SIGINT),
    "search": (SEARCH, 2, signal.SIGINT),
}


@pytest.mark.parametrize(("words", "moments", "number"), KINDS.values(), ids=KINDS)
def test_a_command_that_is_interrupted_at_any_moment(words, moments, number, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    whole = Command(tmp_path / "whole", *words)
    begin = time.monotonic()
    assert whole.wait() == 0, whole.text()
    seconds = time.monotonic() - begin
    for moment in range(moments):
        folder = tmp_path / str(moment)
        command = Command(folder, *words)
        if command.wait(seconds * (moment + 0.5) / moments) is None:
            command.signal(number)
        check(command, folder, number)


def test_a_second_ctrl_c_ends_a_command_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    command = Command(tmp_path, *ALONE, "epochs=1000", "patience=null", "logger=default")
    command.wait_for(lambda: "epoch   2" in command.text())
    command.signal()
    command.wait(0.6)
    if command.process.exitcode is None:
        command.signal()
    check(command, tmp_path)
    assert command.wait() == 130
    assert states(tmp_path) == ["interrupted"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_jobs_of_a_parallel_sweep_end_with_it(number, tmp_path):
    command = Command(tmp_path, *JOBLIB)
    command.wait_for(lambda: states(tmp_path).count("running") == 2)
    time.sleep(1)
    command.signal(number)
    check(command, tmp_path, number)
    assert command.wait() == 128 + number
    assert command.text().splitlines()[-1] == ("interrupted; the same command with sweep=s resumes")
    assert states(tmp_path) == ["interrupted"] * 2


def test_workers_of_a_parallel_sweep_that_begin_say_nothing(tmp_path):
    command = Command(tmp_path, *JOBLIB)
    command.wait_for(lambda: len(command.processes()) > 2)
    command.signal()
    check(command, tmp_path)
    assert command.wait() == 130


def test_other_commands(tmp_path):
    for moment in range(4):
        command = Command(tmp_path / str(moment), "data", "describe", "synthetic", program="kgrec")
        command.wait(0.05 * 3**moment)
        if command.process.exitcode is None:
            command.signal()
        check(command, tmp_path / str(moment))
