"""Evaluation of a trained model and the controls in the same way."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.utilities.seed import isolate_rng

from kgrec.data.datamodule import KGDataModule
from kgrec.data.dataset import RecDataset
from kgrec.evaluation.results import BASELINE, Evaluation
from kgrec.models.controls import (
    AllPositive,
    Popularity,
    PopularityBalance,
    PopularityPrior,
    UnseenItem,
)
from kgrec.models.recommender import Recommender
from kgrec.training.module import RecommenderModule


def controls(
    dataset: RecDataset, negatives: str, items: str = "catalogue"
) -> dict[str, Recommender]:
    """Controls of a protocol, by name.

    Args:
        dataset: split data.
        negatives: "resampled" or "static", the way training negatives are drawn.
        items: "catalogue" or "trained", the items from which they are drawn.
    """
    models: dict[str, Recommender] = {BASELINE: Popularity.from_dataset(dataset)}
    if dataset.protocol == "clean":
        models["unseen_item"] = UnseenItem.from_dataset(dataset)
    elif negatives == "static":
        models["popularity_balance"] = PopularityBalance.from_dataset(dataset)
    if items == "trained":
        models["popularity_prior"] = PopularityPrior.from_dataset(dataset)
    models["all_positive"] = AllPositive.from_dataset(dataset)
    return models


@dataclass(frozen=True)
class Evaluator:
    """Evaluates models on the validation and the test split of a data module.

    Attributes:
        datamodule: rows to score, and users to evaluate.
        facts: plain facts on the data set.
        ks: cut-offs of the ranking metrics; empty: no ranking metrics.
        rank_validation: whether validation has ranking metrics too.
        device: ``accelerator`` and ``devices`` of Lightning's Trainer; one device.
    """

    datamodule: KGDataModule
    facts: dict[str, Any]
    ks: Sequence[int]
    rank_validation: bool
    device: Mapping[str, Any]

    def evaluate(self, recommender: Recommender, ranked: bool = True) -> Evaluation:
        """Validates a model, then tests it with the threshold that has the best F1 on validation.

        Args:
            recommender: model that is ready to score.
            ranked: whether to compute ranking metrics.
        """
        module = RecommenderModule(
            recommender,
            None,
            self.datamodule.seed,
            self.facts,
            ks=self.ks if ranked else (),
            rank_validation=self.rank_validation,
        )
        trainer = pl.Trainer(
            **self.device,
            plugins=LightningEnvironment(),  # one process, even under torchrun or SLURM
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        return _evaluated(trainer, module, self.datamodule)

    def controls(
        self, model: str, negatives: str, items: str = "catalogue"
    ) -> dict[str, Evaluation]:
        """Evaluates the controls other than the model.

        The state of the random number generators does not change.

        Args:
            model: name of the model.
            negatives: "resampled" or "static", the way training negatives are drawn.
            items: "catalogue" or "trained", the items from which they are drawn.
        """
        evaluations, dataset = {}, self.datamodule.dataset
        with isolate_rng():  # training draws the same numbers with and without controls
            for name, control in controls(dataset, negatives, items).items():
                if name != model:
                    control.precompute(dataset)
                    evaluations[name] = self.evaluate(control, ranked=control.ranks)
        return evaluations


def evaluate_together(
    trainer: pl.Trainer, module: RecommenderModule, datamodule: KGDataModule, checkpoint: Path
) -> Evaluation:
    """As :meth:`Evaluator.evaluate`, on the processes that have trained the model together.

    Every process must call it. Each reads its rows of the shared tables from the checkpoint.

    Args:
        trainer: Trainer that has trained the model.
        module: the module.
        datamodule: rows to score, and users to evaluate.
        checkpoint: checkpoint of the model to evaluate.
    """
    names = ("callbacks", "loggers")  # nothing is logged or kept
    before = {name: getattr(trainer, name) for name in names}
    for name in names:
        setattr(trainer, name, [])
    try:
        with warnings.catch_warnings():  # Lightning misses the callbacks
            warnings.filterwarnings("ignore", ".*callbacks used to create the checkpoint")
            return _evaluated(trainer, module, datamodule, checkpoint)
    finally:
        for name, value in before.items():
            setattr(trainer, name, value)


def _evaluated(
    trainer: pl.Trainer,
    module: RecommenderModule,
    datamodule: KGDataModule,
    checkpoint: Path | None = None,
) -> Evaluation:
    """Validates and tests a module, whose parameters may come from a checkpoint."""
    validated = trainer.validate(
        module, datamodule=datamodule, ckpt_path=checkpoint, verbose=False, weights_only=True
    )
    tested = trainer.test(module, datamodule=datamodule, verbose=False)
    assert module.test_result is not None
    metrics = {name: value for loader in [*validated, *tested] for name, value in loader.items()}
    return Evaluation(metrics, module.test_result)
