"""Tables of a stranger: each is read, or refused in one line that names the file; none hangs."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

import pytest
from files import CSV, FINAL, KGAT, MOVIELENS, RAW, RECBOLE, write

from kgrec.data.build.columns import UserTable
from kgrec.data.describe import describe
from kgrec.data.formats import recognise
from kgrec.data.parquet_files import read_parquet
from kgrec.data.prepare import prepare
from kgrec.data.text_files import read_lines
from kgrec.errors import ConfigError, DataError, printable

FORMATS = {
    "raw": RAW, "final": FINAL, "recbole": RECBOLE, "kgat": KGAT, "csv": CSV,
    "movielens": MOVIELENS,
}  # fmt: skip

LONG = 1 << 18  # characters

CONTENTS = {
    "NUL bytes": lambda data: data.replace(b"1", b"\x00"),
    "only NUL bytes": lambda _: bytes(1000),
    "no UTF-8": lambda data: data.replace(b"1", b"\xff"),
    "overlong UTF-8": lambda data: data.replace(b"1", b"\xc0\xaf"),
    "a lone surrogate": lambda data: data.replace(b"1", b"\xed\xa0\x80"),
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "two byte order marks": lambda data: b"\xef\xbb\xbf" * 2 + data,
    "UTF-16": lambda data: data.decode().encode("utf-16"),
    "UTF-32": lambda data: data.decode().encode("utf-32"),
    "CR line ends": lambda data: data.replace(b"\n", b"\r"),
    "mixed line ends": lambda data: data.replace(b"\n", b"\n\r\r\n"),
    "one long line": lambda data: data.replace(b"\n", b" ") * 10_000,
    "a long cell": lambda data: data.replace(b"1", b"1" * LONG, 1),
    "many columns": lambda data: b"\t".join([b"x"] * 100_000) + b"\n" + data,
    "many commas": lambda data: data + b"," * LONG,
    "many quotes": lambda data: data + b'"' * LONG,
    "an open quote": lambda data: data + b'"' + data * 1_000,
    "many colons": lambda data: b":" * LONG + data,
    "blank lines": lambda data: b"\n" * LONG + data,
    "lines of one character": lambda data: data + b"1\n" * 100_000,
    "huge integers": lambda data: data.replace(b"1", b"9" * 40),
    "negative integers": lambda data: data.replace(b"1", b"-1"),
    "integers without end": lambda data: data.replace(b"1", b"1" * 5_000),
    "not a number": lambda data: data.replace(b"1", b"nan"),
    "infinity": lambda data: data.replace(b"1", b"-inf"),
    "a huge exponent": lambda data: data.replace(b"1", b"1e999999999"),
    "escape sequences": lambda data: data.replace(b"1", b"\x1b[31m\x9b\x07"),
    "marks of direction": lambda data: data.replace(b"1", "\u202e".encode()),
    "the first line twice": lambda data: data.partition(b"\n")[0] + b"\n" + data,
    "nothing": lambda _: b"",
    "one byte": lambda _: b"x",
    "gzip": lambda _: b"\x1f\x8b\x08" + bytes(100),
    "zlib": lambda _: b"x\x9c" + bytes(100),
    "a zip file": lambda _: b"PK\x03\x04" + bytes(range(128, 250)),
    "random bytes": lambda _: random.Random(0).randbytes(10_000),
}


def read_all(folder: Path) -> str:
    """Reads, prepares and describes a folder; returns the error, or nothing."""
    try:
        describe(prepare(recognise(folder).read(folder), "x", place=str(folder)))
    except (DataError, ConfigError) as error:
        return str(error)
    return ""


def check(message: str, folder: Path) -> None:
    """A message is one short line that names a file or the folder."""
    assert len(message) < 600, message[:1000]
    assert "\n" not in message, message
    assert printable(message) == message
    assert message == "" or str(folder) in message, message


def every_file(name: str, content: str, folder: Path) -> None:
    files = FORMATS[name]
    for file in files:
        place = write(folder / name / file, files)
        (place / file).write_bytes(CONTENTS[content](files[file].encode()))
        check(read_all(place), folder)


@pytest.mark.parametrize("content", CONTENTS)
def test_any_content_is_read_or_refused_in_one_line(content, tmp_path):
    """Of one format each; the slow test below takes all."""
    name = sorted(FORMATS)[list(CONTENTS).index(content) % len(FORMATS)]
    every_file(name, content, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("content", CONTENTS)
def test_any_content_of_every_format_is_read_or_refused(content, tmp_path):
    for name in FORMATS:
        every_file(name, content, tmp_path)


# ------------------------------------------------------------------ what is no file


def no_file(path: Path, kind: str) -> None:
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as server:
            os.chdir(path.parent)  # the path of a socket is short
            server.bind(path.name)
    elif kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to(
            {"a loop": path.name, "a dead link": "nowhere", "a device": "/dev/zero"}[kind]
        )


KINDS = ("a pipe", "a socket", "a folder", "a loop", "a dead link", "a device")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FORMATS)
def test_what_is_no_file_is_named_and_not_read(name, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, file in enumerate(FORMATS[name]):
        folder = write(tmp_path / str(number), FORMATS[name])
        (folder / file).unlink()
        no_file(folder / file, kind)
        message = read_all(folder)
        check(message, tmp_path)
        assert f"{folder / file}: found a folder, a dead link or a device, expected" in message


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_a_table_that_is_no_file(suffix, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"table{suffix}"
    no_file(path, kind)
    for read in (UserTable, read_parquet, read_lines):
        with pytest.raises(DataError, match="expected") as caught:
            read(path)
        check(str(caught.value), tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_may_not_be_read_is_named(name, tmp_path):
    for file in FORMATS[name]:
        folder = write(tmp_path / file, FORMATS[name])
        (folder / file).chmod(0)
        assert "Permission denied; expected a readable file" in read_all(folder)


@pytest.mark.parametrize("stem", ["a*", "[x]", "a b", "ü", "-rf", "~"])
def test_a_name_with_pattern_characters_is_read(stem, tmp_path):
    files = {f"{stem}{Path(name).suffix}": text for name, text in RECBOLE.items()}
    assert read_all(write(tmp_path / stem, files)) == ""


@pytest.mark.parametrize("stem", ["a\nb", "a\x1b[31m", "\u202e"])
def test_a_name_with_control_characters_is_refused(stem, tmp_path):
    files = {f"{stem}{Path(name).suffix}": text for name, text in RECBOLE.items()}
    message = read_all(write(tmp_path, files))
    check(message, tmp_path)
    assert "expected a plain name" in message
