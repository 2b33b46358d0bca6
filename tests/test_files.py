"""Files and folders are written whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import torch
from disks import Disk, fill, leftovers, read_only
from safetensors.torch import save_file

from kgrec import files
from kgrec.disk_errors import behind
from kgrec.errors import DiskError, KgrecError

TABLE = pl.DataFrame({"number": range(50_000)})
WRITERS: dict[str, Callable[[Path], None]] = {
    "text": lambda path: files.write_text(path, "new" * 100_000),
    "json": lambda path: files.write_json(path, {"new": [1] * 50_000}),
    "parquet": lambda path: files.write_parquet(path, TABLE),
    "csv": lambda path: files.write_csv(path, TABLE),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_exception_before_the_rename_leaves_the_old_file(write, error, tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(*_: object) -> None:
        assert len(leftovers(tmp_path)) == 1  # the new file is there, under another name
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(error):
        write(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("sync", [True, False])
def test_a_file_reaches_the_disk_before_its_name_changes(sync, tmp_path, monkeypatch):
    events: list[str] = []
    replace = Path.replace

    def note_sync(descriptor: int) -> None:
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

    def note_rename(path: Path, target: Path) -> Path:
        events.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_rename)
    path = tmp_path / "file"
    files.write_text(path, "new", sync)
    assert path.read_text() == "new"
    expected = [files.temporary_path(path).name, "rename", tmp_path.name]
    assert events == (expected if sync else ["rename"])


def test_a_folder_reaches_the_disk_before_its_name_changes(tmp_path, monkeypatch):
    synced: list[str] = []

    def note(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        assert (tmp_path / "out").exists() == (synced[-1] == tmp_path.name)

    monkeypatch.setattr(os, "fsync", note)
    with files.atomic_folder(tmp_path / "out") as incoming:
        assert incoming.name == "out"
        (incoming / "a").write_text("a")
        (incoming / "sub").mkdir()
        (incoming / "sub" / "b").write_text("b")
    assert sorted(synced[:3]) == ["a", "b", "sub"]
    assert synced[3:] == ["out", tmp_path.name]
    assert leftovers(tmp_path) == []


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    out = tmp_path / "out"
    for content in ("old", "new"):
        with files.atomic_folder(out) as incoming:
            (incoming / content).write_text(content)
    assert [path.name for path in out.iterdir()] == ["new"]

    def fail() -> None:
        with files.atomic_folder(out) as incoming:
            (incoming / "newer").write_text("newer")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [path.name for path in out.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [out]


def test_an_empty_folder_is_filled_and_stays_itself(tmp_path):
    out, link = tmp_path / "out", tmp_path / "link"
    out.mkdir()
    link.symlink_to(out)
    number = out.stat().st_ino
    with files.atomic_folder(link) as incoming:
        (incoming / "a").write_text("a")
    assert [path.name for path in out.iterdir()] == ["a"]
    assert out.stat().st_ino == number
    assert link.is_symlink()


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_leftovers_of_dead_processes_go_and_others_stay(tmp_path):
    path = tmp_path / "file"
    own = files.temporary_path(path).name
    dead = tmp_path / own.replace(str(os.getpid()), str(ended_process()))
    living = tmp_path / own.replace(str(os.getpid()), "1")
    elsewhere = tmp_path / ".file.another-host-12.incoming"
    other = tmp_path / dead.name.replace(".file.", ".file2.")
    for leftover in (dead, living, elsewhere, other):
        leftover.write_text("a part")
    files.write_text(path, "whole")
    assert set(tmp_path.iterdir()) == {path, living, elsewhere, other}
    (tmp_path / "mine.incoming").write_text("not a leftover")
    files.remove_all_leftovers(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"file", "mine.incoming"}


def test_machines_of_one_name_are_two(monkeypatch):
    """In two containers the same number may be that of a living and of a dead process."""
    here = files._host()
    assert here == files._HOST == files._host()
    monkeypatch.setattr(files.os, "readlink", lambda path: "pid:[1]")
    assert files._host() != here
    assert files._LEFTOVER.fullmatch(f".file.{here}-12.incoming")["host"] == here


def test_a_folder_killed_between_its_two_renames_comes_back(tmp_path):
    out = tmp_path / "out"
    own = files.temporary_path(out).name
    leftover = tmp_path / own.replace(str(os.getpid()), str(ended_process()))
    (leftover / "before").mkdir(parents=True)
    (leftover / "before" / "old").write_text("old")
    (leftover / "out").mkdir()
    files.remove_leftovers(out)
    assert (out / "old").read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_leftovers_do_not_make_a_folder_full(tmp_path):
    out = tmp_path / "out"
    own = files.temporary_path(out / "out").name
    (out / own.replace(str(os.getpid()), str(ended_process()))).mkdir(parents=True)
    assert files.is_empty(out)
    (out / "file").write_text("")
    assert not files.is_empty(out)


def test_a_device_is_written_and_not_replaced():
    files.write_text(Path("/dev/null"), "text")
    assert Path("/dev/null").is_char_device()


def test_what_is_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DiskError, match="/folder: found a folder, expected a file"):
        files.write_text(tmp_path / "folder", "text")
    for path in (tmp_path / "file", tmp_path / "file" / "sub"):
        with pytest.raises(DiskError, match="/file: found a file, expected a folder"):
            files.make_folder(path)
    with pytest.raises(DiskError, match="/file: found a file, expected a folder"):
        files.write_parquet(tmp_path / "file" / "table", TABLE)
    with pytest.raises(DiskError, match=r"x: found no folder .*/missing, expected one"):
        files.write_text(tmp_path / "missing" / "x", "text")


def test_an_error_of_the_disk_is_found_behind_others(tmp_path):
    full = OSError(errno.ENOSPC, "full")
    wrapped = RuntimeError("of a library")
    wrapped.__context__ = full
    assert "bytes free" in str(behind(wrapped, tmp_path))
    assert behind(OSError(errno.EISDIR, "x", str(tmp_path / "a")), tmp_path) is not None
    assert behind(OSError(errno.EISDIR, "x", "/elsewhere"), tmp_path) is None
    assert behind(KeyboardInterrupt(), tmp_path) is None
    mistake = KgrecError("a mistake")
    mistake.__context__ = full
    assert behind(mistake, tmp_path) is None


FULL: dict[str, Callable[[Path], None]] = {
    **WRITERS,
    "copy": lambda path: files.copy_file(Path(subprocess.__file__), path),
}


@pytest.mark.parametrize("write", FULL.values(), ids=FULL)
def test_a_full_disk_is_one_line_and_the_old_file_stays(write, disk: Disk):
    place = disk("64k")
    path = place / "file"
    path.write_text("old")
    with pytest.raises(DiskError, match=r"/file: found [0-9,]+ bytes free .*, expected") as error:
        write(path)
    assert "\n" not in str(error.value)
    assert path.read_text() == "old"
    assert list(place.iterdir()) == [path]


FOLDERS: dict[str, Callable[[Path], object]] = {
    "parquet": lambda folder: TABLE.write_parquet(folder / "x", compression="uncompressed"),
    "csv": lambda folder: TABLE.write_csv(folder / "x"),
    "safetensors": lambda folder: save_file({"a": torch.rand(100_000)}, folder / "x"),
    "torch by name": lambda folder: torch.save(torch.rand(100_000), folder / "x"),
}


@pytest.mark.parametrize("write", FOLDERS.values(), ids=FOLDERS)
def test_every_library_that_fills_a_disk_is_understood(write, disk: Disk):
    place = disk("64k")

    def attempt() -> None:
        with files.atomic_folder(place / "out") as incoming:
            write(incoming)

    with pytest.raises(DiskError, match=r"/out: found [0-9,]+ bytes free"):
        attempt()
    assert list(place.iterdir()) == []


def test_a_read_only_disk_is_one_line(disk: Disk):
    place = disk("64k")
    read_only(place)
    for path in (place / "file", place / "folder" / "file"):
        with pytest.raises(DiskError, match=r"cannot be written \(Read-only file system\)"):
            files.write_parquet(path, TABLE)


def test_a_small_file_is_written_over_on_a_full_disk(disk: Disk):
    place = disk("64k")
    (place / "status").write_text("running")
    fill(place)
    assert shutil.disk_usage(place).free == 0
    files.overwrite(place / "status", b"failed")
    assert (place / "status").read_text() == "failed"
