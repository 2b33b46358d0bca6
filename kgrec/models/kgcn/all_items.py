"""KGCN's scores of all items, computed layer by layer over entities, not pair by pair.

For one user an entity has one representation per layer, in the receptive fields of all items. So
layer l is computed once for every entity within H - l hops of an item: H·K work per entity, not K^H
per item. In the first layer the neighbours do not depend on the user, and with e_r = exp(u·r)

    S_u(v) = Σ_r e_r · T[v, r] / Σ_r e_r · c[v, r]                               Eq. 1-3

is a product of (users, R) and (R, d · entities), with T[v, r] the sum and c[v, r] the number of
v's neighbours by relation r. W is applied to T before the product, once for all users.

Shapes: B users, R relations, E entities, d embedding size; a layer has n entities and m distinct
(entity, relation, neighbour) edges.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kgrec.data.knowledge_graph import Neighborhood
from kgrec.models.kgcn.aggregators import Aggregator
from kgrec.models.kgcn.correction import Correction
from kgrec.models.kgcn.shards import GraphShards
from kgrec.sharding.table import ShardedTable

# exp of less than this below the maximum underflows in float32.
WIDEST_SPREAD = 80.0
# Users of a block, and floats of a block: as many as fit a core's caches, or fill a GPU.
USERS = {"cpu": 256, "cuda": 4096}
BLOCK_FLOATS = {"cpu": 2**20, "cuda": 2**26}
# Bytes that all layers may hold for a block of users.
LAYER_BYTES = {"cpu": 2**25, "cuda": 2**31}
# Cost of an edge in multiplications: an edge is read at random and weighted for each user.
EDGE_COST = 128
# The product's right-hand side is kept up to this many bytes; a larger side is made per block.
LARGEST_PRODUCT = 2**30


class Tables(NamedTuple):
    """Tensors of a KGCN that rank all items.

    Attributes:
        entities: (E, d) order-0 vectors; a sharded table is read once for each layer and block of
            items, so that all processes read it equally often.
        num_relations: R.
        neighborhood: S(v) of every entity, or the tables of it that processes share.
        num_items: items, the first of the entities.
        averaged: whether weighted neighbours are averaged instead of summed ("released").
        correction: correction of a drawn S(v): T sums weighted neighbours, and c counts the full
            neighbourhood.
    """

    entities: Tensor
    num_relations: int
    neighborhood: Neighborhood | GraphShards
    num_items: int
    averaged: bool
    correction: Correction | None = None


class AllItems:
    """Scores of all items, from parameters that no longer change.

    Args:
        tables: embeddings and graph.
        aggregators: aggregators of layers 1 … H.
        items: (n,) distinct entities in place of all items; None: all items.
        for_vectors: whether :meth:`vectors` is called, and not :meth:`scores`.
    """

    def __init__(
        self,
        tables: Tables,
        aggregators: Sequence[Aggregator],
        items: Tensor | None = None,
        for_vectors: bool = False,
    ) -> None:
        self.aggregators, self.H = list(aggregators), len(aggregators)
        device = tables.entities.device
        items = torch.arange(tables.num_items, device=device) if items is None else items
        self.num_items, self.d = len(items), tables.entities.shape[1]
        reached = [items]
        for _ in range(self.H - 1):  # entities within h hops of an item, the nearer first
            neighbors = torch.unique(Layer(tables, reached[-1]).neighbors)
            further = neighbors[~torch.isin(neighbors, reached[-1])]
            reached.append(torch.cat([reached[-1], further]))
        self.layers = [Layer(tables, entities) for entities in reached[::-1]]
        for below, layer in zip(self.layers, self.layers[1:], strict=False):
            layer.index_into(below)
        layer, R = self.layers[0], tables.num_relations
        by_edge = self.H > 1 and EDGE_COST * layer.m < self.d * R * len(layer.entities)
        self.first: FirstLayer | EdgeFirstLayer
        if by_edge:
            self.first = EdgeFirstLayer(tables.entities, layer, self.aggregators[0])
        else:
            # Scores want entities innermost, a further layer wants vectors.
            d_major = self.H == 1 and not for_vectors
            self.first = FirstLayer(tables.entities, layer, self.aggregators[0], R, d_major)

    def scores(self, u: Tensor, relation_scores: Tensor) -> Tensor:
        """(B, num_items) ŷ(u, v) of every item.

        Args:
            u: (B, d) user vectors.
            relation_scores: (B, R) π(u, r), of a spread up to :data:`WIDEST_SPREAD`; (1, R) zeros
                where all neighbours weigh the same for all users.
        """
        out = u.new_empty(len(u), self.num_items)
        block = self._users_of_a_block(u.device.type)
        for start in range(0, len(u), block):
            users = slice(start, start + block)
            s = relation_scores if len(relation_scores) == 1 else relation_scores[users]
            self._score(u[users], s, out[users])
        return out

    def vectors(self, relation_scores: Tensor) -> Tensor:
        """(B, num_items, d) representations of every item, from π(u, r) as in :meth:`scores`."""
        B = len(relation_scores)
        out = relation_scores.new_empty(B, self.num_items, self.d)
        block = self._users_of_a_block(relation_scores.device.type)
        for start in range(0, B, block):
            powers = _powers(relation_scores[start : start + block])
            x = self.first.vectors(powers)
            for layer, aggregator in zip(self.layers[1:], self.aggregators[1:], strict=True):
                x = _aggregated(x[:, : len(layer.entities)], layer.pooled(powers, x), aggregator)
            out[start : start + block] = x
        return out

    def _users_of_a_block(self, device: str) -> int:
        """Users whose layers fit in memory together."""
        block = USERS.get(device, USERS["cpu"])
        if self.H == 1:
            return block
        per_user = sum(4 * (len(layer.entities) * self.d + 4 * layer.m) for layer in self.layers)
        max_bytes = LAYER_BYTES.get(device, LAYER_BYTES["cpu"])
        fewest = min(self.first.FEWEST_USERS, 8 * max_bytes // per_user)
        return max(1, min(block, max(max_bytes // per_user, fewest)))

    def _score(self, u: Tensor, s: Tensor, out: Tensor) -> None:
        """Writes the scores of a block of users into ``out``."""
        powers = _powers(s)
        if isinstance(self.first, FirstLayer) and self.H == 1:
            self.first.scores(powers, u, out)
            return
        x = self.first.vectors(powers)  # (B, n, d)
        for layer, aggregator in zip(self.layers[1:], self.aggregators[1:], strict=True):
            own, pooled = x[:, : len(layer.entities)], layer.pooled(powers, x)
            if layer is self.layers[-1]:
                out[:] = _last_scores(u, own, pooled, aggregator)
            else:
                x = _aggregated(own, pooled, aggregator)


class Layer:
    """The entities of a layer and their distinct edges.

    Args:
        tables: the graph.
        entities: (n,) entities whose representations the layer computes.
    """

    def __init__(self, tables: Tables, entities: Tensor) -> None:
        R, E = tables.num_relations, len(tables.entities)
        dtype = tables.entities.dtype
        near, edge = tables.neighborhood.around(entities)
        degrees = near.degrees
        owners = torch.repeat_interleave(degrees)
        keys = (owners * R + near.relations) * E + near.neighbors
        correction = tables.correction
        keys, *place, times = torch.unique(
            keys, return_inverse=correction is not None, return_counts=True
        )
        self.entities = entities
        self.neighbors = keys % E  # (m,)
        self.relations = torch.div(keys, E, rounding_mode="floor") % R  # (m,)
        self.owners = torch.div(keys, E * R, rounding_mode="floor")  # (m,) index into entities
        self.times = times.to(dtype)  # (m,) how often S(v) has the edge, or its weight
        ends = torch.bincount(self.owners, minlength=len(entities)).cumsum(0)
        self.offsets = torch.cat([ends.new_zeros(1), ends])  # (n + 1,)
        self.m = len(keys)
        self.counts = torch.zeros(R, len(entities), dtype=dtype, device=entities.device)
        if correction is None:
            self.counts.index_put_((self.relations, self.owners), self.times, accumulate=True)
        else:
            weights = correction.weights[edge].to(dtype)
            self.times = torch.zeros_like(self.times).index_add(0, place[0], weights)
            owners, relations, counts = correction.of(entities)
            self.counts[relations, owners] = counts.to(dtype)
            degrees = degrees.new_zeros(len(entities)).index_add(0, owners, counts)
        # Added to the divisor Σ e_r · c[v, r], so that an isolated entity gets 0 / 1.
        self.isolated = (degrees == 0).to(dtype)
        self.divisor = degrees.clamp_min(1).to(dtype) if tables.averaged else None
        self.children = self.neighbors

    def index_into(self, below: Layer) -> None:
        """Makes :meth:`pooled` read neighbours at their indices in the layer below."""
        ascending, index = below.entities.sort()
        self.children = index[torch.searchsorted(ascending, self.neighbors)]

    def totals(self, powers: Tensor) -> Tensor:
        """(B, n) Σ_r e_r · c[v, r], from e_r (B, R)."""
        totals = powers @ self.counts + self.isolated
        return totals if self.divisor is None else totals * self.divisor

    def pooled(self, powers: Tensor, x: Tensor) -> Tensor:
        """(B, n, d) Eq. 3 for each user.

        Args:
            powers: (B, R) e_r.
            x: (B, n', d) representations of the layer below, or (1, n', d) for all users.
        """
        B, n, d = len(powers), len(self.entities), x.shape[2]
        weights = powers.index_select(1, self.relations).mul_(self.times)  # (B, m)
        weights /= self.totals(powers).index_select(1, self.owners)
        user = torch.arange(B, device=x.device)[:, None]
        rows = self.children + user * (x.shape[1] if len(x) > 1 else 0)  # (B, m)
        offsets = (self.offsets[:-1] + user * self.m).flatten()
        return F.embedding_bag(
            rows.flatten(),
            x.reshape(-1, d),
            torch.cat([offsets, offsets.new_full((1,), B * self.m)]),
            mode="sum",
            per_sample_weights=weights.flatten(),
            include_last_offset=True,
        ).view(B, n, d)


class EdgeFirstLayer:
    """The first layer computed edge by edge, for entities with few of the R relations.

    Args:
        table: (E, d) order-0 vectors.
        layer: entities and edges.
        aggregator: aggregator of the layer.
    """

    FEWEST_USERS = 1

    def __init__(self, table: Tensor, layer: Layer, aggregator: Aggregator) -> None:
        self.layer, self.aggregator = layer, aggregator
        own, self.parts = table[layer.entities], aggregator.linear_parts()
        if isinstance(table, ShardedTable):  # the rows that the edges lead to, not all rows
            distinct, layer.children = torch.unique(layer.neighbors, return_inverse=True)
            table = table[distinct]
        if self.parts is not None:  # W acts before the sums, once for all users
            A, P, bias = self.parts
            own = bias.expand_as(own) if A is None else own @ A + bias
            table = table @ P
        self.own, self.table = own, table

    def vectors(self, powers: Tensor) -> Tensor:
        """(B, n, d) representations after this layer, from e_r (B, R)."""
        pooled = self.layer.pooled(powers, self.table[None])
        if self.parts is None:
            return _aggregated(self.own, pooled, self.aggregator)
        return _activated(pooled.add_(self.own), self.aggregator)


class FirstLayer:
    """The first layer as a product, because its neighbours have the same vectors for every user.

    Args:
        table: (E, d) order-0 vectors.
        layer: entities and edges.
        aggregator: aggregator of the layer.
        R: number of relations.
        d_major: whether :meth:`scores` is called, which needs entities innermost.
    """

    FEWEST_USERS = 16  # fewer users read the right-hand side too often, so more memory is allowed

    def __init__(
        self, table: Tensor, layer: Layer, aggregator: Aggregator, R: int, d_major: bool
    ) -> None:
        self.layer, self.aggregator, self.R = layer, aggregator, R
        own, neighbors = table[layer.entities], table[layer.neighbors] * layer.times[:, None]
        self.parts = aggregator.linear_parts()
        if self.parts is not None:
            A, P, bias = self.parts
            own = bias.expand_as(own) if A is None else own @ A + bias
            neighbors = neighbors @ P
        self.d_major = d_major and self.parts is not None
        self.n, self.d = own.shape
        self.own = own.T.contiguous() if self.d_major else own  # (d, n) or (n, d)
        self.neighbors = neighbors  # (m, d)
        floats = BLOCK_FLOATS.get(table.device.type, BLOCK_FLOATS["cpu"])
        self.width = max(1, floats // (USERS.get(table.device.type, USERS["cpu"]) * self.d))
        self.products: list[Tensor] | None = None
        if self.R * self.n * self.d * table.element_size() <= LARGEST_PRODUCT:
            self.products = [self._right_hand_side(i) for i in range(0, self.n, self.width)]

    def _right_hand_side(self, start: int) -> Tensor:
        """(R, w · d) T[v, r], projected by W, of the block of entities that begins at ``start``."""
        layer, stop = self.layer, min(start + self.width, self.n)
        edges = slice(int(layer.offsets[start]), int(layer.offsets[stop]))
        width = stop - start
        sums = self.neighbors.new_zeros(self.R * width, self.d)
        row = layer.relations[edges] * width + layer.owners[edges] - start
        table: Tensor = sums.index_add_(0, row, self.neighbors[edges]).view(self.R, width, self.d)
        return (table.transpose(1, 2) if self.d_major else table).reshape(self.R, -1)

    def vectors(self, powers: Tensor) -> Tensor:
        """(B, n, d) representations after this layer, from e_r (B, R)."""
        x = powers.new_empty(len(powers), self.n, self.d)
        for block, z in self._blocks(powers):
            x[:, block] = z if self.parts is None else _activated(z, self.aggregator)
        return x

    def scores(self, powers: Tensor, u: Tensor, out: Tensor) -> None:
        """Writes u · v^u into ``out``, if this is the last layer too.

        Args:
            powers: (B, R) e_r, or (1, R) for all users.
            u: (B, d).
            out: (B, n).
        """
        for block, z in self._blocks(powers):
            if self.parts is None:
                out[:, block] = _dot(u, z.transpose(1, 2))
            else:
                out[:, block] = _dot_activated(u, z, self.aggregator)

    def _blocks(self, powers: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Blocks of w entities, and W·(…) + b of Eq. 4-6 for each, (B, d, w) or (B, w, d).

        For an aggregator without linear parts: representations (B, w, d).
        """
        B, totals = len(powers), self.layer.totals(powers)  # (B, n)
        for number, start in enumerate(range(0, self.n, self.width)):
            block = slice(start, min(start + self.width, self.n))
            right = self._right_hand_side(start) if self.products is None else self.products[number]
            z = powers @ right
            if self.d_major:
                z = z.view(B, self.d, -1).div_(totals[:, None, block]).add_(self.own[:, block])
                yield block, z
                continue
            z, own = z.view(B, -1, self.d), self.own[block]
            if self.parts is None:
                yield block, _aggregated(own, z.div_(totals[:, block, None]), self.aggregator)
            else:
                yield block, torch.addcdiv(own, z, totals[:, block, None])


