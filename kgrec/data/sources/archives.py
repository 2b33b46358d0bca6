"""Files out of a zip archive: bounded in size, and whole or not at all.

Names in an archive never become paths: a member is looked up by its name and written to the name
that the data set gives it. Sizes are those of the archive's directory until content is read; the
content may not exceed them.
"""

from __future__ import annotations

import errno
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path

from kgrec.data.sources.public_files import RawFile
from kgrec.data.sources.transfer import DownloadError, check_room, check_size, short
from kgrec.errors import KgrecError
from kgrec.files import inside

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Compression methods that are read; a stream of LZMA may ask for 4 GiB of memory."""

MOST_TIMES = 100
"""How many times its packed size a member of more than ``FREE_BYTES`` may have. Tables of numbers
and ids shrink to a fifth or a tenth; a zip bomb to a thousandth."""

FREE_BYTES = 1 << 24

_CHUNK = 1 << 16
_ENCRYPTED = 0x1 | 0x40 | 0x2000


def unpack(path: Path, files: Sequence[RawFile], folder: Path) -> None:
    """Writes the members that files name. An optional file may be missing from the archive.

    Args:
        path: zip archive.
        files: files; those without a member are skipped.
        folder: folder of the new files.

    Raises:
        DownloadError: the archive is damaged, lacks a member, or has a member that is larger than
            its file may be, encrypted, compressed in an odd way, not a file, or not unique.
        OSError: the archive cannot be read, or a file cannot be written.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            for file in files:
                if (member := _member(path, file, members)) is not None:
                    _write(archive, member, file, inside(folder, file.name, str(path)))
    except KgrecError:
        raise
    except Exception as error:  # of many kinds, from zipfile and zlib on damaged content
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # of a place in no file
            raise
        reason = short(str(error)) or type(error).__name__
        raise DownloadError(f"{path}: {reason}; expected a whole zip archive") from None


def _member(
    path: Path, file: RawFile, members: Sequence[zipfile.ZipInfo]
) -> zipfile.ZipInfo | None:
    """The member of a file, with all that its directory entry says checked."""
    if file.member is None:
        return None
    place = f"{path}: {file.member}"
    matching = [member for member in members if member.filename == file.member]
    if not matching and file.optional:
        return None
    if len(matching) != 1:
        raise DownloadError(f"{place}: found {len(matching)} members of this name, expected one")
    member = matching[0]
    kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where the archive was made without Unix
    if member.is_dir() or kind not in (0, stat.S_IFREG):
        raise DownloadError(f"{place}: found a folder, link or device, expected a file")
    if member.flag_bits & _ENCRYPTED:
        raise DownloadError(f"{place}: found an encrypted member, expected a plain one")
    if member.compress_type not in METHODS:
        raise DownloadError(
            f"{place}: found compression method {member.compress_type}, expected 0 (stored) or 8 "
            "(deflate)"
        )
    begin, end = member.header_offset, member.header_offset + member.compress_size
    if any(begin <= other.header_offset < end for other in members if other is not member):
        raise DownloadError(f"{place}: found a member that overlaps another, expected none")
    check_size(place, member.file_size, file.max_bytes)
    if member.file_size > max(FREE_BYTES, MOST_TIMES * member.compress_size):
        raise DownloadError(
            f"{place}: found {member.file_size:,} bytes packed into {member.compress_size:,}, "
            f"expected at most {MOST_TIMES} times as many"
        )
    return member


def _write(archive: zipfile.ZipFile, member: zipfile.ZipInfo, file: RawFile, target: Path) -> None:
    check_room(target, member.file_size)
    written = 0
    with archive.open(member) as packed, target.open("wb") as out:
        while chunk := packed.read(_CHUNK):
            written += len(chunk)
            check_size(member.filename, written, file.max_bytes)
            out.write(chunk)
    if written != member.file_size:
        raise zipfile.BadZipFile(
            f"{member.filename}: found {written:,} bytes, expected {member.file_size:,}"
        )
