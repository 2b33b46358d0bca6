"""Receptive fields of item batches: the entities that each layer reads, and their weights.

There are two views of S(v), each fast where the other is slow. :class:`Sampled` is a table of K
neighbours per entity. :class:`Grouped` has any number of neighbours, grouped by relation. As the
attention of Eq. 2 depends on a neighbour only through its relation, a softmax over all neighbours
needs one exponential per relation. Order-0 vectors of one relation are summed once for all rows:

    Σ_e π̃(u, r(v, e)) · e = Σ_r exp(u·r) · T[v, r] / Σ_r exp(u·r) · c[v, r],

T[v, r] the sum and c[v, r] the number of v's neighbours by r. With a correction of drawn
neighbours (correction.py), T is their weighted sum, and c counts the full neighbourhood.

Shapes: B rows, R relations, E entities; level h has n_h nodes of all rows together (n_0 = B).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from kgrec.data.knowledge_graph import Neighborhood
from kgrec.models.kgcn.correction import Correction
from kgrec.models.lookup import Bags

# From this many sampled neighbours on, grouping is faster (benchmarks/choices.py).
GROUP_FROM_K = 24


class ReceptiveField(NamedTuple):
    """Nodes and bags that H layers read for B rows.

    Within a row an entity has one representation per level, however often it is reached, so it is
    one node.

    Attributes:
        nodes: H tensors (n_h,), the entity at each node.
        hops: H - 1 bags (n_h) over the nodes of the next level: Eq. 3 within the field.
        leaves: bags over entities: Eq. 3 for the nodes of level H - 1 and order-0 neighbours; or,
            with ``groups``, the T of each group.
        groups: bags (n_{H-1}) over the sums of leaves, or None.
    """

    nodes: list[Tensor]
    hops: list[Bags]
    leaves: Bags
    groups: Bags | None


class Attention(NamedTuple):
    """Weights of neighbours.

    Attributes:
        scores: (B, R) π(u, r), Eq. 1; None: all neighbours weigh the same.
        averaged: whether weighted neighbours are averaged instead of summed ("released").
        dtype: dtype of the weights.
    """

    scores: Tensor | None
    averaged: bool
    dtype: torch.dtype

    def logits(self, row: Tensor | None, relations: Tensor) -> Tensor:
        """π of the users for relations.

        Args:
            row: (n,) row of each entry of ``relations``; None: entry i belongs to row i.
            relations: (n,) or (n, L).
        """
        assert self.scores is not None
        if row is None:
            return self.scores.gather(1, relations)
        first = row * self.scores.shape[1]
        flat = relations + (first if relations.ndim == 1 else first[:, None])
        return self.scores.flatten().gather(0, flat.flatten()).view(flat.shape)


class View(Protocol):
    """S(v) of every entity, in a form that is fast to read."""

    def inner(self, attention: Attention, row: Tensor | None, nodes: Tensor) -> Bags:
        """(n) bags of neighbouring entities.

        Args:
            attention: weights.
            row: (n,) row of each node; None: node i belongs to row i.
            nodes: (n,) entities.
        """

    def last(
        self, attention: Attention, row: Tensor | None, nodes: Tensor
    ) -> tuple[Bags, Bags | None]:
        """Leaves and groups of the last level; see :class:`ReceptiveField`."""


def view(neighborhood: Neighborhood, correction: Correction | None = None) -> Sampled | Grouped:
    """The faster view of a neighbourhood, or the one that has the correction."""
    if correction is not None:
        return Grouped(neighborhood, correction)
    degrees = neighborhood.degrees
    K = int(degrees.max()) if len(degrees) else 0
    if 0 < K < GROUP_FROM_K and bool(((degrees == K) | (degrees == 0)).all()):
        return Sampled(neighborhood, K)
    return Grouped(neighborhood)


def receptive_field(
    view: View, attention: Attention, items: Tensor, H: int, num_entities: int
) -> ReceptiveField:
    """The receptive field of H layers for rows of items (B,)."""
    rows, nodes, hops = levels(view, attention, items, H - 1, num_entities)
    return ReceptiveField(nodes, hops, *view.last(attention, rows[-1], nodes[-1]))


def levels(
    view: View, attention: Attention, items: Tensor, num_hops: int, num_entities: int
) -> tuple[list[Tensor | None], list[Tensor], list[Bags]]:
    """Nodes reached from items (B,) in 0 … ``num_hops`` hops.

    Returns:
        For each level the row (n_h,) of each node (None for level 0, where node i belongs to row
        i); the entity (n_h,) of each node; for all levels but the last, bags (n_h) over the nodes
        of the next level.
    """
    row: Tensor | None = None
    rows, nodes, hops = [row], [items], []
    for _ in range(num_hops):
        bags = view.inner(attention, row, nodes[-1])
        row = torch.arange(len(items), device=items.device) if row is None else row
        keys = bags.spread(row) * num_entities + bags.rows
        keys, children = torch.unique(keys, return_inverse=True)
        row = torch.div(keys, num_entities, rounding_mode="floor")
        rows.append(row)
        nodes.append(keys - row * num_entities)
        hops.append(bags._replace(rows=children))
    return rows, nodes, hops


class Sampled:
    """K neighbours of every entity that has neighbours.

    Args:
        neighborhood: S(v); every entity has K or no neighbours.
        K: number of neighbours.

    Attributes:
        reads: (E,) number of weights that :meth:`last` computes for a node of each entity.
    """

    def __init__(self, neighborhood: Neighborhood, K: int) -> None:
        connected = neighborhood.degrees > 0
        self.connected: Tensor | None = None
        self.reads = torch.full_like(neighborhood.degrees, K)
        shape = (len(connected), K)
        if connected.all():
            self.neighbors = neighborhood.neighbors.view(shape)
            self.relations = neighborhood.relations.view(shape)
        else:  # an entity without neighbours reads itself with weight 0
            self.connected = connected
            own = torch.arange(shape[0], device=connected.device)
            self.neighbors = own[:, None].repeat(1, K)
            self.neighbors[connected] = neighborhood.neighbors.view(-1, K)
            self.relations = self.neighbors.new_zeros(shape)
            self.relations[connected] = neighborhood.relations.view(-1, K)

    def inner(self, attention: Attention, row: Tensor | None, nodes: Tensor) -> Bags:
        """See :class:`View`."""
        neighbors = self.neighbors.index_select(0, nodes)
        relations = None if attention.scores is None else self.relations.index_select(0, nodes)
        connected = None if self.connected is None else self.connected[nodes]
        return sampled_bags(attention, row, neighbors, relations, connected)

    def last(
        self, attention: Attention, row: Tensor | None, nodes: Tensor
    ) -> tuple[Bags, Bags | None]:
        """See :class:`View`."""
        return self.inner(attention, row, nodes), None


def sampled_bags(
    attention: Attention,
    row: Tensor | None,
    neighbors: Tensor,
    relations: Tensor | None,
    connected: Tensor | None,
) -> Bags:
    """(n) bags of K neighbours each.

    Args:
        attention: weights.
        row: (n,) row of each node; None: node i belongs to row i.
        neighbors: (n, K) entities.
        relations: (n, K) their relations; without attention they are not read.
        connected: (n,) whether a node has neighbours, else its weights are 0; None: all have.
    """
    K = neighbors.shape[1]
    if attention.scores is None or relations is None:
        weights = torch.full_like(neighbors, 1 / K, dtype=attention.dtype)
    else:
        weights = attention.logits(row, relations).softmax(dim=-1)
        if attention.averaged:
            weights = weights / K
    if connected is not None:
        weights = weights * connected[:, None]
    return Bags(neighbors, None, weights)


class Grouped:
    """Any number of neighbours, grouped by relation.

    Args:
        neighborhood: S(v).
        correction: weights of the neighbours and counts of the full neighbourhood, whose pairs of
            entity and relation are the groups, drawn or not; None: S(v) is not corrected.

    Attributes:
        reads: (E,) number of weights that :meth:`last` computes for a node of each entity.
    """

    def __init__(self, neighborhood: Neighborhood, correction: Correction | None = None) -> None:
        indptr, neighbors, relations = neighborhood
        self.lengths = neighborhood.degrees  # (E,) drawn neighbours
        owner = torch.repeat_interleave(self.lengths)
        every = relations if correction is None else correction.counts[:, 1]
        num_relations = int(every.max()) + 1 if len(every) else 1
        keys, order = (owner * num_relations + relations).sort(stable=True)
        self._edge_weights: Tensor | None = None
        if correction is None:
            groups, self._group, sizes = torch.unique_consecutive(
                keys, return_inverse=True, return_counts=True
            )
            self._count, self.degrees = sizes, self.lengths
        else:
            owners, relations, self._count = correction.counts.unbind(1)
            groups = owners * num_relations + relations
            self._group = torch.searchsorted(groups, keys)
            sizes = torch.bincount(self._group, minlength=len(groups))
            self._edge_weights = correction.weights[order]
            self.degrees = torch.zeros_like(self.lengths).index_add(0, owners, self._count)
        # Edges are sorted by entity, then relation; so are groups.
        self.neighbors = neighbors[order]  # (N,)
        self._first_edge = indptr[:-1]
        self._relation = groups % num_relations  # (G,)
        self._size = sizes  # (G,) drawn neighbours; _count: neighbours in the denominator
        self._starts = sizes.cumsum(0) - sizes  # (G,) start of each group's edges
        self.reads = torch.bincount(groups // num_relations, minlength=len(self.lengths))
        self._first_group = self.reads.cumsum(0) - self.reads

    def inner(self, attention: Attention, row: Tensor | None, nodes: Tensor) -> Bags:
        """See :class:`View`."""
        weights, first = self._weights(attention, row, nodes)
        edge, offsets, node = ranges(self._first_edge[nodes], self.lengths[nodes])
        index = (first[:-1] - self._first_group[nodes])[node] + self._group[edge]
        weights = weights[index]
        if self._edge_weights is not None:
            weights = weights * self._edge_weights[edge]
        return Bags(self.neighbors[edge], offsets, weights)

    def last(
        self, attention: Attention, row: Tensor | None, nodes: Tensor
    ) -> tuple[Bags, Bags | None]:
        """See :class:`View`."""
        weights, offsets = self._weights(attention, row, nodes)
        entities, which = torch.unique(nodes, return_inverse=True)
        counts = self.reads[entities]
        group, first, _ = ranges(self._first_group[entities], counts)
        edge, edges, _ = ranges(self._starts[group], self._size[group])
        of_edges = None if self._edge_weights is None else self._edge_weights[edge]
        leaves = Bags(self.neighbors[edge], edges, of_edges)
        return leaves, Bags(ranges(first[which], counts[which])[0], offsets, weights)

    def _weights(
        self, attention: Attention, row: Tensor | None, nodes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Weight of a neighbour in each group of every node.

        Returns:
            (g,) weights of the groups of all nodes; (n + 1,) start of each node's groups.
        """
        group, offsets, node = ranges(self._first_group[nodes], self.reads[nodes])
        degrees = self.degrees[nodes].to(attention.dtype)
        if attention.scores is None:
            return degrees.reciprocal()[node], offsets
        logits = attention.logits(node if row is None else row[node], self._relation[group])
        peak = logits.new_full((len(nodes),), -torch.inf)
        peak = peak.scatter_reduce(0, node, logits.detach(), "amax")
        powers = (logits - peak[node]).exp()
        total = logits.new_zeros(len(nodes)).index_add(0, node, powers * self._count[group])
        if attention.averaged:
            total = total * degrees
        return powers / total[node], offsets


def ranges(first: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Ranges first[i] … first[i] + lengths[i] - 1, concatenated.

    Returns:
        (m,) elements, (n + 1,) start of each range, (m,) range of each element.
    """
    end = lengths.cumsum(0)
    offsets = torch.cat([end.new_zeros(1), end])
    owner = torch.repeat_interleave(lengths)
    shift = first - offsets[:-1]
    return shift[owner] + torch.arange(len(owner), device=owner.device), offsets, owner
