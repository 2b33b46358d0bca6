"""The LightningDataModule: batches of index tensors from a split data set."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch

from kgrec.data.batches import Epochs, ListwiseBatch, PointwiseBatch, RowBatches, own_rows
from kgrec.data.dataset import RecDataset
from kgrec.data.interactions import Interactions
from kgrec.data.listwise_rows import InBatchRows, ListwiseRows, SharedRows
from kgrec.data.negatives import NegativeSampler, Sampler
from kgrec.data.popularity_sampler import PopularitySampler
from kgrec.data.training_rows import training_rows
from kgrec.errors import ConfigError, listed

NEGATIVES = ("resampled", "static", "popularity", "in_batch", "shared")
ITEMS = ("catalogue", "trained")
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
            of the user), "popularity" (so, but in proportion to popularity), "static", "in_batch"
            (the positives of the other rows of a step), or "shared" (one list for all rows of a
            step).
        ratio: negatives for each positive, if resampled or by popularity.
        seed: seed of the run.
        steps_per_call: optimiser steps in one call of training_step; None: about 20 calls in an
            epoch, so that progress is visible and the trainer's own work costs little.
        ranking: "full" (all items for all users), "released" (100 random users, as in the code of
            the KGCN authors) or "none".
        kinds: types of the batches of a training step, as in ``Recommender.step_batches``.
        power: power of the popularity, to which the probability of a negative is proportional.
        items: "catalogue": negatives are drawn from all items. "trained": only from items with a
            training positive, because a new item is unknown and not disliked.

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
        power: float = 1.0,
        items: str = "catalogue",
    ) -> None:
        super().__init__()
        _check_negatives(negatives, ratio, power, items, kinds[0])
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigError(f"batch_size: found {batch_size}, expected an integer >= 1")
        if ranking not in ("full", "released", "none"):
            raise ConfigError(f"ranking.name: found {ranking!r}, expected full, released or none")
        self.dataset = dataset
        self.ranking = ranking
        self.seed = seed
        self.eval_batch_size = eval_batch_size
        static = dataset.static_negatives if negatives == "static" else None
        among = dataset.training_items
        if items == "trained":
            among = torch.unique(dataset.train.items)
        sampler: Callable[[Interactions], Sampler] = NegativeSampler
        if among is not None:
            sampler = partial(NegativeSampler, among=among)
        if negatives == "popularity":
            sampler = partial(PopularitySampler, power=float(power))
        lists: dict[str, Callable[..., ListwiseRows]] = {
            "in_batch": InBatchRows,
            "shared": partial(SharedRows, among=among),
        }
        positives, weights = dataset.train, dataset.train_weights
        self.train_batches = Epochs(
            training_rows(
                kinds,
                positives,
                dataset.graph,
                static,
                ratio,
                seed,
                weights,
                sampler,
                lists.get(negatives),
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
        processes, size = self._place[1], self.eval_batch_size
        batches = []
        for rows in parts:
            own = rows.take(own_rows(len(rows), *self._place)).to(self._device)
            # Processes that share a table read it equally often.
            even = math.ceil(math.ceil(len(rows) / processes) / size) if processes > 1 else None
            batches.append(RowBatches(own, size, even))
        return batches

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


def _check_negatives(name: str, ratio: Any, power: Any, items: Any, kind: Any) -> None:
    """Checks settings of the training negatives, for the batch type of interactions.

    Raises:
        ConfigError: a value that cannot work.
    """
    if name not in NEGATIVES:
        raise ConfigError(f"negatives.name: found {name!r}, expected one of {listed(NEGATIVES)}")
    once = {
        "static": "static negatives are drawn once",
        "in_batch": "a step has no other negatives",
    }
    if not isinstance(ratio, int) or ratio < 1 or (name in once and ratio != 1):
        expected = f"1 ({once[name]})" if name in once else ">= 1"
        raise ConfigError(f"negatives.ratio: found {ratio}, expected {expected}")
    if isinstance(power, bool) or not isinstance(power, int | float) or not 0 <= power <= 10:
        raise ConfigError(f"negatives.power: found {power!r}, expected a number from 0 to 10")
    if items not in ITEMS:
        raise ConfigError(f"negatives.items: found {items!r}, expected one of {listed(ITEMS)}")
    if name in ("in_batch", "shared") and kind is not ListwiseBatch:
        raise ConfigError(
            f"negatives.name: found {name!r}, expected resampled, static or popularity: only "
            "loss=softmax takes negatives that rows share"
        )
    if name == "static" and kind is ListwiseBatch:
        raise ConfigError(
            "negatives.name: found 'static', expected resampled, popularity, in_batch or shared "
            "for loss=softmax"
        )
