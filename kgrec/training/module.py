"""The only LightningModule: trains and tests any Recommender."""

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

from kgrec.data.batches import PointwiseBatch, Step
from kgrec.data.datamodule import KGDataModule
from kgrec.data.draws import generator
from kgrec.errors import ConfigError
from kgrec.evaluation.candidates import Candidates, candidates
from kgrec.evaluation.full_ranking import Ranking, overall, per_user
from kgrec.evaluation.results import ScoredTest
from kgrec.models.recommender import Recommender
from kgrec.runs.identity import check_resume
from kgrec.sharding.exchange import largest_number
from kgrec.sharding.table import local_part, tables_of
from kgrec.training.distributed import joined
from kgrec.training.divergence import LossWatch, check_parameters
from kgrec.training.losses import step_loss
from kgrec.training.memory import RowBudget
from kgrec.training.metrics import CTRMetrics
from kgrec.training.ranking import rank_shares_of_items, rank_shares_of_users
from kgrec.training.sparse_gradients import ask_for_sparse_gradients, average_sparse_gradients
from kgrec.training.updates import UpdateRule

log = logging.getLogger(__name__)

# Evaluation loaders, in the order in which the data module gives them.
LOADERS = ("", "matched/")

# Values of an epoch that the module gives to the loggers itself, by their beginnings.
OWN = ("train/", "speed/", "norms/")


