"""What a run says of itself while it goes on, in its folder: ``status.json``, and a lock.

Whoever watches a run reads these files alone, from the same machine or over a shared disk.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kgrec.errors import ConfigError
from kgrec.files import write_json
from kgrec.runs.folder import RunFolder

log = logging.getLogger(__name__)


@contextlib.contextmanager
def at_work(
    folder: Path, wait: bool = False, explain: Callable[[Exception], str] = str
) -> Iterator[None]:
    """Holds the run folder for this process, and writes how the work in it ends.

    The lock is the operating system's: it goes with its process, however that ends.

    Args:
        folder: the run folder.
        wait: for another process that is at work there.
        explain: an error, in words for people.

    Raises:
        ConfigError: another process is, and is not waited for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(RunFolder(folder).lock_file)
    try:
        lock.acquire(timeout=2)  # whoever only looks holds it for a moment
    except Timeout as error:
        if not wait:
            raise ConfigError(
                f"hydra.run.dir: found another process at work in {folder}, expected a folder "
                "for this run alone"
            ) from error
        log.info("another process is at work in %s; waiting for it", folder)
        lock.acquire()
    told = read_status(folder)
    before = float(told.get("seconds", 0.0))  # of earlier sittings
    begin = time.perf_counter()

    def seconds() -> float:
        return round(before + time.perf_counter() - begin, 3)

    process = {"host": platform.node(), "pid": os.getpid()}
    update(folder, state="running", error=None, process=process, before=before)
    try:
        yield
    except BaseException as error:
        # Ctrl-C, and what Lightning makes of it, is no failure: the run can go on.
        if isinstance(error, Exception):
            words = explain(error).strip() or type(error).__name__
            update(folder, state="failed", error=words, seconds=seconds())
        else:
            update(folder, state="interrupted", error=None, seconds=seconds())
        raise
    else:
        update(folder, state="finished", error=None, seconds=seconds())
    finally:
        lock.release()


def update(folder: Path, **facts: Any) -> None:
    """Sets facts in status.json; what was told before and is not set anew stays."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(RunFolder(folder).status_file, read_status(folder) | facts | {"updated": now})


def read_status(folder: Path) -> dict[str, Any]:
    """What status.json says; nothing where there is none yet."""
    try:
        found: dict[str, Any] = json.loads(
            RunFolder(folder).status_file.read_text(encoding="utf-8")
        )
    except (OSError, ValueError):
        return {}
    return found


def held(folder: Path) -> bool:
    """Whether a process is at work in a run folder.

    To look is to take the lock for a moment, so two that look at once see each other.
    """
    path = RunFolder(folder).lock_file
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except (OSError, NotImplementedError):  # another user's folder, a disk without locks
        return True
    lock.release()
    return False
