"""Temporary folders for one process at a time; the next removes what a killed one has left."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from kgrec.errors import DataError


@contextmanager
def emptied(folder: Path) -> Iterator[Path]:
    """A new folder, removed at the end. The caller has a lock, so an earlier one has no owner."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def next_to(target: Path) -> Iterator[Path]:
    """A new folder in which a process writes what shall become ``target``; removed at the end.

    The folder is next to the target, so that the result can be renamed.

    Raises:
        DataError: another process writes the same target, or its folder cannot be written to.
    """
    lock = FileLock(target.parent / f".{target.name}.lock")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise DataError(f"{target}: found another process that writes it, expected none") from None
    except OSError as error:
        raise DataError(f"{target}: {error.strerror or error}, expected a new folder") from None
    try:
        with emptied(target.parent / f".incoming-{target.name}") as folder:
            yield folder
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # the folder is the user's own
        lock.release()
