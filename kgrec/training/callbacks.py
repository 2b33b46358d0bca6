"""Callbacks: which epoch is kept, when to stop, what is said meanwhile."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.trainer.states import TrainerFn

from kgrec.data.datamodule import KGDataModule
from kgrec.errors import ConfigError
from kgrec.runs.status import read_status, update
from kgrec.training.distributed import is_first

log = logging.getLogger(__name__)

MONITOR = "val/auc"


class BestCheckpoint(ModelCheckpoint):
    """Keeps ``best.ckpt``, the epoch with the highest validation figure.

    A run that goes on in another folder takes the best checkpoint so far with it, so that it
    ends as an uninterrupted run would.

    Args:
        dirpath: where checkpoints go.
        monitor: the figure.
        resume_from: the checkpoint that the run goes on from, or None.
    """

    def __init__(
        self, dirpath: str, monitor: str = MONITOR, resume_from: str | None = None
    ) -> None:
        self._beside = Path(resume_from).parent if resume_from is not None else None
        super().__init__(
            dirpath=dirpath,
            filename="best",
            monitor=monitor,
            mode="max",
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the state, bringing the best checkpoint into this run's folder."""
        here = Path(str(self.dirpath))
        best = Path(state_dict["best_model_path"])
        if self._beside is not None and (self._beside / best.name).is_file():
            best = self._beside / best.name  # also where the run folder has been moved
        if not best.is_file():
            raise ConfigError(
                f"ckpt_path: found no {best}, expected the best checkpoint of the run to resume"
            )
        target = here / best.name
        if best.resolve() != target.resolve() and is_first():
            here.mkdir(parents=True, exist_ok=True)
            temporary = target.with_suffix(".incoming")
            shutil.copyfile(best, temporary)
            temporary.rename(target)
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
    """Keeps ``last.ckpt``, the latest epoch, from which a run can go on.

    Lightning's own ``save_last`` follows the best checkpoint, and so falls behind.

    Args:
        dirpath: where checkpoints go.
    """

    def __init__(self, dirpath: str) -> None:
        super().__init__(dirpath=dirpath, filename="last", enable_version_counter=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing is restored: the file of the run that goes on stays where it is."""


class Patience(EarlyStopping):
    """Early stopping that keeps the patience it is given when a run goes on.

    A run whose patience is used up, as one that was cut short after its last epoch, has nothing
    left to train and goes straight on to its test.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores everything but the patience."""
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Ends the training before its first epoch if the patience is used up."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True
            log.info(
                "patience=%d is used up, %d epochs were no better: nothing is left to train",
                self.patience,
                self.wait_count,
            )


def early_stopping(patience: int | None, monitor: str = MONITOR) -> Callback | None:
    """Stops after ``patience`` epochs without a higher validation figure; None: never.

    Raises:
        ConfigError: patience is no positive integer.
    """
    if patience is None:
        return None
    if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
        raise ConfigError(f"patience: found {patience!r}, expected an integer >= 1, or null")
    return Patience(monitor=monitor, mode="max", patience=patience)


def progress_bar() -> Callback | None:
    """A progress bar on a terminal; elsewhere the line per epoch is enough."""
    return TQDMProgressBar(refresh_rate=20, leave=False) if sys.stderr.isatty() else None


class EpochLog(Callback):
    """One line an epoch, and the time that training takes without validation.

    The times of a run that was cut short stay with it when it goes on.

    Args:
        monitor: the validation figure that it tells.

    Attributes:
        seconds: training seconds of every epoch.
    """

    def __init__(self, monitor: str = MONITOR) -> None:
        self.monitor = monitor
        self.seconds: list[float] = []
        self._start = self._begun = time.perf_counter()
        self._before = 0.0  # seconds of training before the run was resumed

    @property
    def elapsed(self) -> float:
        """Seconds since the run began, those between its sittings left out."""
        return time.perf_counter() - self._begun

    def state_dict(self) -> dict[str, Any]:
        """The times so far."""
        return {"seconds": self.seconds, "elapsed": self.elapsed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the times of the run that goes on."""
        self.seconds = list(state_dict["seconds"])
        self._before = state_dict["elapsed"]

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Starts the clock of the whole training, after a checkpoint has been restored."""
        self._begun = time.perf_counter() - self._before

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Starts the clock."""
        self._start = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Stops the clock: validation runs inside the training epoch."""
        if trainer.state.fn == TrainerFn.FITTING:
            self.seconds.append(time.perf_counter() - self._start)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Says how the epoch went, and logs how fast."""
        figures = trainer.callback_metrics
        seconds = self.seconds[-1] if self.seconds else time.perf_counter() - self._start
        speed = {"speed/seconds_per_epoch": seconds}
        data = getattr(trainer, "datamodule", None)
        if isinstance(data, KGDataModule):
            speed["speed/rows_per_second"] = data.train_batches.num_rows / seconds
        module.log_dict(speed, sync_dist=True)
        log.info(
            "epoch %3d  %6.2f s  train/loss %.4f  %s %.4f",
            trainer.current_epoch + 1,
            seconds,
            float(figures.get("train/loss", float("nan"))),
            self.monitor,
            float(figures.get(self.monitor, float("nan"))),
        )


class StatusFile(Callback):
    """Writes after each epoch how far the training is.

    Args:
        folder: the run folder.
        monitor: the validation figure by which the epoch is chosen.
    """

    def __init__(self, folder: str, monitor: str) -> None:
        self.folder = Path(folder)
        self.monitor = monitor
        self.best: float | None = None
        self._begin = time.perf_counter()
        self._before = 0.0

    def state_dict(self) -> dict[str, Any]:
        """The best figure so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the best figure of the run that goes on."""
        self.best = state_dict["best"]

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Says how many epochs there may be."""
        self._before = float(read_status(self.folder).get("before", 0.0))
        if trainer.is_global_zero:
            update(self.folder, epochs=trainer.max_epochs, monitor=self.monitor)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Says which epoch is done, and its validation figure."""
        value = trainer.callback_metrics.get(self.monitor)
        now = None if value is None else float(value)
        if now is not None:
            self.best = now if self.best is None else max(self.best, now)
        if trainer.is_global_zero:
            seconds = round(self._before + time.perf_counter() - self._begin, 3)
            update(
                self.folder, epoch=trainer.current_epoch + 1, value=now, best=self.best,
                seconds=seconds,
            )  # fmt: skip
