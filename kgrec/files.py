"""Paths that users name, and files that are written whole or not at all.

A file is written under a hidden name in its own folder, flushed to the disk, and renamed. So its
name has the old content or the new one, also after a kill, a crash of the machine or a full disk.
A rename between file systems would be a copy, so the temporary file never lies elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgrec.errors import DiskError

if TYPE_CHECKING:
    import polars as pl

_LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?P<host>[^.]+)-(?P<pid>[0-9]+)\.incoming", re.DOTALL)
_HOST = re.sub("[^A-Za-z0-9_-]", "_", platform.node())[:40]


def user_path(text: str) -> Path:
    """A path that the user named, with ``~`` expanded.

    A relative path starts from the folder in which the command was typed, also where Hydra has
    changed the working directory (``hydra.job.chdir=true``).
    """
    from hydra.core.hydra_config import HydraConfig

    path = Path(text).expanduser()
    if HydraConfig.initialized() and HydraConfig.get().job.chdir:
        path = Path(HydraConfig.get().runtime.cwd) / path
    return path


def expand_home(word: str) -> str:
    """A word of the command line; ``~`` in ``key=~/folder``, which Hydra cannot read, expanded."""
    return re.sub(r"(?<=[=,])~(?=[/,]|$)", str(Path.home()), word)


def quoted(text: str) -> str:
    """Text, such as a path, as a quoted value of Hydra's grammar."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


# ------------------------------------------------------------------ whole or not at all


@contextlib.contextmanager
def atomic_file(path: Path, size: int | None = None, sync: bool = True) -> Iterator[Path]:
    """A temporary path, whose file replaces ``path`` when the block ends without an exception.

    Any exception, also Ctrl-C, removes the temporary file and leaves ``path`` as it was.

    Args:
        path: final path; its folder exists. A device such as /dev/stdout is written directly.
        size: bytes of the content, for the message of a full disk; None: unknown.
        sync: whether the content reaches the disk before the rename. Without it a crash of the
            machine, but not of the process, may leave an empty file.

    Raises:
        DiskError: the file cannot be written.
    """
    if path.exists() and not path.is_file():
        if path.is_dir():
            raise DiskError(f"{path}: found a folder, expected a file")
        yield path
        return
    remove_leftovers(path)
    temporary = temporary_path(path)
    try:
        yield temporary
        if sync:
            _sync(temporary)
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if (reported := disk_error(path, error, size)) is not None:
            raise reported from error
        raise
    if sync:
        _sync(path.parent)


def temporary_path(path: Path) -> Path:
    """The name under which this process writes a file or folder before it renames it."""
    return path.with_name(f".{path.name}.{_HOST}-{os.getpid()}.incoming")


def remove_leftovers(path: Path) -> None:
    """Removes temporary files and folders of ``path`` whose processes on this machine have died."""
    with contextlib.suppress(OSError):
        for leftover in path.parent.glob(".*.incoming"):
            parts = _LEFTOVER.fullmatch(leftover.name)
            if parts and parts["name"] == path.name and _is_dead(parts["host"], int(parts["pid"])):
                _remove(leftover)


def remove_all_leftovers(folder: Path) -> None:
    """Removes temporary files in and under a folder that this process has locked."""
    for leftover in folder.rglob(".*.incoming"):
        if _LEFTOVER.fullmatch(leftover.name):
            _remove(leftover)


def _is_dead(host: str, pid: int) -> bool:
    """Whether a process has ended; a process of another machine counts as alive."""
    if host != _HOST or os.name == "nt":  # Windows has no signal 0
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _sync(path: Path) -> None:
    """Waits until the disk has the content of a file, or the names in a folder."""
    if path.is_dir():
        if os.name == "nt":  # Windows cannot open folders
            return
        descriptor = os.open(path, os.O_RDONLY)
    else:
        descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks cannot
            raise
    finally:
        os.close(descriptor)


def disk_error(path: Path, error: BaseException, size: int | None = None) -> DiskError | None:
    """What keeps a file from being written, in one line; None: the error is not of the disk.

    Polars and safetensors have errors of their own for a full disk, which name the number of the
    operating system's error in their text.

    Args:
        path: path that is written.
        error: error of Python, polars or safetensors.
        size: bytes of the content, or None.
    """
    if isinstance(error, DiskError):
        return error
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (named := re.search(r"\(os error ([0-9]+)\)", str(error))):
        number = int(named[1])
    if number is None:
        return None
    return DiskError(_in_words(path, number, size))


def _in_words(path: Path, number: int, size: int | None) -> str:
    """Found and expected, for the number of the operating system's error."""
    reason = os.strerror(number)
    if number in (errno.ENOSPC, errno.EDQUOT):
        free = "no room"
        with contextlib.suppress(OSError):
            free = f"{shutil.disk_usage(path.parent).free:,} bytes free"
        needed = "more" if size is None else f"{size:,} bytes"
        return f"{path}: found {free} ({reason}), expected {needed}"
    for parent in reversed(path.parents):
        if parent.exists() and not parent.is_dir():
            return f"{parent}: found a file, expected a folder"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path}: found a place that cannot be written ({reason}), expected one that can"
    if number == errno.ENOENT and not path.parent.exists():
        return f"{path}: found no folder {path.parent}, expected one"
    return f"{path}: found a disk that does not take the file ({reason})"


def make_folder(path: Path) -> None:
    """Makes a folder and those above it.

    Raises:
        DiskError: the folder cannot be made, for example because a file is in its place.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if path.exists():
            raise DiskError(f"{path}: found a file, expected a folder") from error
        raise disk_error(path, error) or error from error


def write_bytes(path: Path, content: bytes | memoryview, sync: bool = True) -> None:
    """Writes a file.

    Args:
        path: file; its folder exists.
        content: bytes of the file.
        sync: see :func:`atomic_file`.

    Raises:
        DiskError: the file cannot be written.
    """
    with atomic_file(path, len(content), sync) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str, sync: bool = True) -> None:
    """Writes a text file in UTF-8; see :func:`write_bytes`."""
    write_bytes(path, text.encode(), sync)


def write_json(path: Path, content: Any, sync: bool = True) -> None:
    """Writes a JSON file; NaN is refused."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(path, text, sync)


def write_parquet(path: Path, table: pl.DataFrame) -> None:
    """Writes a table, and makes its folder."""
    make_folder(path.parent)
    with atomic_file(path) as temporary:
        table.write_parquet(temporary)


def copy_file(source: Path, path: Path) -> None:
    """Copies a file; the copy is whole or not there.

    Raises:
        DiskError: the copy cannot be written.
    """
    with atomic_file(path, source.stat().st_size) as temporary:
        shutil.copyfile(source, temporary)
