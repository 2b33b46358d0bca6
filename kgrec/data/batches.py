"""Typed batches of index tensors, and the iterables that make an epoch of them.

Shapes: B rows of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import islice
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
    """All training rows of an epoch, shuffled, in slices, several steps at a time.

    The epoch's number is read when the first batch is asked for, not when the iterator is made:
    a trainer that prefetches before it has restored the epoch of a resumed run would otherwise
    replay the draw of another epoch.

    Args:
        positives: training positives.
        static_negatives: (users, items) to train on in every epoch, or None to draw anew.
        ratio: negatives a positive, when drawn anew.
        batch_size: rows a step; the last may be smaller.
        seed: of the run.
        epoch: tells the number of the epoch to come.
        steps_per_call: steps served at once.

    Attributes:
        num_rows: rows of an epoch.
        num_steps: steps of an epoch.
        undrawable: negatives that no epoch can draw, their users having every item.
    """

    def __init__(
        self,
        positives: Interactions,
        static_negatives: tuple[Tensor, Tensor] | None,
        ratio: int,
        batch_size: int,
        seed: int,
        epoch: Callable[[], int],
        steps_per_call: int = 1,
    ) -> None:
        self.static_negatives = static_negatives
        self.ratio = ratio
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch
        self.steps_per_call = steps_per_call
        self._place(positives)
        drawable = int((self._sampler.free[self._asked] > 0).sum())
        self.undrawable = 0 if static_negatives else len(self._asked) - drawable
        self.num_rows = len(positives) + (
            len(static_negatives[0]) if static_negatives else drawable
        )
        self.num_steps = math.ceil(self.num_rows / batch_size)

    def _place(self, positives: Interactions) -> None:
        self.positives = positives
        self._sampler = NegativeSampler(positives)
        self._asked = positives.users.repeat(self.ratio)  # one negative a row

    def to(self, device: torch.device | str) -> PointwiseEpochs:
        """Moves itself: from then on rows are drawn, shuffled and cut on that device."""
        if self.positives.users.device != torch.device(device):
            self._place(self.positives.to(device))
            if self.static_negatives is not None:
                users, items = self.static_negatives
                self.static_negatives = users.to(device), items.to(device)
        return self

    def __len__(self) -> int:
        return math.ceil(self.num_steps / self.steps_per_call)

    def rows(self, epoch: int) -> LabelledRows:
        """All rows of one epoch, in the order in which they are served."""
        device = self.positives.users.device
        negatives = self.static_negatives
        if negatives is None:
            draw = generator(self.seed, "negatives", epoch, device)
            negatives = self._sampler.draw(self._asked, draw)
        rows = LabelledRows.from_parts((self.positives.users, self.positives.items), negatives)
        order = generator(self.seed, "order", epoch, device)
        return rows.take(torch.randperm(len(rows), generator=order, device=device))

    def __iter__(self) -> Iterator[list[tuple[PointwiseBatch]]]:
        """Lists of ``steps_per_call`` steps; a step is one batch of each kind."""
        steps = ((batch,) for batch in RowBatches(self.rows(self.epoch()), self.batch_size))
        while group := list(islice(steps, self.steps_per_call)):
            yield group


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
