"""The immutable knowledge graph, and the neighbourhoods S(v) that models use.

Shapes: E entities, M triples, N entries of S over all entities.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

BLOCK = 2**20  # rows, and positions, for which numbers are drawn at once
LARGEST_KEY = 2**63 - 1


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
        return cls(offsets(counts), neighbors[order], relations[order])

    def around(self, entities: Tensor) -> tuple[Neighborhood, Tensor]:
        """S(v) of some entities (n,), and the entry of each of their neighbours in this table."""
        lengths = self.indptr[entities + 1] - self.indptr[entities]
        indptr = offsets(lengths)
        owners = torch.repeat_interleave(lengths)
        entry = (self.indptr[entities] - indptr[:-1])[owners]
        entry = entry + torch.arange(len(owners), device=owners.device)
        return Neighborhood(indptr, self.neighbors[entry], self.relations[entry]), entry

    def copied(self) -> Neighborhood:
        """A copy in memory, also of a neighbourhood that is mapped from a file."""
        return Neighborhood(*(numbers.clone() for numbers in self))

    def sample(self, K: int, generator: torch.Generator) -> Neighborhood:
        """Draws K neighbours of every entity with neighbours (KGCN, section 3.2).

        Without replacement where an entity has at least K neighbours, else with replacement.
        """
        connected = self.degrees > 0
        place = connected.cumsum(0) - 1  # of each entity among those with neighbours
        picked = torch.empty(int(connected.sum()), K, dtype=torch.int64)
        for rows, positions in draws_of_rows(self.indptr, K, generator):
            picked[place[rows]] = positions
        picked = picked.flatten()
        return Neighborhood(
            offsets(connected.long() * K), self.neighbors[picked], self.relations[picked]
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
    drawn = [positions.flatten() for _, positions in draws_of_rows(indptr, K, generator)]
    return torch.cat([indptr[:0], *drawn])


def draws_of_rows(
    indptr: Tensor, K: int, generator: torch.Generator, rank: int = 0, ranks: int = 1
) -> Iterator[tuple[Tensor, Tensor]]:
    """Draws of :func:`draw_from_each` for the rows r with r mod ``ranks`` = ``rank``, in blocks.

    Each process takes the same numbers from the generator, so a row has the same draw for any
    number of processes. Memory holds one block at a time.

    Args:
        indptr: (n + 1,) int64, the beginning of each row.
        K: number of positions from each row.
        generator: CPU generator.
        rank: number of this process.
        ranks: number of processes.

    Yields:
        (m,) rows and (m, K) positions; no row comes twice, and no empty row comes.
    """
    # Without replacement: shuffle within each row, keep the first K. A random key per position
    # and two sorts shuffle all rows of a block at once.
    for first, last in blocks(indptr):
        ends = indptr[first : last + 1]
        keys = torch.rand(int(ends[-1] - ends[0]), generator=generator, dtype=torch.float64)
        rows = torch.arange(last - first)[(rank - first) % ranks :: ranks]
        begin, lengths = ends[rows] - ends[0], ends.diff()[rows]
        owner = torch.repeat_interleave(lengths)  # (m,)
        shift = begin - (lengths.cumsum(0) - lengths)  # between places here and in the block
        if ranks > 1:
            keys = keys[shift[owner] + torch.arange(len(owner))]
        order = torch.argsort(keys)
        order = order[torch.argsort(owner[order], stable=True)]  # grouped by row
        enough = lengths >= K
        starts = (lengths.cumsum(0) - lengths)[enough]
        drawn = order[starts[:, None] + torch.arange(K)]
        yield rows[enough] + first, drawn + (shift[enough] + ends[0])[:, None]
    # With replacement for the other rows.
    for first, last in blocks(indptr):
        degrees = indptr[first : last + 1].diff()
        few = torch.nonzero((degrees > 0) & (degrees < K)).squeeze(1)
        draw = torch.rand(len(few), K, generator=generator, dtype=torch.float64)
        own = (few + first) % ranks == rank
        few, draw = few[own], draw[own]
        offset = (draw * degrees[few, None]).long()
        yield few + first, indptr[few + first, None] + offset


def blocks(indptr: Tensor) -> Iterator[tuple[int, int]]:
    """Ranges of rows of a CSR table with about ``BLOCK`` rows and positions each.

    Args:
        indptr: (n + 1,) int64, the beginning of each row.

    Yields:
        First row, and the row after the last; a row with more positions is a block of its own.
    """
    n, first = len(indptr) - 1, 0
    while first < n:
        nearby = indptr[first : first + BLOCK + 1]
        length = int(torch.searchsorted(nearby, nearby[0] + BLOCK, right=True)) - 1
        last = first + max(1, min(length, n - first))
        yield first, last
        first = last


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
    # S(v) from a file, of one graph: no field, so that ``replace`` drops it.
    _stored: ClassVar[Neighborhood | None] = None

    def __len__(self) -> int:
        return self.heads.numel()

    def neighborhood(self) -> Neighborhood:
        """S(v) of every entity of the undirected graph.

        An edge belongs to both of its ends. S(v) is a set of (relation, neighbour) pairs, so a
        self-loop, or a triple whose reverse has the same relation, gives one neighbour.
        """
        if self._stored is not None:
            return self._stored
        owners = torch.cat([self.heads, self.tails])
        others = torch.cat([self.tails, self.heads])
        owners, relations, others = distinct_edges(
            owners, self.relations.repeat(2), others, self.num_relations, self.num_entities
        )
        counts = torch.bincount(owners, minlength=self.num_entities)
        return Neighborhood(offsets(counts), others, relations)

    def connected(self) -> Tensor:
        """(E,) bool, whether each entity has a neighbour; in memory for E flags alone."""
        flags = torch.zeros(self.num_entities, dtype=torch.bool)
        for ends in (self.heads, self.tails):
            for part in torch.split(ends, BLOCK):
                flags[part] = True
        return flags

    def with_stored(self, neighborhood: Neighborhood) -> KnowledgeGraph:
        """The same graph with S(v) from a file, so that it is not computed again."""
        graph = replace(self)
        object.__setattr__(graph, "_stored", neighborhood)
        return graph


def distinct_edges(
    owners: Tensor, relations: Tensor, others: Tensor, num_relations: int, num_entities: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct edges, sorted by owner, then by relation, then by the other end.

    Args:
        owners: (m,) int64.
        relations: (m,) int64.
        others: (m,) int64.
        num_relations: number of relations.
        num_entities: number of entities.

    Returns:
        Owners, relations and others of the distinct edges.
    """
    last = int(owners.max()) if len(owners) else 0
    pairs = owners * num_relations + relations
    if (last + 1) * num_relations * num_entities <= LARGEST_KEY:
        keys = torch.unique(pairs * num_entities + others)
        pairs = keys // num_entities
        others = keys - pairs * num_entities
    else:  # one key of all columns would overflow
        order = torch.argsort(others)
        order = order[torch.argsort(pairs[order], stable=True)]
        pairs, others = pairs[order], others[order]
        first = torch.ones(len(pairs), dtype=torch.bool)
        first[1:] = (pairs[1:] != pairs[:-1]) | (others[1:] != others[:-1])
        pairs, others = pairs[first], others[first]
    owners = pairs // num_relations
    return owners, pairs - owners * num_relations, others


def offsets(counts: Tensor) -> Tensor:
    """(n + 1,) the beginning of each row of a CSR table, from the lengths (n,) of its rows."""
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])
