"""The K neighbours of each entity with the largest personalised PageRank.

A walk from v steps to a neighbour of uniform probability, and returns to v with probability α
before each step. π_v(e) is the share of its time at e: the neighbours that other paths from v lead
to as well have more of it. The choice is static and deterministic. It is that of

    Ying, He, Chen, Eksombatchai, Hamilton, Leskovec: "Graph Convolutional Neural Networks for
    Web-Scale Recommender Systems", KDD 2018 (PinSage), by simulated walks, and
    Bojchevski et al.: "Scaling Graph Neural Networks with Approximate PageRank", KDD 2020 (PPRGo),

here among the one-hop neighbours, because S(v) has relations. π is found by forward push:

    Andersen, Chung, Lang: "Local Graph Partitioning using PageRank Vectors", FOCS 2006.

All mass begins as residual at v. A node whose residual r is at least ε · degree keeps α·r, and its
neighbours share (1 - α)·r. Each push of a node with d edges takes α·r >= α·ε·d from the residual,
so a source takes at most 1 / (α·ε) edges, however large the graph is, and π is at most ε · degree
too small. Only entities with more than K neighbours are sources; blocks of them are pushed
together. With S sources this is O(S / (α·ε)) edges, and O(block / (α·ε)) memory.

Shapes: S sources, n entries (source, node).
"""

from __future__ import annotations

import torch
from torch import Tensor

from kgrec.data.knowledge_graph import Neighborhood
from kgrec.models.kgcn.samplers.base import Current, Draw, Sampler, first_of_each
from kgrec.models.recommender import check_number

BLOCK_EDGES = 2**24  # edges of a round that a block of sources may need at the worst
DIGITS = 12  # values that agree up to here are equal, whatever the order of a sum


class PageRank(Sampler):
    """The K neighbours with the largest π_v(e); all where an entity has at most K.

    Args:
        restart: α, probability of a return to v before each step.
        tolerance: ε, the residual per edge that is not pushed.

    Raises:
        SettingError: a probability or tolerance outside (0, 1).
    """

    deterministic = True
    long = True
    reads_graph = True

    def __init__(self, restart: float = 0.15, tolerance: float = 1e-4) -> None:
        check_number("sampler.restart", restart, 0.01, below=1)
        check_number("sampler.tolerance", tolerance, 1e-7, below=1)
        self.restart, self.tolerance = restart, tolerance

    def draw(
        self,
        graph: Neighborhood,
        K: int,
        generator: torch.Generator,
        current: Current | None = None,
    ) -> Draw:
        """See :class:`Sampler`; of equal neighbours the first in the graph's order is taken."""
        values = torch.zeros(len(graph.neighbors), dtype=torch.float64)
        sources = torch.nonzero(graph.degrees > K).squeeze(1)
        size = max(1, int(BLOCK_EDGES * self.tolerance * self.restart))
        for block in torch.split(sources, size):
            edges, owner = _edges(graph, block)
            keys, found = personalized_pagerank(graph, block, self.restart, self.tolerance)
            wanted = owner * len(graph.degrees) + graph.neighbors[edges]
            place = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
            values[edges] = torch.where(keys[place] == wanted, found[place], 0.0)
        return Draw(first_of_each(graph, K, -values.round(decimals=DIGITS)))


def personalized_pagerank(
    graph: Neighborhood, sources: Tensor, restart: float, tolerance: float
) -> tuple[Tensor, Tensor]:
    """π of sources (S,) with neighbours, each at most tolerance · degree too small.

    Returns:
        (n,) int64 ascending keys: index of the source · E + node; (n,) float64 π.
    """
    E, degrees = len(graph.degrees), graph.degrees
    keys = torch.arange(len(sources)) * E + sources
    residual = torch.ones(len(sources), dtype=torch.float64)
    kept_keys, kept = [], []
    while True:
        node = keys % E
        pushed = residual >= tolerance * degrees[node]
        if not bool(pushed.any()):
            break
        kept_keys.append(keys[pushed])
        kept.append(residual[pushed])
        edges, owner = _edges(graph, node[pushed])
        share = (1 - restart) * residual[pushed] / degrees[node[pushed]]
        source = (keys - node)[pushed]
        keys = torch.cat([keys[~pushed], source[owner] + graph.neighbors[edges]])
        residual = torch.cat([residual[~pushed], share[owner]])
        keys, residual = _summed(keys, residual)
    # What is left as residual at a node has at least its own share there.
    keys, values = _summed(torch.cat([*kept_keys, keys]), torch.cat([*kept, residual]))
    return keys, restart * values


def _summed(keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct keys, ascending, and the sums of their values."""
    keys, place = torch.unique(keys, return_inverse=True)
    return keys, values.new_zeros(len(keys)).index_add_(0, place, values)


def _edges(graph: Neighborhood, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of the edges of rows (k,), and for each its index in ``rows``."""
    lengths = graph.degrees[rows]
    owner = torch.repeat_interleave(lengths)
    rank = torch.arange(len(owner)) - (lengths.cumsum(0) - lengths)[owner]
    return graph.indptr[rows][owner] + rank, owner
