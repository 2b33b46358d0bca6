"""Program that reads Parquet files on trial, so that a damaged one aborts this process alone.

A damaged length makes the allocator of Rust abort the process, which Python cannot catch. This
program imports nothing of kgrec, so that it starts fast. :mod:`kgrec.data.parquet_files` starts it,
sends a request a line and gets an answer a line, both in JSON.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from typing import Any

import polars as pl

_OWN = 1 << 30  # bytes for threads and buffers of polars
_MOST_COLUMNS = 50_000


def main() -> None:
    """Answers requests until the input ends."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # an abort leaves no core file
    for line in sys.stdin:
        print(json.dumps(answer(**json.loads(line))), flush=True)  # noqa: T201


def answer(path: str, memory: int, seconds: int) -> dict[str, Any]:
    """Reads one file.

    Args:
        path: the file.
        memory: bytes that the table may take.
        seconds: time after which the process is killed.

    Returns:
        ``error``: why polars cannot read the file; or ``rows`` and ``bytes`` of a table that would
        take too much memory; nothing for a table that was read.
    """
    signal.alarm(seconds)
    _limit_memory(memory)
    try:
        scan = pl.scan_parquet(path, glob=False)
        kinds = scan.collect_schema().dtypes()
        if len(kinds) > _MOST_COLUMNS:
            return {"error": f"{len(kinds):,} columns, more than {_MOST_COLUMNS:,}"}
        rows = scan.select(pl.len()).collect().item()
        least = rows * sum(_width(kind) for kind in kinds)
        if least > memory:
            return {"rows": rows, "bytes": least}
        pl.read_parquet(path, glob=False)
        return {}
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        return {"error": str(error)}
    finally:
        signal.alarm(0)


def _width(kind: pl.DataType) -> float:
    """Bytes that a cell takes at least; of a string its place and length."""
    if kind in (pl.String, pl.Binary):
        return 16
    return pl.Series([None] * 64, dtype=kind).estimated_size() / 64


def _limit_memory(memory: int) -> None:
    """Lets allocations fail beyond ``memory``, on Linux; other systems have no such limit."""
    if sys.platform != "linux":
        return
    with open("/proc/self/status", encoding="ascii") as file:
        used = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmData"))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = used + memory + _OWN
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


if __name__ == "__main__":
    main()
