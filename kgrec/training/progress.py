"""A progress bar of one line, which log lines do not break."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm


class ProgressBar(TQDMProgressBar):
    """A bar for the epoch that is trained, cleared while a log line is written above it.

    Validation has no bar of its own: the bar says that the epoch is validated.
    """

    BAR_FORMAT = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"

    def __init__(self) -> None:
        super().__init__(refresh_rate=1, leave=False)
        self._handlers: list[logging.StreamHandler[Any]] = []

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Shows no metric: the line of the epoch has the metrics."""
        return {}

    def init_train_tqdm(self) -> Tqdm:
        """The bar, which leaves nothing on the terminal when it is closed."""
        bar = super().init_train_tqdm()
        bar.leave = False
        return bar

    def init_validation_tqdm(self) -> Tqdm:
        """Shows no bar for validation."""
        return Tqdm(disable=True)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Makes log lines clear the bar first."""
        super().setup(trainer, pl_module, stage)
        if not self._handlers and not self.is_disabled:
            for handler in logging.getLogger().handlers:
                stream = getattr(handler, "stream", None)
                if isinstance(handler, logging.StreamHandler) and stream in _terminals():
                    handler.setStream(_AboveTheBar(stream))
                    self._handlers.append(handler)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Closes the bar, and lets log lines be written as before."""
        self._restore()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Closes the bar, so that the error message has a line of its own."""
        self._restore()

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Counts epochs from 1, as the line of the epoch does."""
        bar = self.train_progress_bar
        bar.set_description_str(f"epoch {trainer.current_epoch + 1:3d}", refresh=False)
        bar.reset(total=self.total_train_batches)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Says that the epoch is validated."""
        super().on_validation_start(trainer, pl_module)
        if self._train_progress_bar is not None and not trainer.sanity_checking:
            bar = self.train_progress_bar
            bar.set_description_str(f"epoch {trainer.current_epoch + 1:3d}, validation")

    def _restore(self) -> None:
        if self._train_progress_bar is not None:
            self._train_progress_bar.close()
        for handler in self._handlers:
            if isinstance(handler.stream, _AboveTheBar):
                handler.setStream(handler.stream.stream)
        self._handlers.clear()


class _AboveTheBar:
    """A stream whose text is written while the bar is cleared."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        Tqdm.write(text, file=self.stream, end="")

    def flush(self) -> None:
        self.stream.flush()


def _terminals() -> tuple[TextIO, TextIO]:
    return sys.stdout, sys.stderr


def progress_bar() -> Callback | None:
    """A progress bar if output goes to a terminal; otherwise the line of each epoch is enough."""
    return ProgressBar() if sys.stdout.isatty() else None
