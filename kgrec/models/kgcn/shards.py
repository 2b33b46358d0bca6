"""S(v) of which each process has the rows of its own entities, with ``trainer=sharded``.

Both views read rows of other processes by the exchange of embedding tables, level by level.
:class:`SampledShards` has K neighbours per entity in one table, whose row has the neighbours and
their relations, so that both travel together. They are drawn where the rows are, with the numbers
of one process, so S(v) is the same for any number of processes. :class:`GroupedShards` has all
neighbours: a table with the first and last edge of each entity, and a table of edges.

Numbers are int32 where they fit. Shapes: E entities, N entries of S over all entities.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from kgrec.data.knowledge_graph import Neighborhood, blocks, draws_of_rows
from kgrec.models.kgcn.graph_state import ABSENT, neighborhood_of
from kgrec.models.kgcn.neighborhood import Attention, Grouped, ranges, sampled_bags
from kgrec.models.kgcn.samplers.base import Full, Sampler, Uniform
from kgrec.models.lookup import Bags
from kgrec.models.recommender import LARGEST_SIZE
from kgrec.sharding.building import Shares, current_shares, empty_table

log = logging.getLogger(__name__)


class GraphShards(nn.Module):
    """S(v) of each entity, of which this process has the rows of its own entities.

    Attributes:
        whole: S(v) as the constructor of KGCN takes it, with the right shapes and without numbers.
        num_reads: mean number of neighbours of an item, and of the end of an edge.
    """

    whole: Neighborhood
    num_reads: tuple[float, float]

    def draw(self, graph: Neighborhood, generator: torch.Generator) -> None:
        """Draws S(v) again from the neighbours of the full graph; here: nothing is drawn."""

    def around(self, entities: Tensor) -> tuple[Neighborhood, Tensor]:
        """S(v) of some entities (n,), and the number of each of their neighbours in it."""
        raise NotImplementedError

    def inner(self, attention: Attention, row: Tensor | None, nodes: Tensor) -> Bags:
        """See :class:`View`."""
        raise NotImplementedError

    def last(
        self, attention: Attention, row: Tensor | None, nodes: Tensor
    ) -> tuple[Bags, Bags | None]:
        """See :class:`View`."""
        raise NotImplementedError

    def bytes_per_row(self, H: int, d: int) -> float:
        """Expected bytes at the peak of a training step, as :mod:`kgrec.models.kgcn.memory`."""
        (first, further), nodes, total = self.num_reads, 1.0, 0.0
        for h in range(H):
            total += nodes * (100 + 24 * d * (H - h))
            nodes = min(nodes * (further if h else first), float(len(self.whole.indptr) - 1))
        return total + 100 * nodes


class SampledShards(GraphShards):
    """K drawn neighbours of every entity that has neighbours.

    Args:
        graph: all neighbours of every entity; it may be mapped from a file.
        K: number of neighbours.
        generator: CPU generator.
        shares: this process and the number of processes.
    """

    def __init__(
        self, graph: Neighborhood, K: int, generator: torch.Generator, shares: Shares
    ) -> None:
        super().__init__()
        E = len(graph.indptr) - 1
        connected = sum(int((part.diff() > 0).sum()) for part in _parts(graph.indptr))
        self.K, self.shares = K, shares
        self.num_reads = float(K), float(K)
        self.whole = _shapes(E, connected * K)
        self.neighbors = empty_table(E, 2 * K, narrowest(E), shares)
        rank, ranks = shares
        self.neighbors.local[:, :K] = torch.arange(rank, E, ranks, dtype=self.neighbors.dtype)[
            :, None
        ]
        self.neighbors.local[:, K:] = ABSENT
        self.draw(graph, generator)

    def draw(self, graph: Neighborhood, generator: torch.Generator) -> None:
        """Draws the neighbours of the entities of this process."""
        local = self.neighbors.local
        for rows, positions in draws_of_rows(graph.indptr, self.K, generator, *self.shares):
            drawn = torch.cat([graph.neighbors[positions], graph.relations[positions]], dim=1)
            place = (rows // self.shares.ranks).to(local.device)
            local[place] = drawn.to(local.device, local.dtype)

    def around(self, entities: Tensor) -> tuple[Neighborhood, Tensor]:
        """See :class:`GraphShards`."""
        near = neighborhood_of(self.neighbors[entities])
        return near, torch.arange(len(near.neighbors), device=entities.device)

    def inner(self, attention: Attention, row: Tensor | None, nodes: Tensor) -> Bags:
        """See :class:`View`."""
        neighbors, relations = torch.split(self.neighbors[nodes].long(), self.K, dim=1)  # (n, K)
        connected = relations[:, 0] != ABSENT
        return sampled_bags(attention, row, neighbors, relations.clamp(min=0), connected)

    def last(
        self, attention: Attention, row: Tensor | None, nodes: Tensor
    ) -> tuple[Bags, Bags | None]:
        """See :class:`View`."""
        return self.inner(attention, row, nodes), None


class GroupedShards(GraphShards):
    """All neighbours of every entity.

    Args:
        graph: all neighbours of every entity; it may be mapped from a file.
        num_items: number of items, the first entities.
        shares: this process and the number of processes.
    """

    def __init__(self, graph: Neighborhood, num_items: int, shares: Shares) -> None:
        super().__init__()
        E, N = len(graph.indptr) - 1, len(graph.neighbors)
        squares = sum(int(part.diff().square().sum()) for part in _parts(graph.indptr))
        self.num_reads = int(graph.indptr[num_items]) / max(1, num_items), squares / max(1, N)
        self.whole = _shapes(E, N)
        self.ends = empty_table(E, 2, narrowest(N), shares)
        self.edges = empty_table(max(1, N), 2, narrowest(E), shares)
        for column, numbers in enumerate((graph.indptr[:-1], graph.indptr[1:])):
            self.ends.local[:, column] = numbers[shares.rank :: shares.ranks]
        for column, numbers in enumerate((graph.neighbors, graph.relations)):
            own = numbers[shares.rank :: shares.ranks]
            self.edges.local[: len(own), column] = own

    def around(self, entities: Tensor) -> tuple[Neighborhood, Tensor]:
        """See :class:`GraphShards`."""
        first, end = self.ends[entities].long().unbind(1)
        edge, starts, _ = ranges(first, end - first)
        neighbors, relations = self.edges[edge].long().unbind(1)
        return Neighborhood(starts, neighbors, relations), edge

    def inner(self, attention: Attention, row: Tensor | None, nodes: Tensor) -> Bags:
        """See :class:`View`."""
        near, places = self._near(nodes)
        return near.inner(attention, row, places)

    def last(
        self, attention: Attention, row: Tensor | None, nodes: Tensor
    ) -> tuple[Bags, Bags | None]:
        """See :class:`View`."""
        near, places = self._near(nodes)
        return near.last(attention, row, places)

    def _near(self, nodes: Tensor) -> tuple[Grouped, Tensor]:
        """S(v) of the distinct entities among nodes (n,), and the place of each node in it."""
        distinct, places = torch.unique(nodes, return_inverse=True)
        return Grouped(self.around(distinct)[0]), places


def shared(
    graph: Neighborhood, K: int | str, generator: torch.Generator, num_items: int, sampler: Sampler
) -> GraphShards | None:
    """S(v) in tables that processes share; None: each process has all of it, or K cannot work.

    Args:
        graph: all neighbours of every entity.
        K: number of drawn neighbours, or "all".
        generator: CPU generator.
        num_items: number of items, the first entities.
        sampler: sampler that the model is to have.
    """
    shares = current_shares(len(graph.indptr) - 1)
    if shares is None or not (K == "all" or (isinstance(K, int) and 1 <= K <= LARGEST_SIZE)):
        return None
    if not isinstance(sampler, Uniform | Full):
        log.warning(
            "sampler: %s reads the whole graph, so every process keeps the neighbours of all "
            "entities; with uniform or full it keeps those of its own",
            type(sampler).__name__,
        )
        return None
    if isinstance(K, int):
        return SampledShards(graph, K, generator, shares)
    return GroupedShards(graph, num_items, shares)


def narrowest(largest: int) -> torch.dtype:
    """The dtype of whole numbers up to ``largest``."""
    return torch.int32 if largest < 2**31 else torch.int64


def _parts(indptr: Tensor) -> list[Tensor]:
    """Pieces of an indptr, which share their ends."""
    return [indptr[first : last + 1] for first, last in blocks(indptr)]


def _shapes(num_entities: int, entries: int) -> Neighborhood:
    zero = torch.zeros(1, dtype=torch.int64)
    return Neighborhood(zero.expand(num_entities + 1), zero.expand(entries), zero.expand(entries))
