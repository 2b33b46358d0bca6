"""Typed batches of index tensors, and the iterables that serve them.

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
    """Rows with a label each.

    Attributes:
        users: (B,) int64.
        items: (B,) int64.
        labels: (B,) float32, 1 positive, 0 negative.
    """

    users: Tensor
    items: Tensor
    labels: Tensor


class PairwiseBatch(NamedTuple):
    """Rows with one item that the user likes and one drawn for comparison.

    Attributes:
        users: (B,) int64.
        positives: (B,) int64 items.
        negatives: (B,) int64 items.
    """

    users: Tensor
    positives: Tensor
    negatives: Tensor


class TripleBatch(NamedTuple):
    """Triples of the graph, each with a corrupted one in which head or tail was replaced.

    Attributes:
        heads: (B,) int64 entities.
        relations: (B,) int64.
        tails: (B,) int64 entities.
        corrupted_heads: (B,) int64; ``heads`` where the tail was replaced.
        corrupted_tails: (B,) int64; ``tails`` where the head was replaced.
    """

    heads: Tensor
    relations: Tensor
    tails: Tensor
    corrupted_heads: Tensor
    corrupted_tails: Tensor


class Step(NamedTuple):
    """What one process does of one optimiser step.

    Attributes:
        batches: one batch of each kind, of this process's rows.
        weight: what its loss is multiplied by, so that the mean over processes is the mean over
            all rows of the step.
    """

    batches: tuple[Any, ...]
    weight: float


def own_rows(n: int, rank: int, world_size: int) -> slice:
    """Of n rows those of one process: contiguous, in the order of ranks, as equal as can be."""
    return slice(rank * n // world_size, (rank + 1) * n // world_size)


class TrainingRows(Protocol):
    """All rows of an epoch, of one kind.

    Attributes:
        batch: the type of batch that slices of the columns make.
        num_rows: n, of every epoch.
        undrawable: negatives that no epoch can draw; they are not among the rows.
    """

    batch: ClassVar[Any]
    num_rows: int
    undrawable: int

    def to(self, device: torch.device) -> None:
        """Moves itself; what it draws from then on is on that device."""

    def draw(self, epoch: int) -> tuple[Tensor, ...]:
        """The columns of a batch, (n,) each, shuffled."""


class Epochs:
    """All training rows of an epoch, shuffled, in slices, several steps at a time.

    The epoch's number is read when the first batch is asked for, not when the iterator is made:
    a trainer that prefetches before it has restored the epoch of a resumed run would otherwise
    replay the draw of another epoch.

    Each of several processes draws the whole epoch, alike, and serves its rows of every step; so
    all have the same number of steps, and together they take those of one process.

    Args:
        sources: of each kind of batch that a step eats; all have the same number of rows.
        batch_size: rows a step, over all processes; the last may be smaller.
        epoch: tells the number of the epoch to come.
        steps_per_call: steps served at once.
        place: tells rank and number of the processes; read with the epoch's number.

    Attributes:
        num_rows: rows of an epoch.
        num_steps: steps of an epoch.
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
        """Moves itself: from then on rows are drawn, shuffled and cut on that device."""
        for source in self.sources:
            source.to(torch.device(device))
        return self

    def __len__(self) -> int:
        return math.ceil(self.num_steps / self.steps_per_call)

    def __iter__(self) -> Iterator[list[Step]]:
        """Lists of ``steps_per_call`` steps."""
        epoch, (rank, world_size) = self.epoch(), self.place()
        whole = zip(*(self._batches(source, epoch) for source in self.sources), strict=True)
        steps = (_own_part(batches, rank, world_size) for batches in whole)
        while group := list(islice(steps, self.steps_per_call)):
            yield group

    def _batches(self, source: TrainingRows, epoch: int) -> Iterator[Any]:
        columns = (torch.split(column, self.batch_size) for column in source.draw(epoch))
        return (source.batch(*slices) for slices in zip(*columns, strict=True))


def _own_part(batches: tuple[Any, ...], rank: int, world_size: int) -> Step:
    """One process's part of a step."""
    if world_size == 1:
        return Step(batches, 1.0)
    n = len(batches[0][0])
    rows = own_rows(n, rank, world_size)
    weight = world_size * (rows.stop - rows.start) / n
    if weight == 0:
        # DistributedDataParallel waits for a backward pass on every process. A row of the step's
        # own, so that a lazy optimiser touches no row that one process would not.
        rows = slice(0, 1)
    return Step(tuple(batch._make(column[rows] for column in batch) for batch in batches), weight)


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
