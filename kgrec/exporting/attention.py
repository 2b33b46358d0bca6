"""KGCN in operations that can be exported.

The attention of Eq. 2 depends on a neighbour only through its relation, so weights are computed for
the groups of an entity's neighbours with one relation. :class:`OneHop` (H = 1) keeps the sum of the
neighbours of every group of every item. :class:`Deep` computes each layer once for all entities
that it needs, user by user. Its neighbours are tables: entities with a similar number of neighbours
share one, so that padding at most doubles the table and no sum needs to be scattered.

Shapes: B rows, I items, R relations, E entities, d embedding size; a layer has n entities, of up to
g groups each.
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from kgrec.data.knowledge_graph import Neighborhood
from kgrec.exporting.programs import Buffers, Formulation, user_by_user
from kgrec.models.kgcn.model import KGCN

# Pairs are scored by their own receptive fields if these have up to this many leaves.
MOST_LEAVES = 4096


class Groups(Buffers):
    """Neighbours of n entities, grouped by relation.

    Args:
        owners: (m,) entity of each neighbour, from 0 to n - 1, ascending.
        relations: (m,) relation of each neighbour.
        n: number of entities.
        averaged: whether weighted neighbours are averaged instead of summed ("released").

    Attributes:
        width: g.
        slots: (m,) group of each neighbour, an index into flat weights (n · g).
    """

    counts: Tensor
    relations: Tensor
    degrees: Tensor

    def __init__(self, owners: Tensor, relations: Tensor, n: int, averaged: bool) -> None:
        super().__init__()
        R = int(relations.max()) + 1 if len(relations) else 1
        keys, group, sizes = torch.unique(
            owners * R + relations, return_inverse=True, return_counts=True
        )
        owner = keys // R
        groups = torch.bincount(owner, minlength=n)
        rank = torch.arange(len(keys)) - (groups.cumsum(0) - groups)[owner]
        self.width = int(groups.max()) if len(keys) else 1
        self.slots = (owner * self.width + rank)[group]
        counts, of_group = torch.zeros(n, self.width), torch.zeros(n, self.width, dtype=torch.int64)
        counts[owner, rank], of_group[owner, rank] = sizes.float(), keys % R
        degrees = torch.bincount(owners, minlength=n)
        self.averaged = averaged
        self.keep(counts=counts, relations=of_group, degrees=degrees.clamp(min=1).float())

    def forward(self, scores: Tensor, entities: Tensor | None = None) -> Tensor:
        """Weight of one neighbour in each group, Eq. 2.

        Args:
            scores: (R,) π of one user; with ``entities``: (b, R), one user for each.
            entities: (b,) entities; None: all.

        Returns:
            (n, g) or (b, g).
        """
        counts, degrees = self.counts, self.degrees
        if entities is None:
            logits = scores[self.relations]
        else:
            counts, degrees = counts[entities], degrees[entities]
            logits = scores.gather(1, self.relations[entities])
        is_group = counts > 0
        peak = logits.masked_fill(~is_group, -1e30).amax(dim=-1, keepdim=True)
        powers = torch.where(is_group, logits - peak, -torch.inf).exp()
        total = (powers * counts).sum(dim=-1, keepdim=True)
        total = torch.where(total > 0, total, 1.0)  # an entity without neighbours
        return powers / (total * degrees[:, None] if self.averaged else total)


class Attentive(Formulation):
    """What both formulations share: users, relations and aggregators.

    Args:
        model: KGCN or KGNN-LS.
    """

    users: Tensor
    relations: Tensor
    biases: Tensor

    def __init__(self, model: KGCN) -> None:
        super().__init__()
        self.attention, self.released = model.attention, model.scaling == "released"
        self.averaged = self.released and self.attention
        self.aggregators = model.aggregators
        self.keep(users=model.all_user_vectors(), relations=model.relation_embedding)
        self.has_biases = model.item_bias is not None
        if model.item_bias is not None:
            self.keep(biases=model.item_bias.weight.squeeze(1))

    def relation_scores(self, u: Tensor) -> Tensor:
        """(…, R) π of users (…, d), Eq. 1; 0 where all neighbours weigh the same."""
        scores = u @ self.relations.T
        if not self.attention:
            return torch.zeros_like(scores)
        return scores / u.shape[-1] if self.released else scores

    def with_biases(self, scores: Tensor, items: Tensor | None = None) -> Tensor:
        """Scores and the biases of items (of all items if ``items`` is None), if there are any."""
        if not self.has_biases:
            return scores
        return scores + (self.biases if items is None else self.biases[items])

    def layer(self, number: int, own: Tensor, pooled: Tensor) -> Tensor:
        """(n, d) of an aggregator, Eq. 4-6."""
        vectors: Tensor = self.aggregators[number](own, pooled)
        return vectors


class OneHop(Attentive):
    """H = 1: the neighbours of a group are summed beforehand, once for all users."""

    note = (
        "For each item and relation the vectors of the neighbours are summed beforehand, so an "
        "item may have any number of neighbours; users are ranked one after the other."
    )
    own: Tensor
    sums: Tensor

    def __init__(self, model: KGCN) -> None:
        super().__init__(model)
        table, n = model.entity_vectors().detach(), model.num_items
        neighbors = int(model.indptr[n])
        owners = torch.repeat_interleave(model.indptr.diff()[:n])
        self.groups = Groups(owners, model.relations[:neighbors], n, self.averaged)
        sums = torch.zeros(n * self.groups.width, table.shape[1])
        sums.index_add_(0, self.groups.slots, table[model.neighbors[:neighbors]])
        self.keep(own=table[:n].clone(), sums=sums.view(n, self.groups.width, -1))

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """(B,) scores."""
        u = self.users[users]
        weights = self.groups(self.relation_scores(u), items)  # (B, g)
        pooled = (weights[:, None] @ self.sums[items]).squeeze(1)
        scores = (u * self.layer(0, self.own[items], pooled)).sum(dim=-1)
        return self.with_biases(scores, items)

    def catalogue(self, users: Tensor) -> Tensor:
        """(B, I) scores."""

        def score(u: Tensor) -> Tensor:
            weights = self.groups(self.relation_scores(u))  # (I, g)
            pooled = (weights[:, None] @ self.sums).squeeze(1)
            return self.with_biases(self.layer(0, self.own, pooled) @ u)

        return user_by_user(score, self.users[users])


class Table(Buffers):
    """Entities with a similar number of neighbours.

    Args:
        below: (n, L) neighbours.
        slots: (n, L) their groups; the last index of the flat weights: padding.
    """

    below: Tensor
    slots: Tensor

    def __init__(self, below: Tensor, slots: Tensor) -> None:
        super().__init__()
        self.keep(below=below, slots=slots)


class Layer(Buffers):
    """Neighbourhoods of the first n entities.

    Args:
        graph: S(v).
        n: number of entities.
        averaged: as in :class:`Groups`.
    """

    places: Tensor

    def __init__(self, graph: Neighborhood, n: int, averaged: bool) -> None:
        super().__init__()
        self.n = n
        degrees, m = graph.degrees[:n], int(graph.indptr[n])
        owners = torch.repeat_interleave(degrees)
        self.groups = Groups(owners, graph.relations[:m], n, averaged)
        # Entities with 2^(j - 1) < degree <= 2^j share a table as wide as the largest degree.
        size = torch.log2(degrees.clamp(min=1).double()).ceil().long()
        tables, members = [], []
        for j in torch.unique(size).tolist():
            chosen = torch.nonzero(size == j).squeeze(1)
            place = torch.arange(max(1, int(degrees[chosen].max())))
            inside = place < degrees[chosen][:, None]
            edge = torch.where(inside, graph.indptr[:n][chosen][:, None] + place, 0)
            below = torch.where(inside, _at(graph.neighbors, edge), 0)
            slots = torch.where(inside, _at(self.groups.slots, edge), n * self.groups.width)
            tables.append(Table(below, slots))
            members.append(chosen)
        self._tables = nn.ModuleList(tables)
        self.keep(places=torch.argsort(torch.cat(members)))

    def forward(self, scores: Tensor, x: Tensor) -> Tensor:
        """(n, d) Eq. 3 of one user, from π (R,) and vectors of entities x (·, d)."""
        weights = torch.cat([self.groups(scores).flatten(), torch.zeros(1)])
        tables = cast(list[Table], list(self._tables))
        sums = [(weights[table.slots][:, None] @ x[table.below]).squeeze(1) for table in tables]
        return torch.cat(sums)[self.places]


class Deep(Attentive):
    """H > 1. Pairs have trees of neighbours where these are small, else the layers of the user."""

    BY_LAYERS: ClassVar[str] = (
        "top_k computes each layer once for all entities, for one user after the other. "
        "Neighbours are tables for entities of similar degree. "
    )
    BY_TREE: ClassVar[str] = "score reads the tree of neighbours of each pair."
    WHOLE: ClassVar[str] = (
        "Neighbourhoods are too large for a tree of each pair, so score computes all items of the "
        "user, and a pair costs as much as a list."
    )
    entities: Tensor
    below: Tensor
    slots: Tensor

    def __init__(self, model: KGCN) -> None:
        super().__init__(model)
        self.H, self.num_items = model.H, model.num_items
        graph = Neighborhood(model.indptr, model.neighbors, model.relations)
        reached, sizes = _reached(graph, model.num_items, model.H)
        graph = _renumbered(graph, reached, sizes[-2])
        self.keep(entities=model.entity_vectors()[reached])
        widest = max(1, int(graph.degrees.max()))
        self.by_tree = widest**self.H <= MOST_LEAVES
        self.note = self.BY_LAYERS + (self.BY_TREE if self.by_tree else self.WHOLE)
        layers = [Layer(graph, n, self.averaged) for n in reversed(sizes[:-1])]
        self._layers = nn.ModuleList(layers)
        if self.by_tree:
            groups, place = layers[0].groups, torch.arange(widest)
            inside = place < graph.degrees[:, None]
            edge = torch.where(inside, graph.indptr[:-1][:, None] + place, 0)
            slot = _at(groups.slots, edge) - torch.arange(len(edge))[:, None] * groups.width
            self.keep(
                below=torch.where(inside, _at(graph.neighbors, edge), 0),
                slots=torch.where(inside, slot, groups.width),
            )

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """(B,) scores."""
        if not self.by_tree:
            return self.catalogue(users).gather(1, items[:, None]).squeeze(1)
        u, layers = self.users[users], self.layers
        scores, B, d = self.relation_scores(u), users.shape[0], u.shape[1]
        nodes, weights, width = [items[:, None]], [], self.below.shape[1]
        for h in range(self.H):
            count = width**h
            flat = nodes[h].reshape(-1)  # (B · count)
            rows = scores[:, None].expand(-1, count, -1).reshape(B * count, -1)
            own = layers[0].groups(rows, flat)  # (B · count, g)
            own = torch.cat([own, torch.zeros_like(own[:, :1])], dim=1)
            weights.append(own.gather(1, self.slots[flat]).view(B * count, 1, width))
            nodes.append(self.below[flat].view(B, count * width))
        x = [self.entities[level].view(-1, d) for level in nodes]
        for number in range(self.H):
            x = [
                self.layer(
                    number, x[h],
                    (weights[h] @ x[h + 1].view(B * width**h, width, d)).squeeze(1),
                )
                for h in range(self.H - number)
            ]  # fmt: skip
        return self.with_biases((u * x[0]).sum(dim=-1), items)

    @property
    def layers(self) -> list[Layer]:
        """Layers 1 … H."""
        return cast(list[Layer], list(self._layers))

    def catalogue(self, users: Tensor) -> Tensor:
        """(B, I) scores."""

        def score(u: Tensor) -> Tensor:
            scores, x = self.relation_scores(u), self.entities
            for number, layer in enumerate(self.layers):
                x = self.layer(number, x[: layer.n], layer(scores, x))
            return self.with_biases(x @ u)

        return user_by_user(score, self.users[users])


def _at(values: Tensor, index: Tensor) -> Tensor:
    """Values at an index; 0 where there are no values at all."""
    return values[index] if len(values) else torch.zeros_like(index)


def _reached(graph: Neighborhood, num_items: int, H: int) -> tuple[Tensor, list[int]]:
    """Entities within H hops of an item, the nearer first, and how many within 0 … H hops."""
    owners = torch.repeat_interleave(graph.degrees)
    reached, sizes = torch.arange(num_items), [num_items]
    for _ in range(H):
        inside = torch.zeros(len(graph.degrees), dtype=torch.bool)
        inside[reached] = True
        neighbors = torch.unique(graph.neighbors[inside[owners]])
        reached = torch.cat([reached, neighbors[~inside[neighbors]]])
        sizes.append(len(reached))
    return reached, sizes


def _renumbered(graph: Neighborhood, entities: Tensor, n: int) -> Neighborhood:
    """S(v) of the first n of some entities, which are numbered by their place."""
    number = torch.full((len(graph.degrees),), -1)
    number[entities] = torch.arange(len(entities))
    degrees = graph.degrees[entities[:n]]
    first = degrees.cumsum(0) - degrees
    owner = torch.repeat_interleave(degrees)
    edge = graph.indptr[entities[:n]][owner] + torch.arange(len(owner)) - first[owner]
    indptr = torch.cat([first, degrees.sum()[None]])
    return Neighborhood(indptr, number[graph.neighbors[edge]], graph.relations[edge])
