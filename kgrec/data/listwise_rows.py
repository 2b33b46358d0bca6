"""Training rows of an epoch with a list of negatives for each positive.

Shapes: n rows of an epoch, B rows of a batch, m negatives of a positive.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from kgrec.data.batches import ListwiseBatch, TrainingRows
from kgrec.data.draws import generator
from kgrec.data.interactions import Interactions
from kgrec.data.negatives import NegativeSampler, Sampler
from kgrec.data.weights import WeightedDraw


class ListwiseRows(TrainingRows):
    """Training positives, each with a list of sampled negatives of the same user.

    The negatives are drawn step by step: those of a whole epoch may not fit in memory.

    Args:
        positives: training positives.
        ratio: m.
        seed: seed of the run.
        weights: (len(positives),) float64, weights by which the positives of an epoch are drawn;
            None: every positive once.
        sampler: function from the positives to the sampler of negatives.
    """

    batch: ClassVar[Any] = ListwiseBatch

    def __init__(
        self,
        positives: Interactions,
        ratio: int = 1,
        seed: int = 0,
        weights: Tensor | None = None,
        sampler: Callable[[Interactions], Sampler] = NegativeSampler,
    ) -> None:
        self.ratio, self.seed = ratio, seed
        self._make_sampler = sampler
        self._place(positives)
        self.num_rows = int(self._drawable.sum())
        self.undrawable = (len(positives) - self.num_rows) * ratio
        self._weighted = None
        if weights is not None:
            self._weighted = WeightedDraw(weights[self._drawable], None, seed)

    def _place(self, positives: Interactions) -> None:
        self.positives = positives
        self._sampler = self._make_sampler(positives)
        self._drawable = self._sampler.num_drawable[positives.users] > 0

    def to(self, device: torch.device) -> None:
        """Moves the rows to a device."""
        if self.positives.users.device != device:
            self._place(self.positives.to(device))

    def draw(self, epoch: int) -> tuple[Tensor, ...]:
        """Draws users and positives."""
        users, items = (c[self._drawable] for c in (self.positives.users, self.positives.items))
        device = users.device
        if self._weighted is not None:
            drawn = self._weighted(epoch, device)
            users, items = users[drawn], items[drawn]
        shuffle = generator(self.seed, "order", epoch, device)
        order = torch.randperm(self.num_rows, generator=shuffle, device=device)
        return users[order], items[order]

    def batches(self, epoch: int, batch_size: int) -> Iterator[ListwiseBatch]:
        """The batches of an epoch."""
        draw = generator(self.seed, "negatives", epoch, self.positives.users.device)
        columns = (torch.split(column, batch_size) for column in self.draw(epoch))
        for users, positives in zip(*columns, strict=True):
            yield ListwiseBatch(users, positives, *self.lists(users, positives, draw))

    def lists(
        self, users: Tensor, positives: Tensor, draw: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """(B, m) negatives and (B, m) log_q = ln(m q), from users (B,) and positives (B,)."""
        rows, negatives = self._sampler.draw(users.repeat_interleave(self.ratio), draw)
        log_q = self._sampler.log_probability(rows, negatives) + math.log(self.ratio)
        return negatives.view(-1, self.ratio), log_q.view(-1, self.ratio)

    def _positives_among(self, users: Tensor, items: Tensor) -> Tensor:
        """(B, k) whether each of the items (k,), ascending, is a positive of users (B,)."""
        row, own = self.positives.of_users(users)
        at = torch.searchsorted(items, own).clamp_(max=len(items) - 1)
        is_there = items[at] == own
        is_positive = torch.zeros(len(users), len(items), dtype=torch.bool, device=users.device)
        is_positive[row[is_there], at[is_there]] = True
        return is_positive


class InBatchRows(ListwiseRows):
    """Training positives, whose negatives are the positives of the other rows of a step.

    All rows share one list, so m = B. Where an item of it is a positive of the row's user, log_q
    is ∞. An item without a training positive is never a negative.

    Args:
        positives: training positives.
        ratio: 1; the length of a list is that of the batch.
        seed: seed of the run.
        weights: see :class:`ListwiseRows`.
    """

    def __init__(
        self,
        positives: Interactions,
        ratio: int = 1,
        seed: int = 0,
        weights: Tensor | None = None,
    ) -> None:
        self._weights = weights
        super().__init__(positives, ratio, seed, weights)

    def _place(self, positives: Interactions) -> None:
        super()._place(positives)
        items, weights = positives.items[self._drawable], self._weights
        if weights is not None:
            weights = weights[self._drawable.cpu()].to(items.device, torch.float32)
        counts = torch.bincount(items, weights, minlength=positives.num_items)
        self._log_share = (counts / counts.sum()).log().float()  # (num_items,) ln q

    def lists(
        self, users: Tensor, positives: Tensor, draw: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """(B, B) negatives and (B, B) log_q = ln q(j) - ln q(i), from users and positives."""
        items, column = torch.unique(positives, return_inverse=True)
        is_positive = self._positives_among(users, items)
        log_share = self._log_share[positives]
        log_q = log_share - log_share[:, None]
        log_q = log_q.masked_fill(is_positive[:, column], torch.inf)
        return positives.expand(len(users), -1), log_q


class SharedRows(ListwiseRows):
    """Training positives; one list of sampled negatives is shared by all rows of a step.

    The list is drawn uniformly and with replacement. Where an item of it is a positive of the row's
    user, log_q is ∞. Scores of one list for all users are one product of matrices, so that
    hundreds of negatives cost little.

    Args:
        positives: training positives.
        ratio: m, length of the list.
        seed: seed of the run.
        weights: see :class:`ListwiseRows`.
        among: (k,) int64, ascending, the items that may be drawn; None: all items.
    """

    def __init__(
        self,
        positives: Interactions,
        ratio: int,
        seed: int = 0,
        weights: Tensor | None = None,
        among: Tensor | None = None,
    ) -> None:
        self._among = torch.arange(positives.num_items) if among is None else among
        super().__init__(positives, ratio, seed, weights, partial(NegativeSampler, among=among))

    def _place(self, positives: Interactions) -> None:
        super()._place(positives)
        self._among = self._among.to(positives.items.device)

    def lists(
        self, users: Tensor, positives: Tensor, draw: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """(B, m) negatives, the same in every row, and (B, m) log_q = ln(m / k) or ∞."""
        among, device = self._among, users.device
        drawn = torch.randint(len(among), (self.ratio,), generator=draw, device=device)
        # Which of the rows has which item as a positive, looked up in a table of the items drawn.
        items, column = torch.unique(among[drawn], return_inverse=True)
        is_positive = self._positives_among(users, items)
        log_q = torch.full((), math.log(self.ratio / len(among)), device=device)
        log_q = torch.where(is_positive[:, column], torch.inf, log_q)
        return among[drawn].expand(len(users), -1), log_q
