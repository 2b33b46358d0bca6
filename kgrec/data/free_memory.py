"""Memory that this process may still take."""

from __future__ import annotations

from pathlib import Path

import psutil

_GROUP = Path("/sys/fs/cgroup")


def free_memory() -> int:
    """Free bytes of the machine or, where that is less, of the container."""
    free = int(psutil.virtual_memory().available)
    try:
        limit, used = (int((_GROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return free
    return min(free, max(limit - used, 0))
