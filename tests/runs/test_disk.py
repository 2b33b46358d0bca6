"""A run whose disk is full or read-only, or whose folders are files, ends with one line."""

from __future__ import annotations

import logging
import re

import pytest
from conftest import Finished, Train
from disks import Disk, fill, leftovers, read_only
from files import RAW, write
from user_tables import write as write_plan

from kgrec.files import temporary_path
from kgrec.runs.log_file import LogFile
from kgrec.runs.status import at_work, read_status, update


def slow(value: str) -> object:
    """A value whose test is a slow one."""
    return pytest.param(value, marks=pytest.mark.slow)


def one_line(run: Finished, message: str) -> None:
    """Checks that a run ended with one line that has the message, and without a trace."""
    shown = run.out + run.err
    assert run.code == 1, shown
    assert re.search(message, shown), shown
    assert shown.count("error: ") == 1, shown
    assert "Traceback" not in shown
    assert "Logging error" not in shown


# Sizes at which the log, the ids, the status and the checkpoint do not fit.
@pytest.mark.parametrize("size", [*(slow(size) for size in ("4k", "28k", "52k")), "100k"])
def test_a_full_disk_fails_the_run_in_one_line(size, train: Train, disk: Disk):
    folder = disk(size) / "run"
    run = train(folder=str(folder))
    one_line(run, rf"{folder}/\S+: found [0-9,]+ bytes free .*, expected")
    status = read_status(folder)
    assert status["state"] == "failed"
    assert "bytes free" in status["error"]
    assert leftovers(folder) == []
    assert "epoch   1" not in run.out or size in ("52k", "100k")


@pytest.mark.slow
# Not even the status fits, or all but a checkpoint.
@pytest.mark.parametrize("leave", [0, 61_440])
def test_a_full_disk_leaves_the_previous_checkpoint(leave, train: Train, disk: Disk):
    place = disk("2m")
    folder = place / "run"
    assert train("epochs=2", folder=str(folder)).code == 0
    (folder / "metrics.json").unlink()  # as if it had been killed
    names = ("best.ckpt", "last.ckpt")
    before = [(folder / "checkpoints" / name).read_bytes() for name in names]
    fill(place, leave=leave)
    last = f"ckpt_path={folder}/checkpoints/last.ckpt"
    run = train("epochs=4", last, folder=str(folder))
    one_line(run, "bytes free")
    assert [(folder / "checkpoints" / name).read_bytes() for name in names] == before
    assert read_status(folder)["state"] == "failed"
    (place / "filler").unlink()
    assert train("epochs=4", last, folder=str(folder)).code == 0


def test_a_read_only_disk_is_one_line(train: Train, disk: Disk):
    place = disk("64k")
    read_only(place)
    one_line(train(folder=str(place / "run")), "Read-only file system")


