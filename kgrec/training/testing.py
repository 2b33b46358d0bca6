"""Tests a trained model and the controls that stand beside it, all on one path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.utilities.seed import isolate_rng

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
    recommender: Recommender,
    datamodule: KGDataModule,
    facts: dict[str, Any],
    ks: Sequence[int],
    rank_validation: bool,
    device: Mapping[str, Any],
) -> Evaluated:
    """Validates a model, then tests it with the F1 threshold that validation chose.

    Args:
        recommender: ready to score.
        datamodule: the rows, and whom to rank for.
        facts: on the data set.
        ks: cutoffs of the ranking metrics; none: it is not ranked.
        rank_validation: whether validation ranks too.
        device: ``accelerator`` and ``devices``, one of them, as Lightning's Trainer takes them.
    """
    module = RecommenderModule(
        recommender, None, datamodule.seed, facts, ks=ks, rank_validation=rank_validation
    )
    figures = _figures(module, datamodule, device)
    assert module.tested is not None
    return Evaluated(figures, module.tested)


def evaluate_controls(
    model: str,
    negatives: str,
    datamodule: KGDataModule,
    facts: dict[str, Any],
    ks: Sequence[int],
    rank_validation: bool,
    device: Mapping[str, Any],
) -> dict[str, Evaluated]:
    """Evaluates the controls that a model is not itself, and leaves random numbers as they were.

    Args:
        model: name of the model.
        negatives: how training negatives are drawn.
        datamodule: as for :func:`evaluate`, like what follows.
        facts: on the data set.
        ks: cutoffs; controls whose order means nothing are not ranked.
        rank_validation: whether validation ranks too.
        device: ``accelerator`` and ``devices``, one of them, as Lightning's Trainer takes them.
    """
    found, dataset = {}, datamodule.dataset
    with isolate_rng():  # what is trained afterwards draws as if there were no controls
        for name, control in controls(dataset, negatives).items():
            if name != model:
                control.precompute(dataset)
                cutoffs = ks if control.ranks else ()
                found[name] = evaluate(control, datamodule, facts, cutoffs, rank_validation, device)
    return found


def _figures(
    module: RecommenderModule, datamodule: KGDataModule, device: Mapping[str, Any]
) -> dict[str, float]:
    trainer = pl.Trainer(
        **device,
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
