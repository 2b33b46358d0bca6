"""The immutable knowledge graph, and the neighbourhoods S(v) that models use.

Shapes: E entities, M triples, N entries of S over all entities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Neighborhood(NamedTuple):
    """S(v) of every entity in one compressed sparse row (CSR) table.

    The neighbours of entity v are at ``indptr[v]:indptr[v + 1]``; an entity without neighbours
    has an empty range.

    Attributes:
        indptr: (E + 1,) int64.
        neighbors: (N,) int64, the neighbouring entities.
        relations: (N,) int64, the relation that leads to each neighbour.
    """

    indptr: Tensor
    neighbors: Tensor
    relations: Tensor

    @property
    def degrees(self) -> Tensor:
        """(E,) number of neighbours of each entity."""
        return self.indptr.diff()

    @classmethod
    def from_edges(
        cls, owners: Tensor, neighbors: Tensor, relations: Tensor, num_entities: int
    ) -> Neighborhood:
        """Groups edges by their owner; the order of the edges of an owner is kept."""
        order = torch.argsort(owners, stable=True)
        counts = torch.bincount(owners, minlength=num_entities)
        return cls(_offsets(counts), neighbors[order], relations[order])

    def sample(self, K: int, generator: torch.Generator) -> Neighborhood:
        """Draws K neighbours of every entity with neighbours (KGCN, section 3.2).

        Without replacement where an entity has at least K neighbours, else with replacement.
        """
        picked = draw_from_each(self.indptr, K, generator)
        owners = torch.repeat_interleave(self.degrees)[picked]
        return Neighborhood.from_edges(
            owners, self.neighbors[picked], self.relations[picked], len(self.degrees)
        )


def draw_from_each(indptr: Tensor, K: int, generator: torch.Generator) -> Tensor:
    """Draws K positions from every non-empty row of a CSR table.

    Without replacement where a row has at least K positions, else with replacement.

    Args:
        indptr: (n + 1,) int64, the beginning of each row.
        K: number of positions from each row.
        generator: CPU generator.

    Returns:
        (K · number of non-empty rows,) positions, not grouped by row.
    """
    degrees = indptr.diff()
    rows = torch.repeat_interleave(degrees)  # (N,)
    # Without replacement: shuffle within each row, keep the first K. A random key per position
    # and two stable sorts shuffle all rows at once.
    keys = torch.rand(len(rows), generator=generator, dtype=torch.float64)
    shuffled = torch.argsort(keys)
    shuffled = shuffled[torch.argsort(rows[shuffled], stable=True)]  # (N,) grouped by row
    rank = torch.arange(len(rows)) - indptr[:-1].repeat_interleave(degrees)
    sampled = shuffled[(rank < K) & (degrees[rows] >= K)]
    # With replacement for the other rows.
    few = torch.nonzero((degrees > 0) & (degrees < K)).squeeze(1)
    draw = torch.rand(len(few), K, generator=generator, dtype=torch.float64)
    offset = (draw * degrees[few, None]).long()  # (few, K)
    return torch.cat([sampled, (indptr[few, None] + offset).flatten()])


@dataclass(frozen=True)
class KnowledgeGraph:
    """A set of triples (head, relation, tail) over integer ids.

    Attributes:
        heads: (M,) int64.
        relations: (M,) int64.
        tails: (M,) int64.
        num_entities: number of entities; entities 0 … num_items - 1 are the items.
        num_relations: number of relations.
    """

    heads: Tensor
    relations: Tensor
    tails: Tensor
    num_entities: int
    num_relations: int

    def __len__(self) -> int:
        return self.heads.numel()

    def neighborhood(self) -> Neighborhood:
        """S(v) of every entity of the undirected graph.

        An edge belongs to both of its ends. S(v) is a set of (relation, neighbour) pairs, so a
        self-loop, or a triple whose reverse has the same relation, gives one neighbour.
        """
        owners = torch.cat([self.heads, self.tails])
        others = torch.cat([self.tails, self.heads])
        relations = self.relations.repeat(2)
        keys = torch.unique((owners * self.num_relations + relations) * self.num_entities + others)
        others = keys % self.num_entities
        pairs = keys // self.num_entities
        return Neighborhood.from_edges(
            pairs // self.num_relations, others, pairs % self.num_relations, self.num_entities
        )


def _offsets(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])
