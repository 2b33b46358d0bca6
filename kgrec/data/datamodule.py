"""The LightningDataModule: batches of index tensors from a split data set."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch

from kgrec.data.batches import Epochs, PointwiseBatch, RowBatches, own_rows
from kgrec.data.dataset import RecDataset
from kgrec.data.training_rows import training_rows
from kgrec.errors import ConfigError

CALLS_PER_EPOCH = 20


class KGDataModule(pl.LightningDataModule):
    """Data module with training rows and negatives, and with the rows of validation and test.

    Under ``protocol=clean`` validation and test have a second loader: the same positives with
    popularity-matched negatives. Each of several processes gets its own rows.

    Args:
        dataset: a split data set.
        batch_size: training rows in a batch, over all processes.
        eval_batch_size: rows in a batch for scoring.
        negatives: "resampled" (drawn in each epoch from the items that are not a training positive
            of the user) or "static".
        ratio: negatives for each positive, if resampled.
        seed: seed of the run.
        steps_per_call: optimiser steps in one call of training_step; None: about 20 calls in an
            epoch, so that progress is visible and the trainer's own work costs little.
        ranking: "full" (all items for all users), "released" (100 random users, as in the code of
            the KGCN authors) or "none".
        kinds: types of the batches of a training step, as in ``Recommender.batches``.

    Raises:
        ConfigError: a value that cannot work.
    """

    def __init__(
        self,
        dataset: RecDataset,
        batch_size: int,
        eval_batch_size: int,
        negatives: str = "resampled",
        ratio: int = 1,
        seed: int = 0,
        steps_per_call: int | None = 1,
        ranking: str = "full",
        kinds: tuple[Any, ...] = (PointwiseBatch,),
    ) -> None:
        super().__init__()
        if negatives not in ("resampled", "static"):
            raise ConfigError(f"negatives.name: found {negatives!r}, expected resampled or static")
        if not isinstance(ratio, int) or ratio < 1 or (negatives == "static" and ratio != 1):
            expected = "1 (static negatives are drawn once)" if negatives == "static" else ">= 1"
            raise ConfigError(f"negatives.ratio: found {ratio}, expected {expected}")
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigError(f"batch_size: found {batch_size}, expected an integer >= 1")
        if ranking not in ("full", "released", "none"):
            raise ConfigError(f"ranking.name: found {ranking!r}, expected full, released or none")
        self.dataset = dataset
        self.ranking = ranking
        self.seed = seed
        self.eval_batch_size = eval_batch_size
        static = dataset.static_negatives if negatives == "static" else None
        self.train_batches = Epochs(
            training_rows(
                kinds, dataset.train, dataset.graph, static, ratio, seed, dataset.train_weights
            ),
            batch_size,
            epoch=lambda: self.trainer.current_epoch if self.trainer else 0,
            place=lambda: self._place,
        )
        if steps_per_call is None:
            steps_per_call = max(1, self.train_batches.num_steps // CALLS_PER_EPOCH)
        self.train_batches.steps_per_call = steps_per_call

    def check_devices(self, count: int) -> None:
        """Checks that there are rows for every device.

        Raises:
            ConfigError: there are fewer rows than devices.
        """
        held_out = [self.dataset.val, *self.dataset.matched.values()]
        rows = [self.train_batches.num_rows, *map(len, held_out)]
        least = min((n for n in rows if n), default=count)
        if least < count:
            raise ConfigError(
                f"trainer.devices: found {count} devices, expected at most {least}, the number of "
                "rows for training or validation"
            )

    def train_dataloader(self) -> Epochs:
        """The training batches of an epoch, drawn on the trainer's device."""
        return self.train_batches.to(self._device)

    def val_dataloader(self) -> list[RowBatches]:
        """Validation rows; under clean also the popularity-matched rows."""
        return self._held_out("val")

    def test_dataloader(self) -> list[RowBatches]:
        """Test rows; under clean also the popularity-matched rows."""
        return self._held_out("test")

    def _held_out(self, name: str) -> list[RowBatches]:
        parts = [self.dataset.val if name == "val" else self.dataset.test]
        parts += [self.dataset.matched[name]] if name in self.dataset.matched else []
        own = [rows.take(own_rows(len(rows), *self._place)) for rows in parts]
        return [RowBatches(rows.to(self._device), self.eval_batch_size) for rows in own]

    @property
    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    @property
    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """The batch itself, which was made on the device."""
        return batch
