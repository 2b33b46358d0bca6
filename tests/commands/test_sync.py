"""``kgrec sync``: what is sent, in which order, and what is left out."""

import subprocess
import sys
from pathlib import Path

import pytest

from kgrec import cli
from kgrec.tracking import sync as sync_command


def make_run(folder: Path, *times: str, finished: bool = True) -> Path:
    for time in times:
        part = folder / "wandb" / f"offline-run-{time}-abc"
        part.mkdir(parents=True)
        (part / "run-abc.wandb").touch()
    if finished:
        (folder / "metrics.json").touch()
    return folder


@pytest.fixture
def sync(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs the command beside a server that takes everything; returns what was sent, and said."""
    sent: list[str] = []

    def wandb(command: list[str], **_: object) -> None:
        assert command[1:4] == ["-m", "wandb", "sync"]
        sent.extend(command[4:])
        for part in map(Path, command[4:]):
            (part / "run-abc.wandb.synced").touch()

    monkeypatch.setenv("WANDB_MODE", "offline")  # and is put back: the command sets it aside
    monkeypatch.setattr(subprocess, "run", wandb)
    monkeypatch.setattr(sync_command, "has_key", lambda: True)
    monkeypatch.setattr(sync_command, "server", lambda: "https://there")
    monkeypatch.setattr(sync_command, "answers", lambda _: True)

    def run(*arguments: str) -> tuple[list[str], str]:
        monkeypatch.setattr(sys, "argv", ["kgrec", "sync", *arguments])
        sent.clear()
        try:
            cli.main()
        except SystemExit as stop:
            return list(sent), f"exit {stop.code}: {''.join(capsys.readouterr())}"
        return list(sent), capsys.readouterr().out

    return run


def test_finished_runs_are_sent_once_and_their_parts_in_order(tmp_path, sync):
    resumed = make_run(tmp_path / "sweep" / "0", "20260102_000000", "20260101_000000")
    make_run(tmp_path / "sweep" / "1", "20260101_000000", finished=False)
    alone = make_run(tmp_path / "run", "20260103_000000")
    where = str(tmp_path)
    states = [line.split()[0] for line in sync(where, "--list")[1].replace("to send", "new")
              .splitlines()]  # fmt: skip
    assert states == ["new", "new", "unfinished"]
    sent, said = sync(where, str(alone))  # found twice, sent once
    assert sent == [
        str(alone / "wandb" / "offline-run-20260103_000000-abc"),
        str(resumed / "wandb" / "offline-run-20260101_000000-abc"),
        str(resumed / "wandb" / "offline-run-20260102_000000-abc"),
    ]
    assert said == "2 sent, 0 already sent, 1 left out because unfinished\n"
    assert sync(where) == ([], "0 sent, 2 already sent, 1 left out because unfinished\n")


def test_what_hinders_is_said(tmp_path, sync, monkeypatch):
    assert "found no such folder" in sync(str(tmp_path / "none"))[1]
    assert "found no run that was logged offline" in sync(str(tmp_path))[1]
    make_run(tmp_path / "run", "20260103_000000")
    monkeypatch.setattr(sync_command, "answers", lambda _: False)
    assert "found no answer from https://there" in sync(str(tmp_path))[1]
    monkeypatch.setattr(sync_command, "has_key", lambda: False)
    sent, said = sync(str(tmp_path))
    assert said.startswith("exit 1: error: W&B: found no key")
    assert sent == []


def test_what_the_server_does_not_take_is_an_error(tmp_path, sync, monkeypatch):
    make_run(tmp_path / "run", "20260103_000000")
    monkeypatch.setattr(sync_command, "send", lambda _: None)
    said = sync(str(tmp_path))[1]
    assert said.startswith("exit 1: 0 sent, 0 already sent, 0 left out")
    assert "1 run(s) could not be sent" in said
