"""The graph and the entity table of a trained KGCN with new items.

A new item v has no vector of its own that was trained. Its order-0 vector is 0, and Eq. 1-6 give
v^u from its neighbours. The items and entities of the training are represented as before: S(v) of
an old entity does not contain a new item.

Shapes: n new items, I items of the training, E entities, d embedding size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kgrec.data.knowledge_graph import Neighborhood


def renumbered(entities: Tensor, num_items: int, num_new: int) -> Tensor:
    """Entities of the training in the numbering with new items, which follow the old items."""
    return torch.where(entities >= num_items, entities + num_new, entities)


def with_new_items(
    whole: Neighborhood, vectors: Tensor, num_items: int, edges: Neighborhood, known: Tensor
) -> tuple[Neighborhood, Tensor]:
    """S(v) and order-0 vectors with the new items as entities I … I + n - 1.

    Args:
        whole: S(v) of the training's entities.
        vectors: (E, d) their order-0 vectors.
        num_items: I.
        edges: S(v) of the new items, with entities in the numbering of the training.
        known: (n,) int64, the entity of the training that a new item is, whose vector it gets;
            -1: the item is new to the graph.

    Returns:
        S(v) of E + n entities, and (E + n, d) vectors.
    """
    n, entries = len(known), int(whole.indptr[num_items])  # entries of the old items come first

    def inserted(old: Tensor, new: Tensor) -> Tensor:
        return torch.cat([old[:entries], new, old[entries:]])

    first, last = whole.indptr[: num_items + 1], whole.indptr[num_items + 1 :]
    indptr = torch.cat([first, entries + edges.indptr[1:], last + len(edges.neighbors)])
    neighbors = inserted(
        renumbered(whole.neighbors, num_items, n), renumbered(edges.neighbors, num_items, n)
    )
    graph = Neighborhood(indptr, neighbors, inserted(whole.relations, edges.relations))
    own = vectors.new_zeros(n, vectors.shape[1])
    own[known >= 0] = vectors[known[known >= 0]]
    return graph, torch.cat([vectors[:num_items], own, vectors[num_items:]])
