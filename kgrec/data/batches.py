"""Typed batches of index tensors, and the iterables that yield them.

Shapes: B rows of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from kgrec.data.interactions import LabelledRows


class PointwiseBatch(NamedTuple):
    """User-item pairs with labels.

    Attributes:
        users: (B,) int64.
        items: (B,) int64.
        labels: (B,) float32, 1 for a positive and 0 for a negative.
    """

    users: Tensor
    items: Tensor
    labels: Tensor


class PairwiseBatch(NamedTuple):
    """Users, each with a positive and a negative item.

    Attributes:
        users: (B,) int64.
        positives: (B,) int64, positive items.
        negatives: (B,) int64, negative items.
    """

    users: Tensor
    positives: Tensor
    negatives: Tensor


class ListwiseBatch(NamedTuple):
    """Users, each with a positive item and a list of n negative items.

    Attributes:
        users: (B,) int64.
        positives: (B,) int64, positive items.
        negatives: (B, n) int64, negative items. Where all rows share one list it is expanded, so
            that :meth:`shared` finds it.
        log_q: (B, n) float32, what the sampling distribution is corrected by
            (:mod:`kgrec.models.objectives`); ∞ where a negative does not count.
    """

    users: Tensor
    positives: Tensor
    negatives: Tensor
    log_q: Tensor

    def shared(self) -> Tensor | None:
        """(n,) the one list of negatives that all rows share; None: each row has its own."""
        return self.negatives[0] if self.negatives.stride(0) == 0 else None


class TripleBatch(NamedTuple):
    """Triples of the graph, each with a corrupted triple in which head or tail was replaced.

    Attributes:
        heads: (B,) int64, entities.
        relations: (B,) int64.
        tails: (B,) int64, entities.
        corrupted_heads: (B,) int64; ``heads`` where the tail was replaced.
        corrupted_tails: (B,) int64; ``tails`` where the head was replaced.
    """

    heads: Tensor
    relations: Tensor
    tails: Tensor
    corrupted_heads: Tensor
    corrupted_tails: Tensor


class Step(NamedTuple):
    """The part of one optimiser step that one process computes.

    Attributes:
        batches: one batch of each kind, with the rows of this process.
        weight: factor of the loss, with which the mean over processes is the mean over all rows
            of the step.
    """

    batches: tuple[Any, ...]
    weight: float


def own_rows(n: int, rank: int, world_size: int) -> slice:
    """Rows of one process among n: contiguous, in the order of ranks, nearly equal in number."""
    return slice(rank * n // world_size, (rank + 1) * n // world_size)


class TrainingRows(Protocol):
    """Source of all training rows of one kind.

    Attributes:
        batch: type of the batches.
        num_rows: n, number of rows in every epoch.
        undrawable: number of negatives that cannot be drawn; the rows do not include them.
    """

    batch: ClassVar[Any]
    num_rows: int
    undrawable: int

    def to(self, device: torch.device) -> None:
        """Moves the source to a device; later draws are made there."""

    def draw(self, epoch: int) -> tuple[Tensor, ...]:
        """The columns of a batch, (n,) each, shuffled."""

    def batches(self, epoch: int, batch_size: int) -> Iterator[Any]:
        """The batches of an epoch, over all processes."""
        columns = (torch.split(column, batch_size) for column in self.draw(epoch))
        return (self.batch(*slices) for slices in zip(*columns, strict=True))


class Epochs:
    """Iterable over the shuffled training rows of an epoch, several steps at a time.

    The number of the epoch is read with the first batch, not when the iterator is made. A trainer
    that prefetches before it has restored the epoch of a resumed run would otherwise repeat the
    draw of another epoch.

    Each of several processes draws the whole epoch in the same way and yields its own rows of
    every step. So all processes have the same number of steps, and together they take the steps
    of a single process.

    Args:
        sources: one source for each kind of batch in a step; all have the same number of rows.
        batch_size: rows in a step, over all processes; the last step may be smaller.
        epoch: function that returns the number of the next epoch.
        steps_per_call: number of steps in one item of the iterable.
        place: function that returns rank and number of the processes.

    Attributes:
        num_rows: number of rows in an epoch.
        num_steps: number of steps in an epoch.
    """

    def __init__(
        self,
        sources: Sequence[TrainingRows],
        batch_size: int,
        epoch: Callable[[], int],
        steps_per_call: int = 1,
        place: Callable[[], tuple[int, int]] = lambda: (0, 1),
    ) -> None:
        self.sources = tuple(sources)
        self.batch_size = batch_size
        self.epoch = epoch
        self.steps_per_call = steps_per_call
        self.place = place
        self.num_rows = self.sources[0].num_rows
        self.num_steps = math.ceil(self.num_rows / batch_size)

    def to(self, device: torch.device | str) -> Epochs:
        """Moves the sources to a device, where rows are then drawn, shuffled and cut."""
        for source in self.sources:
            source.to(torch.device(device))
        return self

    def __len__(self) -> int:
        return math.ceil(self.num_steps / self.steps_per_call)

    def __iter__(self) -> Iterator[list[Step]]:
        """Yields lists of ``steps_per_call`` steps."""
        epoch, (rank, world_size) = self.epoch(), self.place()
        sources = (source.batches(epoch, self.batch_size) for source in self.sources)
        whole = zip(*sources, strict=True)
        steps = (_own_part(batches, rank, world_size) for batches in whole)
        while group := list(islice(steps, self.steps_per_call)):
            yield group


def _own_part(batches: tuple[Any, ...], rank: int, world_size: int) -> Step:
    """The part of a step that one process computes."""
    if world_size == 1:
        return Step(batches, 1.0)
    n = len(batches[0][0])
    rows = own_rows(n, rank, world_size)
    weight = world_size * (rows.stop - rows.start) / n
    if weight == 0:
        # DistributedDataParallel waits for a backward pass on every process. The row is one of
        # this step, so that a lazy optimiser updates no row that a single process would not.
        rows = slice(0, 1)
    return Step(tuple(batch._make(column[rows] for column in batch) for batch in batches), weight)


class RowBatches:
    """Iterable over fixed rows in their order.

    Args:
        rows: the rows.
        batch_size: rows in a batch; the last batch may be smaller.
        num_batches: number of batches of nearly equal size, for processes that must have equally
            many; None: as many as the size asks for.
    """

    def __init__(self, rows: LabelledRows, batch_size: int, num_batches: int | None = None) -> None:
        self.rows = rows
        self.batch_size = batch_size
        self.num_batches = num_batches

    def __len__(self) -> int:
        if self.num_batches is not None:
            return self.num_batches
        return math.ceil(len(self.rows) / self.batch_size)

    def __iter__(self) -> Iterator[PointwiseBatch]:
        parts = (self.rows.users, self.rows.items, self.rows.labels)
        even = self.num_batches
        split = (
            (torch.split(part, self.batch_size) for part in parts)
            if even is None
            else (torch.tensor_split(part, even) for part in parts)
        )
        for slices in zip(*split, strict=True):
            yield PointwiseBatch(*slices)
