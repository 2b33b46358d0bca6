"""Files and folders that are written whole or not at all.

A file is written under a hidden name in its own folder, flushed to the disk, and renamed. So its
name has the old content or the new one, also after a kill, a crash of the machine or a full disk.
A rename between file systems would be a copy, so the temporary file never lies elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgrec.disk_errors import disk_error
from kgrec.errors import LONGEST_NAME, DataError, DiskError, shortened

if TYPE_CHECKING:
    import polars as pl

_LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?P<host>[^.]+)-(?P<pid>[0-9]+)\.incoming", re.DOTALL)
_BEFORE = "before"  # the folder that is replaced, until the new one is in its place


def _host() -> str:
    """A name of this machine, or container: two of the same name count as two.

    Containers may have the name of their machine, and each one counts its processes from 1.
    """
    facts = [platform.node()]
    with contextlib.suppress(OSError):
        facts.append(Path("/etc/machine-id").read_text(encoding="utf-8"))
    with contextlib.suppress(OSError, AttributeError):
        facts.append(os.readlink("/proc/self/ns/pid"))
    digest = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]
    return re.sub("[^A-Za-z0-9_-]", "_", platform.node())[:31] + f"-{digest}"


_HOST = _host()


# ------------------------------------------------------------------ paths of users


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


def inside(folder: Path, name: str, key: str) -> Path:
    """The path of a file or folder in ``folder``, whose name comes from data or a configuration.

    Args:
        folder: folder that the path must not leave.
        name: name of the file or folder.
        key: key or file that the name comes from, for the message.

    Raises:
        DataError: the name has a separator or a control character, or means a folder itself.
    """
    if name.strip() in ("", ".", "..") or "/" in name or "\\" in name or min(name) < " ":
        shown = shortened(name, LONGEST_NAME)
        raise DataError(f"{key}: found {shown!r}, expected a name, without folders")
    return folder / name


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
    if path.is_dir():
        raise DiskError(f"{path}: found a folder, expected a file")
    if path.exists() and not path.is_file():
        yield path
        return
    with _temporary(path, size) as temporary:
        yield temporary
        put_in_place(temporary, path, sync)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder of the same name, which takes the place of ``path`` at the end.

    Any exception, also Ctrl-C, removes the temporary folder and leaves ``path`` as it was. A folder
    that exists is replaced, but an empty one is kept and filled: it may be a mount, a link or the
    current folder.

    Raises:
        DiskError: the folder or a file in it cannot be written.
    """
    path = path.absolute()
    if not (path.is_dir() and not any(path.iterdir())):
        with replacement(path) as incoming:
            incoming.mkdir()
            yield incoming
        return
    with scratch_folder(path / path.name) as scratch:
        incoming = scratch / path.name
        incoming.mkdir()
        yield incoming
        _sync_all(incoming)
        for file in incoming.iterdir():
            file.rename(path / file.name)
    _sync(path)


@contextlib.contextmanager
def replacement(path: Path) -> Iterator[Path]:
    """A temporary path, whose file or folder takes the place of the file or folder ``path``.

    One of the two may be a file and the other a folder, which no rename can replace. What was there
    is first moved into the temporary folder. A kill before the second rename leaves it there, and
    :func:`remove_leftovers` brings it back.

    Raises:
        DiskError: the file or folder cannot be written.
    """
    path = path.absolute()
    make_folder(path.parent)
    with scratch_folder(path) as scratch:
        incoming, before = scratch / path.name, scratch / _BEFORE
        yield incoming
        _sync_all(incoming)
        try:
            if path.exists():
                path.rename(before)
            incoming.rename(path)
        except BaseException:  # Ctrl-C too: the temporary folder is removed next
            if before.exists() and not path.exists():
                before.rename(path)
            raise
    _sync(path.parent)


@contextlib.contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """A new folder in the folder of ``path``, for files from which ``path`` is made.

    Raises:
        DiskError: a file cannot be written.
    """
    with _temporary(path) as folder:
        folder.mkdir()
        yield folder
        _remove(folder)


