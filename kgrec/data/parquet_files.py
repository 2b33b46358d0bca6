"""Reader of Parquet files; every error for a damaged file names the file.

A file may be a stranger's, so another process reads it first (:mod:`kgrec.data.parquet_trial`): a
damaged one can abort the process that reads it, and few bytes can stand for billions of rows.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import polars as pl

from kgrec.data.dates import check_dates
from kgrec.data.free_memory import free_memory
from kgrec.data.polars_errors import polars_errors
from kgrec.data.text_files import require_file
from kgrec.errors import DataError, printable

WHOLE = "a whole Parquet file"
_TRIAL = Path(__file__).with_name("parquet_trial.py")
_SECONDS, _BYTES_PER_SECOND = 60, 1 << 20  # time of a trial: some, and more for a large file

# Bytes of memory per byte of a file, and for any file. Real tables take 2 to 20 times their size.
MULTIPLE, ALWAYS = 200, 64 << 20


def read_parquet(path: Path, trusted: bool = False) -> pl.DataFrame:
    """Reads all columns.

    Args:
        path: the file.
        trusted: whether the file is known to be whole, so that no trial is needed.

    Raises:
        DataError: the file is damaged, or its table takes more than half of the free memory or,
            beyond 64 MiB, more than 200 times the size of the file.
    """
    require_file(path, WHOLE)
    if not trusted:
        check_parquet(path)
    with polars_errors(path, WHOLE):
        frame = pl.read_parquet(path, glob=False)
        check_dates(path, frame)
        return frame


def parquet_columns(path: Path) -> list[str]:
    """Names of the columns; empty for a damaged file, which :func:`read_parquet` explains."""
    try:
        check_parquet(path)
        with polars_errors(path, WHOLE):
            return pl.scan_parquet(path, glob=False).collect_schema().names()
    except DataError:
        return []


def check_parquet(path: Path) -> None:
    """Reads a file in another process, once.

    Raises:
        DataError: as :func:`read_parquet`.
    """
    require_file(path, WHOLE)
    _TRIALS.read(path)


class _Trials:
    """The process that reads files on trial: begun with the first file, and after an abort anew.

    Files that were read are remembered by size and time, because a table may be opened twice.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[str] | None = None
        self.owner = 0  # a forked process must not use the pipes of its parent
        self.read_before: set[tuple[object, ...]] = set()
        atexit.register(self.close)

    def read(self, path: Path) -> None:
        """Raises DataError where the file cannot be read; returns nothing."""
        about = path.stat()
        file = (path, about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)
        with self.lock:
            if file in self.read_before:
                return
            memory = min(MULTIPLE * about.st_size + ALWAYS, free_memory() // 2)
            seconds = _SECONDS + about.st_size // _BYTES_PER_SECOND
            request = {"path": str(path.absolute()), "memory": memory, "seconds": seconds}
            answer = self._answer(request)
        fits = f"{WHOLE} that takes at most {memory:,} bytes of memory"
        if "rows" in answer:
            raise DataError(
                f"{path}: found {answer['rows']:,} rows in {about.st_size:,} bytes, which take at "
                f"least {answer['bytes']:,.0f} bytes of memory; expected {fits}"
            )
        if "error" in answer:
            reason = " ".join(printable(str(answer["error"])).split())
            raise DataError(f"{path}: {reason}; expected {fits if answer['aborted'] else WHOLE}")
        self.read_before.add(file)

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request; an abort is an ``error``."""
        if self.process is None or self.owner != os.getpid() or self.process.poll() is not None:
            self._start()
        process = self.process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if line:
            return {"aborted": False, **json.loads(line)}
        process.wait()
        self.errors.seek(0)
        reason = _abort_reason(self.errors.read())
        self.close()
        return {"aborted": True, "error": reason}

    def _start(self) -> None:
        self.close()
        self.errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        command = [sys.executable, "-P", str(_TRIAL)]  # -P: a stranger's folder may hold polars.py
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
            encoding="utf-8", start_new_session=True,  # Ctrl-C is for this process
        )  # fmt: skip
        self.owner = os.getpid()

    def close(self) -> None:
        """Ends the process, if it runs."""
        process, self.process = self.process, None
        if process is None or self.owner != os.getpid():
            return
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        process.wait()
        self.errors.close()


_TRIALS = _Trials()


def _abort_reason(stderr: str) -> str:
    """The line that says why a process was aborted."""
    lines = [line for line in stderr.splitlines() if "failed" in line or "panicked" in line]
    return lines[0] if lines else "reading it aborts the process, or takes too long"
