"""The one LightningModule: trains and tests any Recommender."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from kgrec.data.batches import PointwiseBatch, Step, own_rows
from kgrec.data.datamodule import KGDataModule
from kgrec.data.draws import generator
from kgrec.errors import ConfigError
from kgrec.evaluation.candidates import candidates
from kgrec.evaluation.full_ranking import Ranking, overall, per_user, rank
from kgrec.evaluation.results import TestResult
from kgrec.models.recommender import Recommender
from kgrec.runs.identity import check_resume
from kgrec.training.distributed import gather, joined
from kgrec.training.memory import RowBudget
from kgrec.training.metrics import CTRMetrics
from kgrec.training.sparse_gradients import ask_for_sparse_gradients, average_sparse_gradients

log = logging.getLogger(__name__)

# Evaluation loaders, in the order in which the data module gives them.
LOADERS = ("", "matched/")


class RecommenderModule(pl.LightningModule):
    """Wraps a recommender for a Trainer.

    Optimisation is manual, so that one Lightning batch may hold several steps, and a step several
    pieces.

    Args:
        recommender: the model.
        optimizer: from parameter groups to an optimiser; None for a model without training.
        seed: of the run.
        dataset: plain facts on the data set, among them its fingerprint; kept in checkpoints.
        settings: plain settings that must not change when the run resumes; kept in checkpoints.
        memory_budget: bytes that a step may need beside the parameters; a step that would need
            more is taken in pieces.
        ks: cutoffs of the ranking metrics.
        rank_validation: whether validation ranks too, not only the test.

    Attributes:
        threshold: the score with the best F1 on the last validation.
        test_result: results of the last test, row by row and user by user.
    """

    def __init__(
        self,
        recommender: Recommender,
        optimizer: Callable[[list[dict[str, Any]]], Optimizer] | None,
        seed: int,
        dataset: dict[str, Any],
        settings: dict[str, Any] | None = None,
        memory_budget: float = math.inf,
        ks: Sequence[int] = (),
        rank_validation: bool = False,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.recommender = recommender
        self.seed = seed
        self.dataset = dataset
        self.settings = settings or {}
        self.threshold = float("nan")
        self.test_result: TestResult | None = None
        self._ks = tuple(ks)
        self._rank_validation = rank_validation
        self._optimizer = optimizer
        self._budget = RowBudget(recommender, memory_budget)
        self._tables: list[Tensor] = []
        if getattr(getattr(optimizer, "func", None), "sparse_gradients", False):
            self._tables = ask_for_sparse_gradients(self)
        self._encoded: Any = None
        self._loss_sum: Tensor | None = None
        self._num_steps = 0
        self.metrics = nn.ModuleDict(
            {
                _key(stage, loader): CTRMetrics(recommender.logits)
                for stage in ("val", "test")
                for loader in LOADERS
            }
        )

    # -------------------------------------------------------------- training

    def configure_optimizers(self) -> Optimizer:
        """One optimiser; ``weight_decay`` acts on matrices only, not on biases."""
        assert self._optimizer is not None
        parameters = [p for p in self.recommender.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [{"params": [p for p in parameters if p.ndim >= 2]}]
        if vectors := [p for p in parameters if p.ndim < 2]:
            groups.append({"params": vectors, "weight_decay": 0.0})
        return self._optimizer(groups)

    def on_train_epoch_start(self) -> None:
        """Lets the model draw anew what it samples."""
        self.recommender.resample(generator(self.seed, "neighbors", self.current_epoch))
        self._loss_sum, self._num_steps = torch.zeros((), device=self.device), 0

    def training_step(self, steps: list[Step], batch_idx: int) -> None:
        """Optimiser steps, each on one batch of each kind that the model's loss eats.

        Several of them share Lightning's cost of a call. On several devices there must be one, or
        the replicas would drift apart between calls.
        """
        assert self._loss_sum is not None
        if len(steps) > 1 and self.trainer.world_size > 1:
            raise ConfigError(f"steps_per_call: found {len(steps)}, expected 1 on several devices")
        for step in steps:
            self._loss_sum += self._step(step)
        # Once an epoch: logging every step would cost more than the step.
        if self.trainer.is_last_batch:
            loss = self._loss_sum / self._num_steps
            self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)

    def _step(self, step: Step) -> Tensor:
        """One step; returns its loss, of which the mean over processes is that of all rows."""
        optimizer = cast(LightningOptimizer, self.optimizers())
        optimizer.zero_grad()
        pieces = self._budget.cut(step.batches)
        total = torch.zeros((), device=self.device)
        for number, (piece, share) in enumerate(pieces):
            loss = self.recommender.loss(*piece)
            if share * step.weight != 1:
                loss = loss * (share * step.weight)
            with self._no_sync(number + 1 < len(pieces)):
                self.manual_backward(loss)
            total = loss.detach() if len(pieces) == 1 else total + loss.detach()
        average_sparse_gradients(self._tables)
        optimizer.step()
        self._num_steps += 1
        return total

    def _no_sync(self, wanted: bool) -> AbstractContextManager[None]:
        """Keeps replicas from averaging the gradients of a step that is not complete."""
        model = self.trainer.strategy.model
        if wanted and isinstance(model, DistributedDataParallel):
            return model.no_sync()
        return nullcontext()

    # -------------------------------------------------------------- evaluation

    def on_validation_epoch_start(self) -> None:
        """Computes once what depends on parameters alone."""
        self._encoded = self.recommender.encode()

    def validation_step(
        self, batch: PointwiseBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Scores validation rows."""
        self._take_in("val", batch, dataloader_idx)

    def on_validation_epoch_end(self) -> None:
        """Logs the figures of the whole split, and keeps the threshold with the best F1."""
        for loader in self._used("val"):
            metric = self._metric("val", loader)
            figures = metric.compute()
            threshold = figures.pop("threshold")
            if not loader:
                self.threshold = figures["threshold"] = threshold
                figures["f1_val_threshold"] = metric.f1_at(threshold)
            self._report(f"val/{loader}", metric, figures)
        if self._rank_validation:
            self._rank("val")
        self._encoded = None

    def on_test_epoch_start(self) -> None:
        """Computes once what depends on parameters alone."""
        self._encoded = self.recommender.encode()

    def test_step(self, batch: PointwiseBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Scores test rows."""
        self._take_in("test", batch, dataloader_idx)

    def on_test_epoch_end(self) -> None:
        """Logs the figures of the whole split, F1 also at the validation's threshold."""
        scores = self._metric("test", "").all_scores().cpu()
        for loader in self._used("test"):
            metric = self._metric("test", loader)
            figures = metric.compute()
            figures.pop("threshold")
            if not loader:
                figures["f1_val_threshold"] = metric.f1_at(self.threshold)
            self._report(f"test/{loader}", metric, figures)
        self.test_result = TestResult(scores, self._rank("test"))
        self._encoded = None

    def _rank(self, stage: str) -> Ranking | None:
        """Ranks all items for whom the data module names, and logs the means over users."""
        data = getattr(self.trainer, "datamodule", None)
        if not self._ks or not isinstance(data, KGDataModule):
            return None
        found = candidates(data.dataset, stage, data.ranking, data.seed)
        if found is None:
            return None
        if len(found.users) == 0:
            log.info("ranking: found no user to rank for (%s)", data.ranking)
            return None
        own = own_rows(len(found.users), self.global_rank, self.trainer.world_size)
        ranking = rank(
            lambda users: self.recommender.score_all(users, self._encoded),
            found._replace(users=found.users[own]),
            max(self._ks),
            self.device,
        )
        ranking = ranking._replace(
            users=found.users,
            items=gather(ranking.items, self.device),
            hits=gather(ranking.hits, self.device),
            tied=gather(ranking.tied, self.device),
            relevant=gather(ranking.relevant, self.device),
        )
        figures = {k: float(v.mean()) for k, v in per_user(ranking, self._ks).items()}
        figures |= overall(ranking, data.dataset.train.item_degrees(), self._ks)
        self._log(f"{stage}/", figures)
        return ranking

    def _take_in(self, stage: str, batch: PointwiseBatch, loader: int) -> None:
        scores = self.recommender.score(batch.users, batch.items, self._encoded)
        self._metric(stage, LOADERS[loader]).update(scores, batch.labels)

    def _used(self, stage: str) -> list[str]:
        return [loader for loader in LOADERS if self._metric(stage, loader).update_count]

    def _metric(self, stage: str, loader: str) -> CTRMetrics:
        return cast(CTRMetrics, self.metrics[_key(stage, loader)])

    def _report(self, prefix: str, metric: CTRMetrics, figures: dict[str, float]) -> None:
        metric.reset()
        self._log(prefix, figures)

    def _log(self, prefix: str, figures: dict[str, float]) -> None:
        device = self.device if joined() else "cpu"  # NCCL exchanges nothing on the CPU
        values = {
            f"{prefix}{name}": torch.tensor(value, dtype=torch.float64, device=device)
            for name, value in figures.items()
        }
        # Alike on all processes: their maximum is that value, their mean may be rounded.
        self.log_dict(values, sync_dist=True, reduce_fx="max")

    # -------------------------------------------------------------- checkpoints

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must have in common with this module, and what rebuilds its model."""
        return {
            "recipe": self.recommender.recipe(),
            "dataset": self.dataset,
            "settings": self.settings,
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what is needed to rebuild the model where its data are gone."""
        checkpoint["kgrec"] = self.identity()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses the checkpoint of another model or data set.

        Raises:
            CheckpointError: it is one.
        """
        check_resume(checkpoint, self.identity())


def _key(stage: str, loader: str) -> str:
    return f"{stage}_{loader.strip('/')}"