@contextlib.contextmanager
def _temporary(path: Path, size: int | None = None) -> Iterator[Path]:
    """A temporary path that is removed after an exception; errors of the disk are one line."""
    remove_leftovers(path)
    temporary = temporary_path(path)
    try:
        yield temporary
    except BaseException as error:
        _remove(temporary)  # before the free bytes are counted
        if (reported := disk_error(path, error, size)) is not None:
            raise reported from error
        raise


def put_in_place(temporary: Path, path: Path, sync: bool = True) -> None:
    """Renames a finished file of the same folder or disk; see :func:`atomic_file`."""
    if sync:
        _sync(temporary)
    temporary.replace(path)
    if sync:
        _sync(path.parent)


def _sync(path: Path) -> None:
    """Waits until the disk has the content of a file, or the names in a folder."""
    folder = path.is_dir()
    if folder and os.name == "nt":  # Windows cannot open folders
        return
    descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks cannot
            raise
    finally:
        os.close(descriptor)


def _sync_all(path: Path) -> None:
    """Waits until the disk has a file, or a folder and everything in it."""
    if path.is_dir():
        for file in path.rglob("*"):
            _sync(file)
    _sync(path)


def make_folder(path: Path) -> None:
    """Makes a folder and those above it.

    Raises:
        DiskError: the folder cannot be made, for example because a file is in its place.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(path, error) or error from error


# ------------------------------------------------------------------ leftovers


def temporary_path(path: Path) -> Path:
    """The name under which this process writes a file or folder before it renames it."""
    return path.with_name(f".{path.name}.{_HOST}-{os.getpid()}.incoming")


def remove_leftovers(path: Path) -> None:
    """Removes temporary files and folders of ``path`` whose processes on this machine have died."""
    with contextlib.suppress(OSError):
        for leftover in path.parent.glob(".*.incoming"):
            parts = _LEFTOVER.fullmatch(leftover.name)
            if parts and parts["name"] == path.name and _is_dead(parts["host"], int(parts["pid"])):
                _undo(leftover, path)


def remove_all_leftovers(folder: Path) -> None:
    """Removes all temporary files in and under a folder that this process has locked."""
    for leftover in list(folder.rglob(".*.incoming")):
        if parts := _LEFTOVER.fullmatch(leftover.name):
            with contextlib.suppress(OSError):
                _undo(leftover, leftover.with_name(parts["name"]))


def _undo(leftover: Path, path: Path) -> None:
    """Removes a temporary file or folder, and first brings back what it was about to replace."""
    if (before := leftover / _BEFORE).exists() and not path.exists():
        before.rename(path)  # killed between the two renames
    _remove(leftover)


def is_empty(folder: Path) -> bool:
    """Whether a folder has no files; leftovers of killed processes do not count."""
    remove_leftovers(folder.absolute() / folder.absolute().name)
    return not any(folder.iterdir())


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
            path.unlink(missing_ok=True)


# ------------------------------------------------------------------ files


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


def overwrite(path: Path, content: bytes) -> None:
    """Writes over a small file in its own blocks, which it has also on a full disk.

    A kill may leave a part, so only a file that can be made anew is written so.
    """
    with contextlib.suppress(OSError), path.open("r+b") as file:
        file.write(content)
        file.truncate()


def write_text(path: Path, text: str, sync: bool = True) -> None:
    """Writes a text file in UTF-8; see :func:`write_bytes`."""
    write_bytes(path, text.encode(), sync)


def write_json(path: Path, content: Any, sync: bool = True) -> None:
    """Writes a JSON file; NaN is refused."""
    write_text(path, as_json(content), sync)


def as_json(content: Any) -> str:
    """The text of a JSON file; NaN is refused."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_parquet(path: Path, table: pl.DataFrame) -> None:
    """Writes a table as Parquet, and makes its folder."""
    make_folder(path.parent)
    with atomic_file(path) as temporary:
        table.write_parquet(temporary)


def write_csv(path: Path, table: pl.DataFrame) -> None:
    """Writes a table as CSV with a header."""
    with atomic_file(path) as temporary:
        table.write_csv(temporary)


def copy_file(source: Path, path: Path) -> None:
    """Copies a file; the copy is whole or not there.

    Raises:
        DiskError: the copy cannot be written.
    """
    with atomic_file(path, source.stat().st_size) as temporary:
        shutil.copyfile(source, temporary)
