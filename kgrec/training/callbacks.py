"""Callbacks: checkpoints, early stopping, and what is logged after each epoch."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint

from kgrec.errors import ConfigError
from kgrec.files import make_folder
from kgrec.runs.status import read_status, update
from kgrec.sharding.exchange import MOVED, Moved
from kgrec.training.checkpoint_files import copy_checkpoint
from kgrec.training.distributed import is_first
from kgrec.training.module import RecommenderModule

log = logging.getLogger(__name__)

MONITOR = "val/auc"

# What reads of shared tables have sent in an optimiser step, 10^6 bytes, and their share of time.
EXCHANGED, EXCHANGE_SHARE = "speed/exchange_mb_per_step", "speed/exchange_share"


class BestCheckpoint(ModelCheckpoint):
    """Keeps ``best.ckpt``, the epoch with the highest validation metric.

    A run that resumes in another folder copies the best checkpoint so far into it. So it ends as an
    uninterrupted run does.

    Args:
        dirpath: folder of the checkpoints.
        monitor: name of the metric.
        resume_from: checkpoint that the run resumes from, or None.
    """

    def __init__(
        self, dirpath: str, monitor: str = MONITOR, resume_from: str | None = None
    ) -> None:
        self._resumed_folder = None if resume_from is None else Path(resume_from).parent
        super().__init__(
            dirpath=dirpath,
            filename="best",
            monitor=monitor,
            mode="max",
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Checks that there is a best epoch.

        Raises:
            ConfigError: the training ended before its first validation.
        """
        super().on_train_end(trainer, pl_module)
        if not self.best_model_path:
            raise ConfigError(
                "trainer: found a training that ended before its first validation, expected an "
                "epoch to keep: allow more steps (max_steps, max_time), or validate more often "
                "(check_val_every_n_epoch)"
            )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the state, and copies the best checkpoint into this run's folder.

        Raises:
            ConfigError: the best checkpoint is missing.
        """
        folder, resumed = Path(str(self.dirpath)), self._resumed_folder
        best = Path(state_dict["best_model_path"])
        if resumed is not None and (resumed / best.name).exists():
            best = resumed / best.name  # the run folder may have been moved
        if not best.exists():
            raise ConfigError(
                f"ckpt_path: found no {best}, expected the best checkpoint of the run to resume"
            )
        target = folder / best.name
        if best.resolve() != target.resolve() and is_first():
            make_folder(folder)
            copy_checkpoint(best, target)
        moved = {
            **state_dict,
            "dirpath": str(self.dirpath),
            "best_model_path": str(target),
            "best_k_models": dict.fromkeys([str(target)], state_dict["best_model_score"]),
            "kth_best_model_path": str(target),
            "last_model_path": "",
        }
        super().load_state_dict(moved)


class LastCheckpoint(ModelCheckpoint):
    """Keeps ``last.ckpt``, the latest epoch, from which a run can resume.

    Lightning's own ``save_last`` is written together with the best checkpoint, so it may be older.

    Args:
        dirpath: folder of the checkpoints.
    """

    def __init__(self, dirpath: str) -> None:
        super().__init__(
            dirpath=dirpath,
            filename="last",
            enable_version_counter=False,
            save_on_train_epoch_end=True,  # also after an epoch without validation
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores nothing: the resumed run writes a file of its own."""


class Patience(EarlyStopping):
    """Early stopping with the patience of this run, also when the resumed run had another one.

    A run may be interrupted after its last epoch, when its patience is used up. It has nothing left
    to train: when it resumes, it is tested at once.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores everything but the patience."""
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Ends the training before its first epoch if the patience is used up."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True
            log.info(
                "patience=%d is used up (%d epochs were not better): nothing is left to train",
                self.patience,
                self.wait_count,
            )


def early_stopping(patience: int | None, monitor: str = MONITOR) -> Callback | None:
    """Stops after ``patience`` validations without a higher metric; None: never stops.

    Raises:
        ConfigError: patience is not a positive integer.
    """
    if patience is None:
        return None
    if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
        raise ConfigError(f"patience: found {patience!r}, expected an integer >= 1, or null")
    return Patience(monitor=monitor, mode="max", patience=patience)


