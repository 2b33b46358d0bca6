"""Zip archives of strangers: a file is unpacked whole, or the error is one line."""

from __future__ import annotations

import io
import random
import shutil
import stat
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from kgrec.data.sources import archives, transfer
from kgrec.data.sources.archives import unpack
from kgrec.data.sources.public_files import RawFile
from kgrec.data.sources.transfer import DownloadError
from kgrec.errors import DiskError

CONTENT = b"0\tgenre\t7\n" * 50
KG = RawFile("kg.txt", member="data/kg.txt", max_bytes=10_000)
CENTRAL, LOCAL, END = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"


def zipped(
    name: str = "data/kg.txt",
    content: bytes = CONTENT,
    method: int = zipfile.ZIP_DEFLATED,
    mode: int = 0,
) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.compress_type, info.external_attr = method, mode << 16
        archive.writestr(info, content)
        archive.writestr("data/other.txt", "other")
    return memory.getvalue()


def patched(content: bytes, signature: bytes, offset: int, form: str, value: int) -> bytes:
    """An archive with another number in the first record of this signature."""
    at = content.index(signature) + offset
    new = struct.pack(form, value)
    return content[:at] + new + content[at + len(new) :]


def tried(path: Path, content: bytes, file: RawFile = KG) -> Path:
    """Unpacks a file of an archive."""
    path.write_bytes(content)
    out = path.parent / "out"
    out.mkdir(exist_ok=True)
    (out / file.name).unlink(missing_ok=True)
    unpack(path, [file], out)
    return out / file.name


