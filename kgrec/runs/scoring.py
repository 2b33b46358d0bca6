"""Scores of a finished run's model, from only the run folder."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
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
    def load(cls, folder: str | Path, trust: Iterable[str] = ()) -> FinishedRun:
        """Reads a run folder; the training data are not needed.

        Args:
            folder: run folder.
            trust: packages of the user's own whose models and aggregators the checkpoint may name.

        Raises:
            DataError: the folder is not that of a finished run.
            CheckpointError: the checkpoint of the run cannot be read.
        """
        files = RunFolder(Path(folder))
        if not files.finished:
            raise DataError(
                f"{folder}: found no {files.metrics_file.name}, expected the folder of a finished "
                "run"
            )
        recommender = load_recommender(files.checkpoint("best"), trust)
        return cls(recommender, IdMaps.load(files.ids), files.metrics())

    def score(self, users: str | Sequence[str], items: str | Sequence[str]) -> list[float]:
        """Scores pairs of raw ids; higher is better.

        Args:
            users: raw ids of users, one per pair; a single user is paired with every item.
            items: raw ids of items, one per pair; a single item is paired with every user.

        Returns:
            One score per pair.

        Raises:
            DataError: an id that the model was not trained on, or lists of different lengths.
        """
        users, items = _as_list(users), _as_list(items)
        if len(users) == 1:
            users *= len(items)
        elif len(items) == 1:
            items *= len(users)
        if len(users) != len(items):
            raise DataError(
                f"found {len(users)} users and {len(items)} items, expected pairs: lists of one "
                "length, or a single user or item"
            )
        user_ids = self._numbers(self.ids.users["user"], users, "user")
        item_ids = self._numbers(self.ids.items["item"], items, "item")
        with torch.no_grad():
            return self.recommender.score(user_ids, item_ids).tolist()

    @staticmethod
    def _numbers(raw_ids: pl.Series, wanted: list[str], kind: str) -> torch.Tensor:
        number = {raw: i for i, raw in enumerate(raw_ids)}
        unknown = [raw for raw in wanted if raw not in number]
        if unknown:
            examples = ", ".join(raw_ids.head(3))
            close = difflib.get_close_matches(str(unknown[0]), number, n=1)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise DataError(
                f"found {kind} {unknown[0]!r}, expected one of the {len(number)} {kind}s of the "
                f"training data, such as {examples}{meant} (a user without a positive is not one "
                "of them)"
            )
        return torch.tensor([number[raw] for raw in wanted], dtype=torch.int64)


def _as_list(ids: str | Sequence[str]) -> list[str]:
    return [ids] if isinstance(ids, str) else [str(each) for each in ids]
