"""Writes the results of an evaluation to the run folder, so that runs can be compared later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import torch

from kgrec.data.dataset import IdMaps, RecDataset
from kgrec.data.interactions import Interactions
from kgrec.evaluation.full_ranking import Ranking, per_user
from kgrec.evaluation.results import Evaluation
from kgrec.evaluation.samples import samples
from kgrec.evaluation.slices import slices
from kgrec.runs.folder import RunFolder

USUAL_K = 20


def shown_k(ks: Sequence[int], num_items: int) -> int | None:
    """The cut-off that tables show: 20, else the largest; None where nothing is ranked."""
    reachable = [k for k in ks if k <= num_items]
    return USUAL_K if USUAL_K in reachable else max(reachable, default=None)


def rows_frame(dataset: RecDataset, scores: torch.Tensor) -> pl.DataFrame:
    """Test rows with raw ids: ``user``, ``item``, ``label``, ``score``."""
    rows, ids = dataset.test, dataset.ids
    return pl.DataFrame(
        {
            "user": ids.users["user"].gather(rows.users.numpy()),
            "item": ids.items["item"].gather(rows.items.numpy()),
            "label": rows.labels.to(torch.int8).numpy(),
            "score": scores.numpy(),
        }
    )


def users_frame(
    ids: IdMaps, train: Interactions, ranking: Ranking, ks: Sequence[int]
) -> pl.DataFrame:
    """One row per test user: ``user``, ``train_positives``, ``test_positives``, ranking metrics."""
    return pl.DataFrame(
        {
            "user": ids.users["user"].gather(ranking.users.numpy()),
            "train_positives": train.user_degrees()[ranking.users].numpy(),
            "test_positives": ranking.relevant.numpy(),
            **{name: values.numpy() for name, values in per_user(ranking, ks).items()},
        }
    )


def write_results(
    folder: RunFolder,
    dataset: RecDataset,
    evaluations: Mapping[str, Evaluation],
    ks: Sequence[int],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Writes rows, users and slices of every model, and samples of the first model.

    Returns:
        Slices of all models, and samples of the first model; no samples where nothing is ranked.
    """
    all_slices, k = [], shown_k(ks, dataset.num_items)
    for name, evaluation in evaluations.items():
        scores, ranking = evaluation.test
        folder.write_rows(name, rows_frame(dataset, scores))
        if ranking is not None:
            folder.write_users(name, users_frame(dataset.ids, dataset.train, ranking, ks))
        records = slices(dataset, scores, ranking, k)
        all_slices += [{"model": name, **record} for record in records]
    folder.write_slices(all_slices)
    ranking = next(iter(evaluations.values())).test.ranking
    if ranking is None:
        return all_slices, []
    of_users = samples(dataset, ranking)
    folder.write_samples(of_users)
    return all_slices, of_users
