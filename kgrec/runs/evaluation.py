"""What an evaluation leaves in the run folder, so that runs can be compared afterwards.

``evaluation/<model>/rows.parquet`` has the test rows with their scores, ``users.parquet`` the
ranking metrics of each user, both under the user's own ids; ``evaluation/slices.json`` has the
figures by training positives, ``evaluation/samples.json`` what the model recommends to a few users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch

from kgrec.data.dataset import RecDataset
from kgrec.evaluation.full_ranking import Ranking, per_user
from kgrec.evaluation.samples import samples
from kgrec.evaluation.slices import slices
from kgrec.files import write_json, write_parquet
from kgrec.training.testing import Evaluated

USUAL_K = 20


def shown_k(ks: Sequence[int], num_items: int) -> int | None:
    """The cutoff that tables show: 20, or else the greatest; None where nothing is ranked."""
    reachable = [k for k in ks if k <= num_items]
    return USUAL_K if USUAL_K in reachable else max(reachable, default=None)


def rows_frame(dataset: RecDataset, scores: torch.Tensor) -> pl.DataFrame:
    """Test rows: ``user``, ``item``, ``label``, ``score``."""
    rows, ids = dataset.test, dataset.ids
    return pl.DataFrame(
        {
            "user": ids.users["user"].gather(rows.users.numpy()),
            "item": ids.items["item"].gather(rows.items.numpy()),
            "label": rows.labels.to(torch.int8).numpy(),
            "score": scores.numpy(),
        }
    )


def users_frame(dataset: RecDataset, ranking: Ranking, ks: Sequence[int]) -> pl.DataFrame:
    """A row a user: ``user``, ``train_positives``, ``test_positives``, every metric at every k."""
    return pl.DataFrame(
        {
            "user": dataset.ids.users["user"].gather(ranking.users.numpy()),
            "train_positives": dataset.train.user_degrees()[ranking.users].numpy(),
            "test_positives": ranking.relevant.numpy(),
            **{name: values.numpy() for name, values in per_user(ranking, ks).items()},
        }
    )


def write_evaluation(
    folder: Path, dataset: RecDataset, found: Mapping[str, Evaluated], ks: Sequence[int]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Writes everything above for each model; returns the slices of all, the first one's samples.

    Where nothing is ranked there are no samples, and no file of them.
    """
    told, k = [], shown_k(ks, dataset.num_items)
    for name, (_, tested) in found.items():
        own = folder / "evaluation" / name
        write_parquet(own / "rows.parquet", rows_frame(dataset, tested.scores))
        if tested.ranking is not None:
            write_parquet(own / "users.parquet", users_frame(dataset, tested.ranking, ks))
        records = slices(dataset, tested.scores, tested.ranking, k)
        told += [{"model": name, **record} for record in records]
    write_json(folder / "evaluation" / "slices.json", told)
    ranking = next(iter(found.values())).tested.ranking
    if ranking is None:
        return told, []
    shown = samples(dataset, ranking)
    write_json(folder / "evaluation" / "samples.json", shown)
    return told, shown