def _powers(s: Tensor) -> Tensor:
    """(B, R) e_r, from π(u, r) (B, R)."""
    return (s - s.amax(dim=1, keepdim=True)).exp()


def _last_scores(u: Tensor, own: Tensor, pooled: Tensor, aggregator: Aggregator) -> Tensor:
    """(B, n) u · aggregator(own, pooled), from u (B, d) and vectors (B or 1, n, d)."""
    parts = aggregator.linear_parts()
    if parts is None:
        return _dot(u, _aggregated(own, pooled, aggregator).transpose(1, 2))
    A, P, bias = parts
    if A is P:
        z = F.linear(pooled.add_(own), P.T, bias)
    else:
        z = F.linear(pooled, P.T, bias)
        z = z if A is None else z.add_(own @ A)
    return _dot_activated(u, z.transpose(1, 2), aggregator)


def _aggregated(own: Tensor, pooled: Tensor, aggregator: Aggregator) -> Tensor:
    """(B, n, d) of the aggregator, which is given (B·n, d), two dimensions as in training.

    Args:
        own: (B, n, d), or (n, d) for all users.
        pooled: (B, n, d).
        aggregator: the aggregator to call.
    """
    rows = own.expand_as(pooled).reshape(-1, own.shape[-1]), pooled.flatten(0, 1)
    vectors: Tensor = aggregator(*rows)
    return vectors.view(pooled.shape)


def _activated(z: Tensor, aggregator: Aggregator) -> Tensor:
    """σ(z); z may be overwritten."""
    return z.relu_() if aggregator.activation is torch.relu else aggregator.activation(z)


def _dot_activated(u: Tensor, z: Tensor, aggregator: Aggregator) -> Tensor:
    """(B, w) u · σ(z), from u (B, d) and z (B or 1, d, w), which is overwritten."""
    if aggregator.activation is not torch.tanh:
        return _dot(u, aggregator.activation(z))
    # tanh z = 2 sigmoid(2z) - 1, and sigmoid is several times faster.
    return _dot(u, z.mul_(2).sigmoid_()).mul_(2).sub_(u.sum(dim=1, keepdim=True))


def _dot(u: Tensor, x: Tensor) -> Tensor:
    """(B, w) u · x of each user, from u (B, d) and x (B, d, w), or (1, d, w) for all."""
    return u @ x[0] if len(x) == 1 else torch.bmm(u[:, None], x).squeeze(1)
