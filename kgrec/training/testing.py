"""Tests a trained model and the controls that stand beside it, all on one path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.lightning import LightningEnvironment

from kgrec.data.datamodule import KGDataModule
from kgrec.data.dataset import RecDataset
from kgrec.models.controls import AllPositive, Popularity, PopularityBalance, UnseenItem
from kgrec.models.recommender import Recommender
from kgrec.training.module import RecommenderModule, Tested


class Evaluated(NamedTuple):
    """What testing one model found.

    Attributes:
        figures: ``val/…`` and ``test/…``.
        tested: row by row and user by user.
    """

    figures: dict[str, float]
    tested: Tested


def with_controls(
    name: str, recommender: Recommender, dataset: RecDataset, negatives: str
) -> dict[str, Recommender]:
    """The model, and the controls of :func:`controls` that it is not itself, ready to score."""
    rows = {name: recommender}
    for control_name, control in controls(dataset, negatives).items():
        if control_name not in rows:
            control.precompute(dataset)
            rows[control_name] = control
    return rows


def controls(dataset: RecDataset, negatives: str) -> dict[str, Recommender]:
    """The models that stand beside every other one under this protocol."""
    found: dict[str, Recommender] = {"popularity": Popularity.from_dataset(dataset)}
    if dataset.protocol == "clean":
        found["unseen_item"] = UnseenItem.from_dataset(dataset)
    elif negatives == "static":
        found["popularity_balance"] = PopularityBalance.from_dataset(dataset)
    found["all_positive"] = AllPositive.from_dataset(dataset)
    return found


def evaluate(
    rows: Mapping[str, Recommender],
    datamodule: KGDataModule,
    facts: dict[str, Any],
    ks: Sequence[int],
    rank_validation: bool,
    accelerator: str,
) -> dict[str, Evaluated]:
    """Validates each model, then tests it with the F1 threshold that validation chose.

    Args:
        rows: name to model; controls whose order means nothing are not ranked.
        datamodule: the rows, and whom to rank for.
        facts: on the data set.
        ks: cutoffs of the ranking metrics.
        rank_validation: whether validation ranks too.
        accelerator: as Lightning's Trainer names it.
    """
    first, found = next(iter(rows)), {}
    for name, row in rows.items():
        cutoffs = ks if row.ranks or name == first else ()
        module = RecommenderModule(
            row, None, datamodule.seed, facts, ks=cutoffs, rank_validation=rank_validation
        )
        figures = _figures(module, datamodule, accelerator)
        assert module.tested is not None
        found[name] = Evaluated(figures, module.tested)
    return found


def _figures(
    module: RecommenderModule, datamodule: KGDataModule, accelerator: str
) -> dict[str, float]:
    trainer = pl.Trainer(
        accelerator=accelerator,
        devices=1,
        plugins=LightningEnvironment(),  # also where torchrun or SLURM started other processes
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    figures: dict[str, float] = {}
    for step in (trainer.validate, trainer.test):
        for loader in step(module, datamodule=datamodule, verbose=False):
            figures |= loader
    return figures
