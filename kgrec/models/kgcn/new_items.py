"""The graph and the entity table of a trained KGCN with new items.

A new item v has no vector of its own that was trained. Its order-0 vector is 0, and Eq. 1-6 give
v^u from its neighbours. The items and entities of the training are represented as before: S(v) of
an old entity does not contain a new item.

Where items have biases, the bias of a new item is their mean. It is not 0, because the biases also
hold the constant of all scores: with five negatives to a positive, all of them are low. Where items
have vectors y of their own in histories, that of a new item is 0.

Shapes: n new items, I items of the training, E entities, d embedding size.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from kgrec.data.draws import generator
from kgrec.data.knowledge_graph import Neighborhood
from kgrec.models.folding import frozen
from kgrec.models.kgcn.parameters import KGCNParameters

M = TypeVar("M", bound=KGCNParameters)


def renumbered(entities: Tensor, num_items: int, num_new: int) -> Tensor:
    """Entities of the training in the numbering with new items, which follow the old items."""
    return torch.where(entities >= num_items, entities + num_new, entities)


def with_new_items(model: M, edges: Neighborhood, known: Tensor, seed: int) -> M:
    """A model with further items; arguments as of :meth:`Recommender.add_items`."""
    if model.arguments["K"] != "all":
        edges = edges.sample(model.arguments["K"], generator(seed, "neighbors of new items"))
    device = model.indptr.device
    edges = Neighborhood(*(part.to(device) for part in edges))
    vectors = model.entity_vectors().detach()  # with texts, which new items do not have
    graph, vectors = extended(model.neighborhood, vectors, model.num_items, edges, known.to(device))
    twin = frozen(model)
    twin.num_items = model.num_items + len(known)
    twin.indptr, twin.neighbors, twin.relations = graph
    twin.entity_embedding = _table(vectors)
    twin.text_features = None
    _extend_item_tables(twin, len(known))
    sizes = {"num_items": twin.num_items, "text": None, "text_entities": None}
    twin.arguments = model.arguments | graph._asdict() | sizes
    return twin


def _extend_item_tables(twin: KGCNParameters, n: int) -> None:
    """Adds the biases and the y of n new items to a frozen copy of a model."""
    if twin.item_bias is not None:
        biases = twin.item_bias.weight
        twin.item_bias = _table(torch.cat([biases, biases.mean().expand(n, 1)]))
    if twin.history is not None and twin.history.embedding is not None:
        y = twin.history.embedding.weight
        twin.history.embedding = _table(torch.cat([y, y.new_zeros(n, y.shape[1])]))


def _table(weight: Tensor) -> nn.Embedding:
    return nn.Embedding(len(weight), weight.shape[1], _weight=weight, _freeze=True)


def extended(
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
