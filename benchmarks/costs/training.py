"""Whole runs of ``train.py``: their metrics, the memory of each process, and their errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

ROOT = Path(__file__).parents[2]
GB = 1e9
PAUSE = 0.05  # seconds between two looks at the memory


def train(
    overrides: Sequence[str], folder: Path, limit: float | None = None, keep_memory: bool = False
) -> dict[str, Any]:
    """Runs ``train.py`` and looks at the memory of its processes until it ends.

    Args:
        overrides: settings of the run.
        folder: run folder.
        limit: bytes of private memory that each process may have (RLIMIT_DATA, as ``ulimit -d``).
        keep_memory: whether the C library keeps the memory of a step (``costs.processes``).

    Returns:
        ``metrics`` of the run, empty if it failed; ``error``, its last line then; ``seconds``;
        ``peaks``, most private memory of each process in GB; ``limited``, most of what the limit
        counts; ``load``, processes of others that
        wanted a core, on average, when it began.
    """
    from costs.processes import KEEP_MEMORY

    words = [] if limit is None else ["sh", "-c", f'ulimit -d {limit // 1024:.0f}; exec "$@"', "sh"]
    words += [sys.executable, str(ROOT / "train.py"), *overrides, f"hydra.run.dir={folder}"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    env |= KEEP_MEMORY if keep_memory else {}
    load, begin = os.getloadavg()[0], time.perf_counter()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.log").open("w+") as log:
        process = subprocess.Popen(words, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT)
        looks: dict[int, list[Memory]] = {}
        while process.poll() is None:
            for pid in (process.pid, *_children(process.pid)):
                looks.setdefault(pid, []).append(memory_of(pid))
            time.sleep(PAUSE)
        log.seek(0)
        lines = [line for line in log.read().splitlines() if line.strip()]
    # Other processes are children that soon run something else, such as a compiler.
    trained = [seen for seen in looks.values() if len(seen) * PAUSE > 2]
    metrics = folder / "metrics.json"
    done = process.returncode == 0 and metrics.is_file()
    return {
        "metrics": json.loads(metrics.read_text()) if done else {},
        "error": "" if done else (lines or [""])[-1],
        "lines": len(lines),
        "seconds": time.perf_counter() - begin,
        "peaks": [max(look.private for look in seen) / GB for seen in trained],
        "limited": [max(look.limited for look in seen) / GB for seen in trained],
        "load": load,
    }


class Memory(NamedTuple):
    """Bytes of a process.

    Attributes:
        private: memory that it has for itself: neither mapped files nor shared memory.
        limited: what RLIMIT_DATA limits: all that it may write for itself, used or not.
    """

    private: float
    limited: float


def memory_of(pid: int) -> Memory:
    """The memory of a process now; nothing if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return Memory(0.0, 0.0)
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    sizes = [1024.0 * int(lines.get(key, "0 kB").split()[0]) for key in ("RssAnon", "VmData")]
    return Memory(*sizes)


def _children(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
