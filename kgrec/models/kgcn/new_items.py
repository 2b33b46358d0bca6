"""New items in a trained KGCN: their representation comes from their neighbours in the graph.

A new item v has no vector of its own that was trained. Its order-0 vector is 0, and Eq. 1-6 give
v^u from its neighbours. The items and entities of the training are represented as before: S(v) of
an old entity does not contain a new item.

Shapes: n new items, I items of the training, E entities, N entries of S(v).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from kgrec.data.draws import generator
from kgrec.data.knowledge_graph import Neighborhood
from kgrec.models.folding import frozen

if TYPE_CHECKING:
    from kgrec.models.kgcn.model import KGCN

M = TypeVar("M", bound="KGCN")


def renumbered(entities: Tensor, num_items: int, num_new: int) -> Tensor:
    """Entities of the training in the numbering with new items, which follow the old items."""
    return torch.where(entities >= num_items, entities + num_new, entities)


def with_new_items(model: M, edges: Neighborhood, known: Tensor, seed: int) -> M:
    """A copy of a model with n further items I … I + n - 1; all other tensors are shared.

    Args:
        model: trained model.
        edges: S(v) of the new items, with entities in the numbering of the training.
        known: (n,) int64, the entity of the training that a new item is, whose vector it gets;
            -1: the item is new to the graph.
        seed: seed of the sample of K neighbours.
    """
    K, num_items, n = model.arguments["K"], model.num_items, len(known)
    if K != "all":
        edges = edges.sample(K, generator(seed, "neighbors of new items"))
    begin = int(model.indptr[num_items])  # entries of the old items come first
    twin, device = frozen(model), model.indptr.device
    edges = Neighborhood(*(part.to(device) for part in edges))
    ends = begin + edges.indptr[1:]
    indptr = torch.cat(
        [model.indptr[: num_items + 1], ends, model.indptr[num_items + 1 :] + len(edges.neighbors)]
    )
    columns = {
        "neighbors": (renumbered(model.neighbors, num_items, n),
                      renumbered(edges.neighbors, num_items, n)),
        "relations": (model.relations, edges.relations),
    }  # fmt: skip
    for name, (old, new) in columns.items():
        setattr(twin, name, torch.cat([old[:begin], new, old[begin:]]))
    twin.indptr = indptr
    table = model.entity_embedding.weight.detach()
    own = table.new_zeros(n, table.shape[1])
    known = known.to(device)
    own[known >= 0] = table[known[known >= 0]]
    vectors = torch.cat([table[:num_items], own, table[num_items:]])
    twin.entity_embedding = nn.Embedding.from_pretrained(vectors)
    twin.num_items = num_items + n
    twin.arguments = model.arguments | {
        "num_items": num_items + n, "indptr": indptr, "neighbors": twin.neighbors,
        "relations": twin.relations,
    }  # fmt: skip
    return twin
