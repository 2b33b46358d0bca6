"""Versions, command and hardware of a run."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch

PACKAGES = (
    "kgrec", "torch", "pytorch-lightning", "hydra-core", "omegaconf", "torchmetrics", "wandb",
    "numpy", "polars",
)  # fmt: skip


def environment() -> dict[str, Any]:
    """Versions, commit, command line and hardware of this process."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain")),
        "cpu_cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": gpus,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """Output of a git command on kgrec's own code; None where git does not track that code."""
    source_file = Path(__file__)
    try:
        for command in (["ls-files", "--error-unmatch", source_file.name], list(arguments)):
            process = subprocess.run(
                ["git", "-C", str(source_file.parent), *command],
                capture_output=True,
                text=True,
                check=False,
            )
            if process.returncode != 0:
                return None
    except OSError:
        return None
    return process.stdout.strip()
