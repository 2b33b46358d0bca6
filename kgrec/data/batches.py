"""Typed batches of index tensors, and the iterables that make an epoch of them.

Shapes: B rows of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from kgrec.data.draws import generator
from kgrec.data.interactions import Interactions, LabelledRows
from kgrec.data.negatives import NegativeSampler


class PointwiseBatch(NamedTuple):
    """Rows with a label each.

    Attributes:
        users: (B,) int64.
        items: (B,) int64.
        labels: (B,) float32, 1 positive, 0 negative.
    """

    users: Tensor
    items: Tensor
    labels: Tensor


class PointwiseEpochs:
    """All training rows of an epoch, shuffled, in slices.

    The epoch's number is read when the first batch is asked for, not when the iterator is made:
    a trainer that prefetches before it has restored the epoch of a resumed run would otherwise
    replay the draw of another epoch.

    Args:
        positives: training positives.
        static_negatives: (users, items) to train on in every epoch, or None to draw anew.
        ratio: negatives a positive, when drawn anew.
        batch_size: rows a batch; the last may be smaller.
        seed: of the run.
        epoch: tells the number of the epoch to come.
    """

    def __init__(
        self,
        positives: Interactions,
        static_negatives: tuple[Tensor, Tensor] | None,
        ratio: int,
        batch_size: int,
        seed: int,
        epoch: Callable[[], int],
    ) -> None:
        self.positives = positives
        self.static_negatives = static_negatives
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch
        self._sampler = NegativeSampler(positives)
        self._asked = positives.users.repeat(ratio)  # one negative a row
        drawable = int((self._sampler.free[self._asked] > 0).sum())
        self.undrawable = 0 if static_negatives else len(self._asked) - drawable
        self.num_rows = len(positives) + (
            len(static_negatives[0]) if static_negatives else drawable
        )

    def __len__(self) -> int:
        return math.ceil(self.num_rows / self.batch_size)

    def rows(self, epoch: int) -> LabelledRows:
        """All rows of one epoch, in the order in which they are served."""
        negatives = self.static_negatives
        if negatives is None:
            negatives = self._sampler.draw(self._asked, generator(self.seed, "negatives", epoch))
        rows = LabelledRows.from_parts((self.positives.users, self.positives.items), negatives)
        return rows.take(torch.randperm(len(rows), generator=generator(self.seed, "order", epoch)))

    def __iter__(self) -> Iterator[tuple[PointwiseBatch]]:
        for batch in RowBatches(self.rows(self.epoch()), self.batch_size):
            yield (batch,)


class RowBatches:
    """Fixed rows in slices, in their order.

    Args:
        rows: what to serve.
        batch_size: rows a batch; the last may be smaller.
    """

    def __init__(self, rows: LabelledRows, batch_size: int) -> None:
        self.rows = rows
        self.batch_size = batch_size

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.batch_size)

    def __iter__(self) -> Iterator[PointwiseBatch]:
        parts = (self.rows.users, self.rows.items, self.rows.labels)
        for slices in zip(*(torch.split(part, self.batch_size) for part in parts), strict=True):
            yield PointwiseBatch(*slices)
