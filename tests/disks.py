"""Tiny disks, for tests of full and of read-only ones."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Disk = Callable[[str], Path]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Mounts a disk of a size such as ``"200k"``; only root can."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        if os.name != "posix" or os.geteuid() != 0 or shutil.which("mount") is None:
            pytest.skip("mounts a tiny disk, which needs root")
        place = tmp_path / f"disk-{size}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode:  # root of a container may not mount
            pytest.skip(f"mounts a tiny disk, which needs root ({answer.stderr.strip()})")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=False)


def fill(place: Path, leave: int = 0) -> None:
    """Fills a disk, but for a number of bytes."""
    (place / "filler").write_bytes(bytes(shutil.disk_usage(place).free - leave))


def read_only(place: Path) -> None:
    """Makes a tiny disk read-only."""
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)


def leftovers(place: Path) -> list[Path]:
    """Temporary files and folders in and under a folder."""
    return [path for path in place.rglob("*") if "incoming" in path.name]