class RecommenderModule(pl.LightningModule):
    """Wraps a recommender for a Trainer.

    Optimisation is manual, so that one Lightning batch may hold several steps, and a step several
    pieces.

    Args:
        recommender: model to train and evaluate.
        optimizer: function from parameter groups to an optimiser; None for a model without
            training.
        seed: seed of the run.
        dataset: plain facts on the data set, such as its fingerprint; kept in checkpoints.
        settings: plain settings that must not change when the run resumes; kept in checkpoints.
        memory_budget: bytes that a step may need in addition to the parameters; a step that needs
            more is taken in pieces.
        ks: cut-offs of the ranking metrics.
        rank_validation: whether validation has ranking metrics too, not only the test.
        update_rule: how the gradients of steps become optimiser steps.
        log_every_n_steps: optimiser steps between two entries of ``train/step_loss`` in the
            loggers; None: there is no such curve.

    Attributes:
        threshold: score with the best F1 on the last validation.
        test_result: per-row and per-user results of the last test.
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
        update_rule: UpdateRule | None = None,
        log_every_n_steps: int | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.recommender = recommender
        self.seed = seed
        self.dataset = dataset
        self.settings = settings or {}
        self.threshold = float("nan")
        self.test_result: ScoredTest | None = None
        self._ks = tuple(ks)
        self._rank_validation = rank_validation
        self._update_rule = update_rule or UpdateRule()
        self._log_every_n_steps = log_every_n_steps
        self._optimizer = optimizer
        self._budget = RowBudget(recommender, memory_budget)
        self._tables: list[Tensor] = []
        kind = getattr(optimizer, "func", None)
        sparse = getattr(kind, "sparse_gradients", False)
        if sparse:
            self._tables = ask_for_sparse_gradients(self)
        self._sharded = bool(tables_of(recommender))
        if self._sharded and not sparse:
            raise ConfigError(
                f"optimizer: found {getattr(kind, '__name__', kind)}, expected "
                "optimizer=lazy_adam with trainer=sharded: only the rows that a step reads have "
                "gradients (settings=none, if the settings of this model name the optimiser)"
            )
        self._encoded: Any = None
        # Of each stage, kept because a validation ranks in every epoch.
        self._candidates: dict[tuple[KGDataModule, str], Candidates | None] = {}
        self._loss_sum: Tensor | None = None
        self._watch = LossWatch(recommender)
        self._num_steps = 0
        self._accumulated = 0
        self.metrics = nn.ModuleDict(
            {
                _key(stage, loader): CTRMetrics(recommender.gives_logits, recommender.trainable)
                for stage in ("val", "test")
                for loader in LOADERS
            }
        )

    # -------------------------------------------------------------- training

    def configure_optimizers(self) -> Optimizer:
        """One optimiser; ``weight_decay`` acts on matrices only, not on biases."""
        assert self._optimizer is not None
        parameters = [local_part(p) for p in self.recommender.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [{"params": [p for p in parameters if p.ndim >= 2]}]
        if vectors := [p for p in parameters if p.ndim < 2]:
            groups.append({"params": vectors, "weight_decay": 0.0})
        return self._optimizer(groups)

    def on_train_epoch_start(self) -> None:
        """Redraws the neighbours that the model samples, and starts the sum of the losses."""
        self.recommender.resample(generator(self.seed, "neighbors", self.current_epoch))
        self._loss_sum, self._num_steps = torch.zeros((), device=self.device), 0
        self._accumulated = 0
        self._watch.begin(self.current_epoch)

    @property
    def rows_in_epoch(self) -> int:
        """Training rows of the steps that the current epoch has taken, over all processes."""
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, KGDataModule):
            return 0
        batches = data.train_batches
        return min(batches.num_rows, self._num_steps * batches.batch_size)

    def training_step(self, steps: list[Step], batch_idx: int) -> None:
        """Takes several steps, each on one batch of each type that the loss takes.

        The steps share Lightning's cost of a call. On several devices a call has one step;
        otherwise the replicas would drift apart between calls.
        """
        assert self._loss_sum is not None
        if len(steps) > 1 and self.trainer.world_size > 1:
            raise ConfigError(f"steps_per_call: found {len(steps)}, expected 1 on several devices")
        last_call = self.trainer.is_last_batch
        for number, step in enumerate(steps, start=1):
            self._watch.look()
            loss = self._step(step, last=last_call and number == len(steps))
            self._watch.add(loss)
            self._loss_sum += loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Logs the loss of the epoch after its last step, also where a limit ends it early.

        It is logged once: logging every step would cost more than the step.

        Raises:
            DivergedError: a loss or a parameter is not finite.
        """
        assert self._loss_sum is not None
        trainer = self.trainer
        if 0 < trainer.max_steps <= trainer.global_step:
            trainer.should_stop = True  # otherwise Lightning would end without a validation
        if trainer.fit_loop.epoch_loop.done:
            self._watch.look(1)
            check_parameters(self.recommender, self.current_epoch)
            loss = self._loss_sum / self._num_steps
            self.log(
                "train/loss", loss, logger=False, on_step=False, on_epoch=True, batch_size=1,
                sync_dist=True,
            )  # fmt: skip

    def on_train_epoch_end(self) -> None:
        """Gives the values of the epoch to the loggers, before its checkpoints are written.

        Lightning would do so after the checkpoints. If the run were killed between the two, it
        would resume with the next epoch, and the curves would lack this one.
        """
        trainer = self.trainer
        values = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith(OWN)}
        for logger in trainer.loggers:
            logger.log_metrics(values | {"epoch": self.current_epoch}, step=self.global_step)
            logger.save()

    def _step(self, step: Step, last: bool) -> Tensor:
        """Adds the gradients of a step, and updates the parameters if enough are accumulated.

        Args:
            step: rows of this process.
            last: whether it is the last step of the epoch, which always updates.

        Returns:
            The loss; its mean over processes is the loss of all rows.
        """
        optimizer = cast(LightningOptimizer, self.optimizers())
        if self._accumulated == 0:
            optimizer.zero_grad()
        self._accumulated += 1
        update = last or self._accumulated == self._update_rule.accumulate_grad_batches
        pieces = self._budget.cut(step.batches)
        if self._sharded:
            pieces = as_many_as_others(pieces, self.device)
        total = torch.zeros((), device=self.device)
        for number, (piece, share) in enumerate(pieces):
            loss = step_loss(self.recommender, piece)
            if share * step.weight != 1:
                loss = loss * (share * step.weight)
            with self._no_sync(number + 1 < len(pieces) or not update):
                self.manual_backward(self._update_rule.share(loss))
            total = loss.detach() if len(pieces) == 1 else total + loss.detach()
        self._num_steps += 1
        if update:
            self._update(optimizer)
            self._log_step_loss(total)
        return total

    def _update(self, optimizer: LightningOptimizer) -> None:
        """Takes an optimiser step with the gradients that are accumulated."""
        average_sparse_gradients(self._tables)
        self._update_rule.clip(self.recommender.parameters())
        optimizer.step()
        self._accumulated = 0

    def _log_step_loss(self, loss: Tensor) -> None:
        step, every = self.global_step, self._log_every_n_steps
        if every is not None and step % every == 0:
            value = float(self.trainer.strategy.reduce(loss, reduce_op="mean"))
            for logger in self.trainer.loggers:
                logger.log_metrics({"train/step_loss": value}, step=step)

    def _no_sync(self, wanted: bool) -> AbstractContextManager[None]:
        """Keeps replicas from averaging gradients before an optimiser step."""
        model = self.trainer.strategy.model
        if wanted and isinstance(model, DistributedDataParallel):
            return model.no_sync()
        return nullcontext()

    # -------------------------------------------------------------- evaluation

    def on_validation_epoch_start(self) -> None:
        """Encodes the model once: everything that depends only on its parameters."""
        self._encoded = None if self._sharded else self.recommender.encode()

    def validation_step(
        self, batch: PointwiseBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Scores validation rows."""
        self._score("val", batch, dataloader_idx)

    def on_validation_epoch_end(self) -> None:
        """Logs the metrics of the whole split, and keeps the threshold with the best F1."""
        for loader in self._used_loaders("val"):
            metric = self._metric("val", loader)
            values = metric.compute()
            threshold = values.pop("threshold")
            if not loader:
                self.threshold = values["threshold"] = threshold
                values["f1_val_threshold"] = metric.f1_at(threshold)
            metric.reset()
            self._log(f"val/{loader}", values)
        if self._rank_validation:
            self._rank("val")
        self._encoded = None

    def on_test_epoch_start(self) -> None:
        """Encodes the model once: everything that depends only on its parameters."""
        self._encoded = None if self._sharded else self.recommender.encode()

    def test_step(self, batch: PointwiseBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Scores test rows."""
        self._score("test", batch, dataloader_idx)

    def on_test_epoch_end(self) -> None:
        """Logs the metrics of the whole split, F1 also at the threshold of the validation."""
        scores = self._metric("test", "").all_scores().cpu()
        for loader in self._used_loaders("test"):
            metric = self._metric("test", loader)
            values = metric.compute()
            values.pop("threshold")
            if not loader:
                values["f1_val_threshold"] = metric.f1_at(self.threshold)
            metric.reset()
            self._log(f"test/{loader}", values)
        self.test_result = ScoredTest(scores, self._rank("test"))
        self._encoded = None

    def _rank(self, stage: str) -> Ranking | None:
        """Ranks all items for the users to evaluate, and logs the means over users."""
        data = getattr(self.trainer, "datamodule", None)
        if not self._ks or not isinstance(data, KGDataModule):
            return None
        key = data, stage
        if key not in self._candidates:
            self._candidates[key] = candidates(data.dataset, stage, data.ranking, data.seed)
        evaluated = self._candidates[key]
        if evaluated is None:
            return None
        if len(evaluated.users) == 0:
            log.info("ranking: found no user to rank for (%s)", data.ranking)
            return None
        model, depth = self.recommender, max(self._ks)
        if self._sharded:
            ranking = rank_shares_of_items(model, evaluated, depth, self.device)
        else:
            ranking = rank_shares_of_users(model, evaluated, depth, self.device, self._encoded)
        values = {k: float(v.mean()) for k, v in per_user(ranking, self._ks).items()}
        dataset = data.dataset
        values |= overall(
            ranking, dataset.train.item_degrees(), self._ks, dataset.num_users, dataset.neighborhood
        )
        self._log(f"{stage}/", values)
        return ranking

    def _score(self, stage: str, batch: PointwiseBatch, loader: int) -> None:
        # In full precision also where training is not: bfloat16 would make ties of close scores.
        with torch.autocast(self.device.type, enabled=False):
            scores = self.recommender.score(batch.users, batch.items, self._encoded)
        self._metric(stage, LOADERS[loader]).update(scores, batch.labels)

    def _used_loaders(self, stage: str) -> list[str]:
        return [loader for loader in LOADERS if self._metric(stage, loader).update_count]

    def _metric(self, stage: str, loader: str) -> CTRMetrics:
        return cast(CTRMetrics, self.metrics[_key(stage, loader)])

    def _log(self, prefix: str, values: dict[str, float]) -> None:
        # NCCL exchanges nothing on the CPU. One process needs no device, and MPS has no float64.
        device = self.device if joined() else torch.device("cpu")
        tensors = {
            f"{prefix}{name}": torch.tensor(value, dtype=torch.float64, device=device)
            for name, value in values.items()
        }
        # All processes have the same values: the maximum is exact, a mean may be rounded.
        self.log_dict(tensors, sync_dist=True, reduce_fx="max")

    # -------------------------------------------------------------- checkpoints

    def identity(self) -> dict[str, Any]:
        """Facts that a checkpoint must share with this module for a run to resume from it."""
        return {
            "recipe": self.recommender.recipe(),
            "dataset": self.dataset,
            "settings": self.settings,
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what is needed to rebuild the model without its data.

        Raises:
            DivergedError: a parameter is not finite; the earlier checkpoint stays.
        """
        check_parameters(self.recommender, self.current_epoch)
        checkpoint["kgrec"] = self.identity()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Checks that this run may resume from the checkpoint.

        Raises:
            CheckpointError: the checkpoint is of another data set, model or setting.
        """
        check_resume(checkpoint, self.identity())


def as_many_as_others(pieces: list[Any], device: torch.device) -> list[Any]:
    """Pieces of as many processes as have most: all read rows together, some without weight."""
    last, _ = pieces[-1]
    return pieces + [(last, 0.0)] * (largest_number(len(pieces), device) - len(pieces))


def _key(stage: str, loader: str) -> str:
    return f"{stage}_{loader.strip('/')}"
