"""The interface of samplers, and the two samplers of the KGCN paper.

Shapes: E entities, N neighbours of all entities in the full graph, M users, R relations.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from kgrec.data.knowledge_graph import Neighborhood
from kgrec.errors import SettingError


class Draw(NamedTuple):
    """Drawn neighbours.

    Attributes:
        neighborhood: S(v) of every entity.
        weights: a of each drawn neighbour, see :mod:`kgrec.models.kgcn.correction`; None: Eq. 2 is
            taken over the drawn neighbours, uncorrected.
    """

    neighborhood: Neighborhood
    weights: Tensor | None = None


class Current(NamedTuple):
    """State of a model between two epochs, to which a sampler may adapt.

    Attributes:
        scores: (M, R) π(u, r) of some users, Eq. 1; zeros where all neighbours weigh the same.
        vectors: (E, d) order-0 vectors.
    """

    scores: Tensor
    vectors: Tensor


class Sampler:
    """Chooses neighbours of every entity.

    Attributes:
        corrected: whether a draw has weights that make its sums unbiased.
        adaptive: whether it is drawn again in every epoch, from the model's current state.
        deterministic: whether every draw is the same.
        long: whether a draw takes long, so that it belongs in ``precompute``.
        reads_graph: whether the choice needs more of the graph than the relations of the
            neighbours, so that it cannot be made for a new item.
    """

    corrected: ClassVar[bool] = False
    adaptive: ClassVar[bool] = False
    deterministic: ClassVar[bool] = False
    long: ClassVar[bool] = False
    reads_graph: ClassVar[bool] = False

    def draw(
        self,
        graph: Neighborhood,
        K: int,
        generator: torch.Generator,
        current: Current | None = None,
    ) -> Draw:
        """Draws S(v) of every entity; the size of every S(v) depends only on the graph and K.

        Args:
            graph: all neighbours of every entity.
            K: number of neighbours.
            generator: CPU generator.
            current: state of the model; None before the training.
        """
        raise NotImplementedError

    def first_draw(self, graph: Neighborhood, K: int, generator: torch.Generator) -> Draw:
        """The draw before the training; if it takes long, neighbours that stand in its place."""
        if self.long:
            return Draw(first_of_each(graph, K, torch.zeros(len(graph.neighbors))))
        return self.draw(graph, K, generator)

    def for_new_items(self, edges: Neighborhood, K: int, generator: torch.Generator) -> Draw:
        """S(v) of items that training has not seen.

        Args:
            edges: all neighbours of the new items.
            K: number of neighbours.
            generator: CPU generator.

        Raises:
            SettingError: the choice needs the graph of the training, which a model does not keep.
        """
        if self.corrected:  # the sum over all neighbours is at hand, and needs no estimate
            return Draw(edges, torch.ones(len(edges.neighbors)))
        most = int(edges.degrees.max()) if len(edges.degrees) else 0
        if self.reads_graph and most > K:
            raise SettingError(
                f"sampler: found {type(self).__name__}, which needs the graph of the training to "
                f"choose among the {most} neighbours of a new item, expected at most K={K} "
                "neighbours, or a model with another sampler"
            )
        return Draw(edges) if self.reads_graph else self.draw(edges, K, generator)


class Uniform(Sampler):
    """K neighbours of uniform probability, as in section 3.2 of the KGCN paper.

    Without replacement where an entity has at least K neighbours. An entity with fewer has K draws
    with replacement, so S(v) may contain duplicates, as the paper says and the authors' code does.
    """

    def draw(
        self,
        graph: Neighborhood,
        K: int,
        generator: torch.Generator,
        current: Current | None = None,
    ) -> Draw:
        """See :class:`Sampler`."""
        return Draw(graph.sample(K, generator))


class Full(Sampler):
    """All neighbours, the same as ``K="all"``; K is not read."""

    deterministic = True

    def draw(
        self,
        graph: Neighborhood,
        K: int,
        generator: torch.Generator,
        current: Current | None = None,
    ) -> Draw:
        """See :class:`Sampler`."""
        return Draw(graph)


def first_of_each(graph: Neighborhood, K: int, keys: Tensor) -> Neighborhood:
    """The K neighbours of each entity with the smallest keys, or all where there are fewer.

    Args:
        graph: all neighbours of every entity.
        K: number of neighbours.
        keys: (N,); the earlier of equal keys is taken first.
    """
    rows = torch.repeat_interleave(graph.degrees)
    order = torch.argsort(keys, stable=True)
    order = order[torch.argsort(rows[order], stable=True)]  # by row, then by key
    rank = torch.arange(len(rows)) - graph.indptr[:-1][rows]
    kept = order[rank < K].sort().values
    return Neighborhood.from_edges(
        rows[kept], graph.neighbors[kept], graph.relations[kept], len(graph.degrees)
    )
