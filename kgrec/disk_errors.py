"""Errors of the disk in one line: a full disk, a read-only folder, a file in the way."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from pathlib import Path

from kgrec.errors import DiskError, KgrecError

FULL = (errno.ENOSPC, errno.EDQUOT)
REFUSED = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR,
)  # fmt: skip
_TORCH_WRITER = re.compile(r"unexpected pos \d+ vs \d+|iostream error|PytorchStreamWriter failed")


def disk_error(path: Path, error: BaseException, size: int | None = None) -> DiskError | None:
    """What keeps a file from being written, in one line; None: the error is not of the disk.

    Polars and safetensors have errors of their own, which name the number of the operating system's
    error in their text. The writer of torch loses it; it has none but that of a full disk.

    Args:
        path: path that is written.
        error: error of Python, polars, safetensors or torch.
        size: bytes of the content, or None.
    """
    if isinstance(error, KgrecError):
        return error if isinstance(error, DiskError) else None
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (named := re.search(r"\(os error ([0-9]+)\)", str(error))):
        number = int(named[1])
    if number is None and isinstance(error, RuntimeError) and _TORCH_WRITER.search(str(error)):
        number = errno.ENOSPC
    return None if number is None else DiskError(_in_words(path, number, size))


def behind(error: BaseException | None, folder: Path | None = None) -> DiskError | None:
    """The error of the disk behind an exception; None if there is no such error.

    Args:
        error: exception, also one of a library that raised while it handled such an error.
        folder: folder in which files were written. A full disk may name no path, and other errors
            count where they name a path in it; None: they count with every path.
    """
    while isinstance(error, Exception):  # Ctrl-C is none
        if isinstance(error, KgrecError):
            return error if isinstance(error, DiskError) else None
        if isinstance(error, OSError):
            path = Path(error.filename) if isinstance(error.filename, str) else folder
            inside = path is not None and (folder is None or folder in (path, *path.parents))
            if path is not None and (error.errno in FULL or (inside and error.errno in REFUSED)):
                return disk_error(path, error)
        error = error.__cause__ or error.__context__
    return None


def _in_words(path: Path, number: int, size: int | None) -> str:
    """Found and expected, for the number of the operating system's error."""
    reason = os.strerror(number)
    if number in FULL:
        free = "no room"
        with contextlib.suppress(OSError):
            place = path if path.is_dir() else path.parent
            free = f"{shutil.disk_usage(place).free:,} bytes free"
        needed = "more" if size is None else f"{size:,} bytes"
        return f"{path}: found {free} ({reason}), expected {needed}"
    if number == errno.EISDIR:
        return f"{path}: found a folder, expected a file"
    for place in (*reversed(path.parents), *([path] if number == errno.EEXIST else [])):
        if place.exists() and not place.is_dir():
            return f"{place}: found a file, expected a folder"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path}: found a place that cannot be written ({reason}), expected one that can"
    if number == errno.ENOENT and not path.parent.exists():
        return f"{path}: found no folder {path.parent}, expected one"
    return f"{path}: found a disk that does not take the file ({reason})"
