"""Reader of Parquet files; every error for a damaged file names the file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl

from kgrec.errors import DataError

# Reads the files that its arguments name, and prints one line per file that it could read.
_TRIAL = "import sys, polars\nfor p in sys.argv[1:]: polars.read_parquet(p, glob=False); print(p)"


def read_parquet(path: Path) -> pl.DataFrame:
    """Reads all columns.

    Raises:
        DataError: the file is damaged.
    """
    try:
        return pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise DataError(f"{path}: {error}; expected a whole Parquet file") from None


def parquet_columns(path: Path) -> list[str]:
    """Names of the columns; empty for a damaged file, which :func:`read_parquet` explains."""
    try:
        return list(pl.read_parquet_schema(path))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
        return []


def check_parquet(paths: list[Path]) -> None:
    """Reads Parquet files in another process, because a damaged one can abort the process.

    (A damaged length makes the allocator of Rust give up, which Python cannot catch.)

    Raises:
        DataError: the other process was aborted; the message names the file.
    """
    command = [sys.executable, "-c", _TRIAL, *map(str, paths)]
    trial = subprocess.run(command, capture_output=True, text=True, check=False)
    if trial.returncode < 0 or trial.returncode > 128:
        read = trial.stdout.splitlines()
        broken = next((path for path in paths if str(path) not in read), paths[-1])
        reason = _abort_reason(trial.stderr)
        raise DataError(f"{broken}: {reason}; expected a whole Parquet file")


def _abort_reason(stderr: str) -> str:
    """The line that says why a process was aborted."""
    lines = [line for line in stderr.splitlines() if "failed" in line or "panicked" in line]
    return lines[0] if lines else "reading it aborts the process"
