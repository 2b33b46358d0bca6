"""State and lock of a run folder.

``status.json`` has the state of the work, and a lock says whether a process is at work. Programs
that watch a run read these two files, on the same machine or over a shared disk.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kgrec.disk_errors import behind
from kgrec.errors import ConfigError, DataError, DiskError, DivergedError
from kgrec.files import as_json, make_folder, overwrite, remove_all_leftovers, write_json
from kgrec.interrupts import interrupted, on_interrupt
from kgrec.runs import log_file
from kgrec.runs.folder import RunFolder
from kgrec.runs.reading import read_json
from kgrec.runs.schema import STATUS

log = logging.getLogger(__name__)

LONGEST_ERROR = 2_000  # characters; status.json with a text of any length is not read
DIVERGED = "diverged"  # a loss, a parameter or a score was no longer finite


class Pruned(Exception):  # noqa: N818 - a pruned trial is not an error
    """The training was stopped early, because other trials of the search are better."""


@contextlib.contextmanager
def at_work(
    folder: Path,
    wait: bool = False,
    explain: Callable[[BaseException], str] = str,
    check: Callable[[], object] = lambda: None,
) -> Iterator[None]:
    """Locks the run folder for this process, and writes how the work in it ends.

    The operating system holds the lock. It releases the lock when the process ends for any reason.

    Args:
        folder: run folder.
        wait: whether to wait for another process that is at work in the folder.
        explain: function from an error to its message for people.
        check: function that is called when the process has the folder, before anything is
            written; if it raises an error, the folder stays as it is.

    Raises:
        ConfigError: another process is at work in the folder, and ``wait`` is false.
    """
    make_folder(folder)
    lock = FileLock(RunFolder(folder).lock_file)
    try:
        lock.acquire(timeout=2)  # a program that only looks holds the lock for a moment
    except Timeout as timeout:
        if not wait:
            raise ConfigError(
                f"hydra.run.dir: found another process at work in {folder}, expected a folder "
                "for this run alone"
            ) from timeout
        log.info("another process is at work in %s; waiting for it", folder)
        lock.acquire()
    except NotImplementedError as missing:
        raise ConfigError(
            f"hydra.run.dir: found a disk without locks at {folder}, expected one with them: a "
            "second run in this folder could not be told from this one"
        ) from missing
    try:
        check()
    except BaseException:
        lock.release()
        raise
    remove_all_leftovers(folder)
    before = float(read_status(folder).get("seconds", 0.0))  # of processes before this one
    begin = time.perf_counter()

    def seconds() -> float:
        return round(before + time.perf_counter() - begin, 3)

    log_file.let_through()

    def ended(state: str, error: str | None = None) -> None:
        # An error is on its way, and must not be replaced by that of a disk or a lost folder.
        with contextlib.suppress(OSError, DiskError):
            update(folder, state=state, error=error, seconds=seconds())

    try:
        process = {"host": platform.node(), "pid": os.getpid()}
        update(folder, state="running", error=None, process=process, before=before)
        with on_interrupt(lambda: ended("interrupted")):
            yield
    except BaseException as raised:
        cause = behind(raised, folder) or raised
        # An interrupted run can resume, so it has not failed.
        if isinstance(cause, Pruned):
            ended("pruned")
        elif isinstance(cause, SystemExit | GeneratorExit):
            ended("interrupted")
        elif not interrupted(cause):
            message = (explain(cause).strip() or type(cause).__name__)[:LONGEST_ERROR]
            ended(DIVERGED if isinstance(cause, DivergedError) else "failed", message)
        if cause is not raised:
            raise cause from raised
        raise
    else:
        update(folder, state="finished", error=None, seconds=seconds())
    finally:
        lock.release()


def update(folder: Path, **facts: Any) -> None:
    """Sets facts in status.json; facts that are not given stay as they are.

    Only a new state waits for the disk: progress is written often, and may be lost with the
    machine. How a run ended is also written on a full disk, over the old file.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    path, content = RunFolder(folder).status_file, read_status(folder) | facts | {"updated": now}
    try:
        write_json(path, content, sync="state" in facts)
    except DiskError:
        if facts.get("state", "running") == "running":
            raise
        overwrite(path, as_json(content).encode())


def read_status(folder: Path) -> dict[str, Any]:
    """Facts of status.json; empty if there is no readable file."""
    try:
        return dict(read_json(RunFolder(folder).status_file, STATUS))
    except DataError:
        return {}


def held(folder: Path) -> bool:
    """Whether a process is at work in a run folder.

    The function takes the lock for a moment, so two programs that look at the same time may see
    each other.
    """
    path = RunFolder(folder).lock_file
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except (OSError, NotImplementedError):  # another user's folder, or a disk without locks
        return True
    lock.release()
    return False
