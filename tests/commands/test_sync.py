"""``kgrec sync``: which runs are sent, in which order, and which are skipped."""

import sys
from pathlib import Path

import pytest

from kgrec import cli
from kgrec.tracking import access
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
    """Runs the command with a server that takes everything; returns sent folders and output."""
    sent: list[str] = []

    def wandb(command: list[str]) -> int:
        assert command[1:4] == ["-m", "wandb", "sync"]
        sent.extend(command[4:])
        for part in map(Path, command[4:]):
            (part / "run-abc.wandb.synced").touch()
        return 0

    monkeypatch.setenv("WANDB_MODE", "offline")  # the command removes it; this restores it
    monkeypatch.setattr(sync_command, "call", wandb)
    monkeypatch.setattr(sync_command, "key_problem", lambda: None)
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
    folder = str(tmp_path)
    states = [line[:10].strip() for line in sync(folder, "--list")[1].splitlines()]
    assert states == ["to send", "to send", "unfinished"]
    sent, output = sync(folder, str(alone))  # named twice, sent once
    assert sent == [
        str(alone / "wandb" / "offline-run-20260103_000000-abc"),
        str(resumed / "wandb" / "offline-run-20260101_000000-abc"),
        str(resumed / "wandb" / "offline-run-20260102_000000-abc"),
    ]
    assert output == "2 sent, 0 already sent, 1 skipped because not finished\n"
    again = sync(folder)
    assert again == ([], "0 sent, 2 already sent, 1 skipped because not finished\n")


def test_a_missing_folder_run_key_or_server_is_an_error(tmp_path, sync, monkeypatch):
    assert "found no such folder" in sync(str(tmp_path / "none"))[1]
    assert "found no run that was logged offline" in sync(str(tmp_path))[1]
    make_run(tmp_path / "run", "20260103_000000")
    monkeypatch.setattr(sync_command, "answers", lambda _: False)
    assert "found no answer from https://there" in sync(str(tmp_path))[1]
    monkeypatch.setattr(sync_command, "key_problem", lambda: "found no API key")
    sent, output = sync(str(tmp_path))
    assert output.startswith("exit 1: error: W&B: found no API key, needed to send 1 run(s)")
    assert sent == []


def test_a_malformed_key_is_named(tmp_path, sync, monkeypatch):
    make_run(tmp_path / "run", "20260103_000000")
    monkeypatch.setattr(sync_command, "key_problem", access.key_problem)
    monkeypatch.setenv("WANDB_API_KEY", "tooshort")
    sent, output = sync(str(tmp_path))
    assert output.startswith("exit 1: error: W&B: found a malformed API key in WANDB_API_KEY")
    assert sent == []


def test_a_run_that_the_server_refuses_is_an_error(tmp_path, sync, monkeypatch):
    make_run(tmp_path / "run", "20260103_000000")
    monkeypatch.setattr(sync_command, "send", lambda _: None)
    output = sync(str(tmp_path))[1]
    assert output.startswith("exit 1: 0 sent, 0 already sent, 0 skipped")
    assert "1 run(s) could not be sent" in output
