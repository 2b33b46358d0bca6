"""Temporary folders next to a target: for one process, and without a trace of a killed one."""

from pathlib import Path

import pytest
from conftest import raw_tables
from filelock import FileLock

from kgrec.data.build.folder import REPORT, write_folder
from kgrec.data.convert import convert
from kgrec.data.incoming import next_to
from kgrec.errors import DataError

RAW = raw_tables([("u", "i", 4.0), ("v", "j", 2.0)], [("i", "a"), ("j", "b")], [("a", "r", "b")])
TABLES = {
    "interactions.csv": RAW.interactions, "links.csv": RAW.links, "triples.csv": RAW.triples,
}  # fmt: skip


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".incoming-out" / "out").mkdir(parents=True)
    (tmp_path / ".incoming-out" / "out" / "triples.csv").write_text("half")
    (tmp_path / ".out.lock").touch()
    convert(RAW, tmp_path / "out", "csv")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["interactions.csv", "links.csv", "triples.csv"]


def test_a_build_killed_between_two_renames_keeps_the_earlier_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "out", TABLES, {})
    (tmp_path / "out").rename(tmp_path / ".before-out")
    with pytest.raises(DataError):
        write_folder(tmp_path / "out", {}, {})  # a folder without tables cannot be read
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == [REPORT, *sorted(TABLES)]
    write_folder(tmp_path / "out", TABLES, {"new": True})
    assert names(tmp_path) == ["out"]


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / ".out.lock"),
        pytest.raises(DataError, match="out: found another process that writes it"),
    ):
        convert(RAW, tmp_path / "out", "csv")


def test_a_place_that_cannot_be_written_to_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(DataError, match=r"out: .*, expected a new folder"),
        next_to(tmp_path / "file" / "out"),
    ):
        raise AssertionError("entered")