def test_a_member_is_unpacked(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        target = tried(tmp_path / "a.zip", zipped(method=method, mode=stat.S_IFREG | 0o644))
        assert target.read_bytes() == CONTENT


def twice() -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr("data/kg.txt", CONTENT)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("data/kg.txt", "another")
    return memory.getvalue()


def overlapping() -> bytes:
    """The second member lies inside the stored content of the first."""
    content = zipped(content=CONTENT, method=zipfile.ZIP_STORED)
    second = content.index(CENTRAL, content.index(CENTRAL) + 4)
    return content[: second + 42] + struct.pack("<L", 60) + content[second + 46 :]


PACKED = zipped()
ODD: dict[str, tuple[Callable[[], bytes], str]] = {
    "encrypted": (lambda: patched(PACKED, CENTRAL, 8, "<H", 1), "an encrypted member"),
    "strongly encrypted": (lambda: patched(PACKED, CENTRAL, 8, "<H", 0x41), "an encrypted member"),
    "bzip2": (lambda: zipped(method=zipfile.ZIP_BZIP2), "compression method 12, expected 0"),
    "lzma": (lambda: zipped(method=zipfile.ZIP_LZMA), "compression method 14, expected 0"),
    "deflate64": (lambda: patched(PACKED, CENTRAL, 10, "<H", 9), "compression method 9"),
    "unknown method": (lambda: patched(PACKED, CENTRAL, 10, "<H", 777), "compression method 777"),
    "future version": (lambda: patched(PACKED, CENTRAL, 6, "<H", 99), "zip file version 9.9"),
    "link": (lambda: zipped(mode=stat.S_IFLNK | 0o777), "a folder, link or device"),
    "device": (lambda: zipped(mode=stat.S_IFBLK | 0o777), "a folder, link or device"),
    "twice": (twice, "found 2 members of this name, expected one"),
    "absent": (lambda: zipped(name="data/KG.txt"), "found 0 members of this name, expected one"),
    "overlapping": (overlapping, "overlaps another"),
    "wrong checksum": (lambda: patched(PACKED, CENTRAL, 16, "<L", 7), "Bad CRC-32"),
    "too large": (lambda: zipped(content=bytes(20_000)), "found 20,000 bytes or more, expected at"),
    "smaller than said": (lambda: patched(PACKED, CENTRAL, 24, "<L", 9_999), "found 500 bytes"),
    "larger than said": (lambda: patched(PACKED, CENTRAL, 24, "<L", 9), "Bad CRC-32"),
    "another name inside": (lambda: PACKED.replace(b"data/kg", b"data/xx", 1), "differ"),
    "cut": (lambda: PACKED[:-30], "not a zip file"),
    "no zip": (lambda: b"<html>", "not a zip file"),
    "empty": (lambda: b"", "not a zip file"),
    "directory elsewhere": (lambda: patched(PACKED, END, 16, "<L", 2**32 - 2), "expected a whole"),
    "directory too large": (lambda: patched(PACKED, END, 12, "<L", 2**31), "expected a whole"),
    "member elsewhere": (lambda: patched(PACKED, CENTRAL, 42, "<L", 2**31), "expected a whole"),
    "zip64 without its field": (
        lambda: patched(PACKED, CENTRAL, 24, "<L", 2**32 - 1), "expected a whole|bytes or more",
    ),
    "content of nobody": (lambda: PACKED[:45] + b"?" * 9 + PACKED[54:], "invalid|CRC|decompress"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_archive_is_one_line(kind: str, tmp_path: Path) -> None:
    make, message = ODD[kind]
    path = tmp_path / "a.zip"
    with pytest.raises(DownloadError, match=message) as caught:
        tried(path, make())
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["data/", "../../kg.txt", "/etc/kg.txt", "..\\kg.txt", "C:kg.txt"])
def test_names_of_members_never_become_paths(name: str, tmp_path: Path) -> None:
    file = RawFile("kg.txt", member=name, max_bytes=10_000)
    content = zipped(name=name, content=b"" if name == "data/" else CONTENT)
    path = tmp_path / "in" / "a.zip"
    path.parent.mkdir()
    if name == "data/":
        with pytest.raises(DownloadError, match="a folder, link or device, expected a file"):
            tried(path, content, file)
    else:
        assert tried(path, content, file).read_bytes() == CONTENT
    files = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert files in (["in/a.zip"], ["in/a.zip", "in/out/kg.txt"])


def bomb(size: int) -> bytes:
    """An archive whose member is ``size`` zeros, made without holding them."""
    packer, blocks = zlib.compressobj(9, zlib.DEFLATED, -15), []
    checksum, zeros = 0, bytes(1 << 20)
    for _ in range(size >> 20):
        blocks.append(packer.compress(zeros))
        checksum = zlib.crc32(zeros, checksum)
    packed = b"".join([*blocks, packer.flush()])
    numbers = struct.pack("<LLL", checksum, len(packed), size)
    name = b"data/kg.txt"
    local = LOCAL + struct.pack("<HHHHH", 20, 0, 8, 0, 33) + numbers
    local += struct.pack("<HH", len(name), 0) + name
    central = CENTRAL + struct.pack("<HHHHHH", 20, 20, 0, 8, 0, 33) + numbers
    central += struct.pack("<HHHHHLL", len(name), 0, 0, 0, 0, 0, 0) + name
    end = struct.pack("<HHHHLLH", 0, 0, 1, 1, len(central), len(local) + len(packed), 0)
    return local + packed + central + END + end


def test_a_bomb_writes_nothing(tmp_path: Path) -> None:
    """64 MiB from 64 KB; of a file whose size the data set bounds, and of one without a bound."""
    content = bomb(1 << 26)
    assert len(content) < 1 << 17
    for file, message in (
        (KG, "found 67,108,864 bytes or more, expected at most 10,000"),
        (RawFile("kg.txt", member="data/kg.txt"), "expected at most 100 times as many"),
    ):
        with pytest.raises(DownloadError, match=message):
            tried(tmp_path / "a.zip", content, file)
        assert list((tmp_path / "out").iterdir()) == []


def test_a_bomb_that_lies_about_its_size_writes_no_more_than_it_says(tmp_path: Path) -> None:
    content = patched(bomb(1 << 26), CENTRAL, 24, "<L", 9_000)
    tracemalloc.start()
    with pytest.raises(DownloadError, match="Bad CRC-32"):
        tried(tmp_path / "a.zip", content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "out" / "kg.txt").stat().st_size <= 9_000  # the download removes the folder
    assert peak < 1 << 21


def test_an_archive_that_does_not_fit_on_the_disk_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DiskError, match=r"kg\.txt: found 100 bytes free, expected 500 bytes"):
        tried(tmp_path / "a.zip", PACKED)
    assert list((tmp_path / "out").iterdir()) == []


def attempts(path: Path, number: int, seed: int) -> dict[str, int]:
    """Unpacks damaged copies of archives; counts what was unpacked and what was refused."""
    random.seed(seed)
    whole = [PACKED, zipped(method=zipfile.ZIP_STORED), zipped(mode=stat.S_IFREG), bomb(1 << 20)]
    counts = {"unpacked": 0, "refused": 0}  # an error of several lines has no place here
    for _ in range(number):
        content = bytearray(random.choice(whole))
        for _ in range(random.choice((1, 1, 2, 8))):
            at = random.choice((random.randrange(len(content)), -random.randrange(1, 200)))
            content[at] = random.choice((0, 1, 255, 128, random.randrange(256)))
        if random.random() < 0.1:
            del content[random.randrange(len(content)) :]
        try:
            target = tried(path, bytes(content))
        except DownloadError as error:
            counts["refused" if "\n" not in str(error) else "of several lines"] += 1
        else:
            assert target.stat().st_size <= KG.max_bytes
            counts["unpacked"] += 1
    return counts


def test_damaged_archives_are_unpacked_or_one_line(tmp_path: Path) -> None:
    counts = attempts(tmp_path / "a.zip", 400, seed=0)
    assert min(counts.values()) > 20


@pytest.mark.slow
def test_many_damaged_archives_are_unpacked_or_one_line(tmp_path: Path) -> None:
    assert sum(attempts(tmp_path / "a.zip", 10_000, seed=1).values()) == 10_000


def test_methods_are_those_that_need_little_memory() -> None:
    assert archives.METHODS == (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
