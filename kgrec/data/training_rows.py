"""Training rows of an epoch: one class for each kind of batch.

Every draw depends only on (seed, purpose, epoch), so a resumed run makes the same draws as an
uninterrupted one.

Shapes: n rows of an epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from kgrec.data.batches import (
    ListwiseBatch,
    PairwiseBatch,
    PointwiseBatch,
    TrainingRows,
    TripleBatch,
)
from kgrec.data.draws import generator, widest_float
from kgrec.data.interactions import Interactions, LabelledRows
from kgrec.data.knowledge_graph import KnowledgeGraph
from kgrec.data.listwise_rows import ListwiseRows
from kgrec.data.negatives import NegativeSampler, Sampler
from kgrec.data.weights import WeightedDraw


class PointwiseRows(TrainingRows):
    """Training positives and negatives, with labels.

    Args:
        positives: training positives.
        static_negatives: (users, items), the negatives of every epoch; None: draw negatives in
            every epoch from the items that are not a training positive of the user.
        ratio: negatives for each positive, if drawn in every epoch.
        seed: seed of the run.
        weights: (len(positives),) float64, weights by which the positives of an epoch are drawn;
            None: every positive once.
        sampler: function from the positives to the sampler of negatives.
    """

    batch: ClassVar[Any] = PointwiseBatch

    def __init__(
        self,
        positives: Interactions,
        static_negatives: tuple[Tensor, Tensor] | None = None,
        ratio: int = 1,
        seed: int = 0,
        weights: Tensor | None = None,
        sampler: Callable[[Interactions], Sampler] = NegativeSampler,
    ) -> None:
        self.static_negatives = static_negatives
        self._make_sampler = sampler
        self.ratio = ratio
        self.seed = seed
        self._place(positives)
        drawable = self._sampler.num_drawable[positives.users] > 0
        num_negatives = int(drawable.sum()) * ratio
        self.undrawable = 0 if static_negatives else len(positives) * ratio - num_negatives
        self.num_rows = len(positives) + (
            len(static_negatives[0]) if static_negatives else num_negatives
        )
        # Apart, so that the number of positives with a negative is the same in every epoch.
        self._weighted = WeightedDraw(weights, drawable, seed) if weights is not None else None

    def _place(self, positives: Interactions) -> None:
        self.positives = positives
        self._sampler = self._make_sampler(positives)

    def to(self, device: torch.device) -> None:
        """Moves the rows to a device."""
        if self.positives.users.device != device:
            self._place(self.positives.to(device))
            if self.static_negatives is not None:
                users, items = self.static_negatives
                self.static_negatives = users.to(device), items.to(device)

    def rows(self, epoch: int) -> LabelledRows:
        """All rows of one epoch, shuffled."""
        users, items = self.positives.users, self.positives.items
        device = users.device
        if self._weighted is not None:
            drawn = self._weighted(epoch, device)
            users, items = users[drawn], items[drawn]
        negatives = self.static_negatives
        if negatives is None:
            draw = generator(self.seed, "negatives", epoch, device)
            negatives = self._sampler.draw(users.repeat(self.ratio), draw)
        rows = LabelledRows.from_parts((users, items), negatives)
        order = generator(self.seed, "order", epoch, device)
        return rows.take(torch.randperm(len(rows), generator=order, device=device))

    def draw(self, epoch: int) -> tuple[Tensor, ...]:
        """Draws users, items and labels."""
        rows = self.rows(epoch)
        return rows.users, rows.items, rows.labels


class PairwiseRows(TrainingRows):
    """Training positives, each paired with a negative of the same user.

    Args:
        positives: training positives.
        static_negatives: (users, items) from which the negatives of a user are drawn; None: draw
            them from the items that are not a training positive of the user.
        ratio: pairs for each positive.
        seed: seed of the run.
        weights: see :class:`PointwiseRows`.
        sampler: see :class:`PointwiseRows`.
    """

    batch: ClassVar[Any] = PairwiseBatch

    def __init__(
        self,
        positives: Interactions,
        static_negatives: tuple[Tensor, Tensor] | None = None,
        ratio: int = 1,
        seed: int = 0,
        weights: Tensor | None = None,
        sampler: Callable[[Interactions], Sampler] = NegativeSampler,
    ) -> None:
        self.ratio = ratio
        self.seed = seed
        self._make_sampler = sampler
        self._static = static_negatives is not None
        if static_negatives is None:
            pool = positives
        else:
            sizes = positives.num_users, positives.num_items
            pool = Interactions.from_pairs(*static_negatives, *sizes)
        self._place(positives, pool)
        self.num_rows = len(self._users) * ratio
        self.undrawable = len(positives) * ratio - self.num_rows
        self._weighted = None
        if weights is not None:
            self._weighted = WeightedDraw(weights[self._drawable], None, seed)

    def _place(self, positives: Interactions, pool: Interactions) -> None:
        self.positives, self._pool = positives, pool
        self._sampler = self._make_sampler(positives)
        self._counts = pool.user_degrees() if self._static else self._sampler.num_drawable
        self._starts = self._counts.cumsum(0) - self._counts
        self._drawable = self._counts[positives.users] > 0
        self._users = positives.users[self._drawable]
        self._items = positives.items[self._drawable]

    def to(self, device: torch.device) -> None:
        """Moves the rows to a device."""
        if self.positives.users.device != device:
            self._place(self.positives.to(device), self._pool.to(device))

    def draw(self, epoch: int) -> tuple[Tensor, ...]:
        """Draws users, positives and negatives."""
        device = self._users.device
        users, items = self._users, self._items
        if self._weighted is not None:
            drawn = self._weighted(epoch, device)
            users, items = users[drawn], items[drawn]
        users, items = users.repeat(self.ratio), items.repeat(self.ratio)
        draw = generator(self.seed, "negatives", epoch, device)
        if self._static:
            uniform = torch.rand(
                self.num_rows, generator=draw, dtype=widest_float(device), device=device
            )
            rank = (uniform * self._counts[users]).long()
            negatives = self._pool.items[self._starts[users] + rank]
        else:
            _, negatives = self._sampler.draw(users, draw)
        shuffle = generator(self.seed, "order", epoch, device)
        order = torch.randperm(self.num_rows, generator=shuffle, device=device)
        return users[order], items[order], negatives[order]


class TripleRows(TrainingRows):
    """Triples of the graph and corrupted triples, as many as another kind of batch has rows.

    All triples are used once, in random order, before any is used again. The head or the tail of
    each, with equal probability, is replaced by an entity drawn uniformly (Bordes et al., NIPS
    2013, section 2). The result may by chance be another true triple.

    Args:
        graph: the knowledge graph, with at least one triple.
        num_rows: n, number of rows.
        seed: seed of the run.
    """

    batch: ClassVar[Any] = TripleBatch
    undrawable = 0

    def __init__(self, graph: KnowledgeGraph, num_rows: int, seed: int = 0) -> None:
        self.num_rows = num_rows
        self.seed = seed
        self._num_entities = graph.num_entities
        self._columns = (graph.heads, graph.relations, graph.tails)

    def to(self, device: torch.device) -> None:
        """Moves the rows to a device."""
        heads, relations, tails = self._columns
        self._columns = heads.to(device), relations.to(device), tails.to(device)

    def draw(self, epoch: int) -> tuple[Tensor, ...]:
        """Draws heads, relations, tails, corrupted heads and corrupted tails."""
        device, size = self._columns[0].device, len(self._columns[0])
        draw = generator(self.seed, "triples", epoch, device)
        rounds = -(-self.num_rows // size)
        order = torch.cat(
            [torch.randperm(size, generator=draw, device=device) for _ in range(rounds)]
        )[: self.num_rows]
        heads, relations, tails = (column[order] for column in self._columns)
        drawn = torch.randint(self._num_entities, (self.num_rows,), generator=draw, device=device)
        head = torch.rand(self.num_rows, generator=draw, device=device) < 0.5
        corrupted = torch.where(head, drawn, heads), torch.where(head, tails, drawn)
        return heads, relations, tails, *corrupted


def training_rows(
    kinds: tuple[Any, ...],
    positives: Interactions,
    graph: KnowledgeGraph,
    static_negatives: tuple[Tensor, Tensor] | None,
    ratio: int,
    seed: int,
    weights: Tensor | None = None,
    sampler: Callable[[Interactions], Sampler] = NegativeSampler,
    lists: Callable[..., ListwiseRows] | None = None,
) -> list[TrainingRows]:
    """A source of rows for each kind of batch.

    The first kind, which must be one of interactions, determines the number of rows.

    Args:
        kinds: types of the batches.
        positives: training positives.
        graph: the knowledge graph.
        static_negatives: see :class:`PointwiseRows`.
        ratio: negatives for each positive.
        seed: seed of the run.
        weights: see :class:`PointwiseRows`.
        sampler: see :class:`PointwiseRows`.
        lists: function from positives, ratio, seed and weights to rows with lists of negatives;
            None: lists that the sampler draws.

    Raises:
        TypeError: the kind is unknown, the first kind is triples, or the negatives do not suit it.
    """
    sources: list[TrainingRows] = []
    given = positives, static_negatives, ratio, seed, weights
    for kind in kinds:
        if kind is TripleBatch and sources:
            sources.append(TripleRows(graph, sources[0].num_rows, seed))
        elif kind is ListwiseBatch and static_negatives is None:
            make = lists or partial(ListwiseRows, sampler=sampler)
            sources.append(make(positives, ratio, seed, weights))
        elif kind is PointwiseBatch:
            sources.append(PointwiseRows(*given, sampler))
        elif kind is PairwiseBatch:
            sources.append(PairwiseRows(*given, sampler))
        else:
            raise TypeError(f"found batches of {kind}, expected a kind of interaction first")
    return sources
