"""Scores from the folder of a finished run alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl
import torch

from kgrec.data.dataset import IdMaps
from kgrec.errors import DataError
from kgrec.models.recommender import Recommender
from kgrec.runs.checkpoints import load_recommender
from kgrec.runs.folder import RunFolder


@dataclass(frozen=True)
class FinishedRun:
    """A trained model and the raw ids of its users and items.

    Attributes:
        recommender: the model at its best validation epoch.
        ids: raw ids.
        metrics: all metrics of the run.
    """

    recommender: Recommender
    ids: IdMaps
    metrics: dict[str, float]

    @classmethod
    def load(cls, folder: str | Path) -> FinishedRun:
        """Reads a run folder; the data it was trained on are not needed.

        Raises:
            DataError: the folder holds no finished run.
            CheckpointError: its checkpoint cannot be read.
        """
        files = RunFolder(Path(folder))
        if not files.finished:
            raise DataError(
                f"{folder}: found no {files.metrics_file.name}, expected the folder of a finished "
                "run"
            )
        recommender = load_recommender(files.checkpoint("best"))
        return cls(recommender, IdMaps.load(files.ids), files.metrics())

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
