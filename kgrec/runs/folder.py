"""What a run leaves behind: enough to understand it, to repeat it and to score with it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import torch

from kgrec.data.dataset import IdMaps, PreparedData, RecDataset
from kgrec.errors import DataError
from kgrec.models.recommender import Recommender
from kgrec.runs.checkpoints import load_recommender

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
    """What git says of the code that runs, or None where git does not track it."""
    here = Path(__file__)
    try:
        for command in (["ls-files", "--error-unmatch", here.name], list(arguments)):
            done = subprocess.run(
                ["git", "-C", str(here.parent), *command],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                return None
    except OSError:
        return None
    return done.stdout.strip()


def dataset_facts(data: PreparedData, dataset: RecDataset) -> dict[str, Any]:
    """What is in dataset.json."""
    return {
        "name": dataset.name,
        "protocol": dataset.protocol,
        "seed": data.seed,
        "fingerprint": dataset.fingerprint,
        "counts": data.counts(),
        "published_counts": data.published_counts,
        "files": data.files,
        "account": dataset.account.as_list(),
    }


@dataclass(frozen=True)
class FinishedRun:
    """A trained model with the ids it speaks of, from its run folder alone.

    Attributes:
        recommender: the model at its best validation epoch.
        ids: raw ids.
        metrics: what metrics.json says.
    """

    recommender: Recommender
    ids: IdMaps
    metrics: dict[str, float]

    @classmethod
    def load(cls, folder: str | Path, trust: Iterable[str] = ()) -> FinishedRun:
        """Reads a run folder; the data it was trained on are not needed.

        Args:
            folder: run folder.
            trust: packages outside of kgrec whose models and aggregators the checkpoint may name.

        Raises:
            DataError: the folder holds no finished run.
            CheckpointError: its checkpoint cannot be read.
        """
        folder = Path(folder)
        if not (folder / "metrics.json").is_file():
            raise DataError(
                f"{folder}: found no metrics.json, expected the folder of a finished run"
            )
        return cls(
            load_recommender(folder / "checkpoints" / "best.ckpt", trust),
            IdMaps.load(folder / "ids"),
            json.loads((folder / "metrics.json").read_text(encoding="utf-8")),
        )

    def score(self, users: list[str], items: list[str]) -> list[float]:
        """Scores pairs of raw ids; higher is better.

        Raises:
            DataError: an id that the model was not trained on, such as a user without positives.
        """
        user_ids = self._numbers(self.ids.users["user"], users, "user")
        item_ids = self._numbers(self.ids.items["item"], items, "item")
        with torch.no_grad():
            return self.recommender.score(user_ids, item_ids).tolist()

    @staticmethod
    def _numbers(known: pl.Series, wanted: list[str], kind: str) -> torch.Tensor:
        number = {raw: i for i, raw in enumerate(known)}
        missing = [raw for raw in wanted if raw not in number]
        if missing:
            raise DataError(
                f"found {kind} {missing[0]!r}, expected one of the {len(number)} {kind}s of the "
                "training data (users without a positive are none of them)"
            )
        return torch.tensor([number[raw] for raw in wanted], dtype=torch.int64)