@pytest.mark.parametrize(
    "name", [slow("curves"), slow("evaluation"), "ids", slow("inference"), "checkpoints"]
)
def test_a_file_in_the_place_of_a_folder_is_named(name, train: Train, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text("mine")
    run = train("epochs=1")
    one_line(run, f"/run/{name}: found a file, expected a folder")
    assert read_status(tmp_path / "run")["state"] == "failed"
    assert (tmp_path / "run" / name).read_text() == "mine"


def test_a_file_in_the_place_of_the_run_folder_is_named(train: Train, tmp_path):
    (tmp_path / "run").write_text("mine")
    one_line(train(), "/run: found a file, expected a folder")
    one_line(train(folder="run/inner"), "/run: found a file, expected a folder")


def test_a_run_removes_the_leftovers_of_a_killed_one(tmp_path):
    leftover = temporary_path(tmp_path / "checkpoints" / "last.ckpt")
    leftover.parent.mkdir()
    leftover.write_text("a part")
    with at_work(tmp_path):
        assert not leftover.exists()


def test_only_a_new_state_waits_for_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("os.fsync", synced.append)
    update(tmp_path, epoch=1)
    assert synced == []
    update(tmp_path, state="finished")
    assert len(synced) == 2  # the file and its folder


def test_a_log_file_on_a_full_disk_is_one_warning(disk: Disk, capsys):
    place = disk("16k")
    logger, handler = logging.getLogger("test of a full disk"), LogFile(place / "train.log")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        logger.warning("before")
        fill(place)
        for _ in range(3):
            logger.warning("x" * 5000)
    finally:
        logger.removeHandler(handler)
        handler.close()
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert shown.startswith(f"warning: {place}/train.log: found 0 bytes free")
    assert (place / "train.log").read_text().startswith("before\n")


def test_a_log_file_that_cannot_be_opened_is_one_warning(tmp_path, capsys):
    handler = LogFile(tmp_path, delay=True)
    for _ in range(2):
        handler.handle(logging.makeLogRecord({"msg": "a line"}))
    shown = capsys.readouterr().err
    assert shown.count("found a folder, expected a file") == shown.count("\n") == 1


def test_an_error_of_formatting_is_still_printed(tmp_path, capsys):
    handler = LogFile(tmp_path / "train.log")
    handler.handle(logging.makeLogRecord({"msg": "%d", "args": ("no number",)}))
    handler.close()
    assert "Logging error" in capsys.readouterr().err


# ------------------------------------------------------------------ other commands


@pytest.mark.slow
def test_a_report_on_a_full_disk_leaves_the_earlier_one(make_run, kgrec, disk: Disk):
    place, runs = disk("2m"), make_run("one").parent
    assert kgrec("report", str(runs), "--out", str(place / "out")).code == 0
    before = {path: path.read_bytes() for path in (place / "out").rglob("*") if path.is_file()}
    fill(place)
    output = kgrec("report", str(runs), "--out", str(place / "out"))
    assert output.code == 1
    assert re.fullmatch(r"error: \S+/out: found [0-9,]+ bytes free .*\n", output.err), output.err
    after = {path: path.read_bytes() for path in (place / "out").rglob("*") if path.is_file()}
    assert after == before


COMMANDS = {
    "build": ["data", "build", "{plan}", "--out", "{place}/new"],
    "convert": ["data", "convert", "{data}", "{place}/new", "--to", "recbole"],
    "describe": ["data", "describe", "{data}", "--json", "{place}/new.json"],
    "generate": ["data", "generate", "music", "{place}/new", "--scale", "0.06"],
    "export": ["export", "{run}", "--to", "embeddings", "--out", "{place}/new"],
    "recommend": ["recommend", "{run}", "--all-users", "--out", "{place}/new.parquet"],
    "report": ["report", "{made}", "--out", "{place}/new"],
    "compare": ["compare", "{made}", "--json", "{place}/new.json"],
    "refit": ["refit", "{run}", "--out", "{place}/new"],
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("cause", ["full", "read-only", "file"])
def test_a_command_that_cannot_write_ends_with_one_line(
    command, cause, kgrec, trained, make_run, disk: Disk, tmp_path
):
    place = tmp_path / "file"
    place.write_text("mine")
    if cause != "file":
        place = disk("1m")
        fill(place) if cause == "full" else read_only(place)
    values = {
        "place": place,
        "data": write(tmp_path / "raw", RAW),
        "plan": write_plan(tmp_path),
        "run": trained(),
        "made": make_run("one").parent,
    }
    if "{made}" in command:
        make_run("two", model="svd")
    output = kgrec(*(word.format(**values) for word in command))
    assert output.code == 1, output.out
    assert "Traceback" not in output.err
    expected = {
        "full": "bytes free",
        "read-only": "cannot be written",
        "file": "found (a file|no folder)",
    }
    assert output.err.count("error: ") == 1, output.err
    assert re.search(expected[cause], output.err)
    files = {path.name for path in place.rglob("*") if path.is_file()}
    assert files <= {"filler", "at_work.lock"}
    assert leftovers(place) == []