class EpochLog(Callback):
    """Logs one line per epoch, and the time that training takes without validation.

    Where processes share tables, it also logs what reads of these tables have sent in an optimiser
    step, and their share of the time: of this process in the line, the mean of all processes in the
    metrics. A run that resumes keeps what its earlier epochs took.

    Args:
        monitor: validation metric that the line shows.

    Attributes:
        seconds: training seconds of every epoch.
        exchange: metrics of the exchange in the last epoch; empty where no tables are shared.
    """

    def __init__(self, monitor: str = MONITOR) -> None:
        self.monitor = monitor
        self.seconds: list[float] = []
        self.exchange: dict[str, float] = {}
        self._fit_start = self._epoch_start = time.perf_counter()
        self._steps_before, self._moved_before = 0, Moved()  # at the start of an epoch
        # Seconds, optimiser steps and exchange of an epoch that has been trained.
        self._trained: tuple[float, int, Moved] | None = None
        self._before = 0.0  # seconds of training before the run was resumed

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, without the time between an interruption and its resume."""
        return time.perf_counter() - self._fit_start

    def state_dict(self) -> dict[str, Any]:
        """The times so far."""
        return {"seconds": self.seconds, "elapsed": self.elapsed, "exchange": self.exchange}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the times of the run that is resumed."""
        self.seconds = list(state_dict["seconds"])
        self.exchange = dict(state_dict.get("exchange", {}))  # which earlier versions lack
        self._before = state_dict["elapsed"]

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Starts the clock of the whole training, after a checkpoint has been restored."""
        self._fit_start = time.perf_counter() - self._before

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Starts the clock of the epoch."""
        self._epoch_start, self._trained = time.perf_counter(), None
        self._steps_before, self._moved_before = trainer.global_step, replace(MOVED)

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Stops the clock of the epoch: validation runs inside the training epoch."""
        self._trained = self._so_far(trainer)

    def _so_far(self, trainer: pl.Trainer) -> tuple[float, int, Moved]:
        """Seconds, optimiser steps and exchange of the epoch so far."""
        seconds = time.perf_counter() - self._epoch_start
        return seconds, trainer.global_step - self._steps_before, MOVED - self._moved_before

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Logs the line of the epoch, and its speed.

        An epoch without validation (``trainer.check_val_every_n_epoch``) shows no metric.
        """
        validated = self._trained is not None
        seconds, steps, moved = self._trained or self._so_far(trainer)
        self.seconds.append(seconds)
        speed = {"speed/seconds_per_epoch": seconds}
        if isinstance(module, RecommenderModule) and (rows := module.rows_in_epoch):
            speed["speed/rows_per_second"] = rows / seconds
        if moved.reads and steps:
            speed[EXCHANGED] = moved.sent / steps / 1e6
            speed[EXCHANGE_SHARE] = moved.seconds / seconds
            self.exchange = {
                name: _mean(trainer, module, speed[name]) for name in (EXCHANGED, EXCHANGE_SHARE)
            }
        module.log_dict(speed, sync_dist=True, logger=False)  # the mean over processes
        metrics = trainer.callback_metrics
        line = f"epoch {trainer.current_epoch + 1:3d}  {seconds:6.2f} s"
        line += f"  train/loss {float(metrics.get('train/loss', math.nan)):.4f}"
        if validated:
            line += f"  {self.monitor} {float(metrics.get(self.monitor, math.nan)):.4f}"
        if EXCHANGED in speed:
            line += f"  exchange {speed[EXCHANGED]:.3g} MB a step, {speed[EXCHANGE_SHARE]:.0%}"
        log.info(line)


def _mean(trainer: pl.Trainer, module: pl.LightningModule, value: float) -> float:
    """The mean of a number over all processes."""
    number = torch.tensor(value, device=module.device)
    return float(trainer.strategy.reduce(number, reduce_op="mean"))


class StatusFile(Callback):
    """Writes the progress of the training to status.json after each epoch.

    Args:
        folder: run folder.
        monitor: validation metric by which the epoch is chosen.
    """

    def __init__(self, folder: str, monitor: str) -> None:
        self.folder = Path(folder)
        self.monitor = monitor
        self.best: float | None = None
        self._begin = time.perf_counter()
        self._before = 0.0

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the best value of the run that is resumed."""
        self.best = state_dict["best"]

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Writes the largest number of epochs."""
        self._before = float(read_status(self.folder).get("before", 0.0))
        if trainer.is_global_zero:
            update(self.folder, epochs=trainer.max_epochs, monitor=self.monitor)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Writes the number of the epoch and its validation metric."""
        metric = trainer.callback_metrics.get(self.monitor)
        value = None if metric is None else float(metric)
        if value is not None:
            self.best = value if self.best is None else max(self.best, value)
        if trainer.is_global_zero:
            seconds = round(self._before + time.perf_counter() - self._begin, 3)
            update(
                self.folder, epoch=trainer.current_epoch + 1, value=value, best=self.best,
                seconds=seconds,
            )  # fmt: skip
