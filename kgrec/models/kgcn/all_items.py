"""KGCN's scores of every item, layer by layer over entities instead of tree by tree over pairs.

For one user an entity has one representation a layer, whichever item's tree it stands in. So layer
l is computed once for every entity within H - l hops of an item: H·K work an entity, not K^H an
item. In the first layer the neighbours do not depend on the user, and with e_r = exp(u·r)

    S_u(v) = Σ_r e_r · T[v, r] / Σ_r e_r · c[v, r]                               Eq. 1-3

is a product of (users, R) and (R, d · entities), T[v, r] the sum and c[v, r] the number of v's
neighbours by relation r. W acts on T before the product, so no user pays for it.

Shapes: B users, R relations, d embedding size; a layer has n entities and m distinct (entity,
relation, neighbour) edges.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from kgrec.models.kgcn.aggregators import Aggregator, linear_parts

if TYPE_CHECKING:
    from kgrec.models.kgcn.model import KGCN

# exp of less than this below the maximum underflows in float32.
WIDEST_SPREAD = 80.0
# Users side by side, and the floats of a block: what a core's caches hold, and what fills a GPU.
USERS = {"cpu": 256, "cuda": 4096}
BLOCK_FLOATS = {"cpu": 2**20, "cuda": 2**26}
# What all layers may hold for a block of users, in bytes.
LAYER_BYTES = {"cpu": 2**25, "cuda": 2**31}
# Multiplications that an edge costs as much as, which is read at random and weighted for each user.
EDGE_COST = 128
# The product's right-hand side is kept up to so many bytes; a larger one is made block by block.
LARGEST_PRODUCT = 2**30


class Layerwise:
    """All scores of a KGCN, from its parameters as they are.

    Args:
        model: the model.
    """

    def __init__(self, model: KGCN) -> None:
        self.model = model
        reached = [torch.arange(model.num_items, device=model.indptr.device)]
        for _ in range(model.H - 1):  # entities within h hops of an item, the nearer first
            known = torch.zeros(model.entity_embedding.num_embeddings, dtype=torch.bool)
            known = known.to(model.indptr.device)
            known[reached[-1]] = True
            new = torch.unique(Layer(model, reached[-1]).neighbors)
            reached.append(torch.cat([reached[-1], new[~known[new]]]))
        self.layers = [Layer(model, entities) for entities in reached[::-1]]
        for below, layer in zip(self.layers, self.layers[1:], strict=False):
            layer.stand_on(below)
        layer, R = self.layers[0], len(model.relation_embedding)
        by_edge = model.H > 1 and EDGE_COST * layer.m < model.d * R * len(layer.entities)
        self.first: FirstLayer | EdgeFirstLayer
        self.first = EdgeFirstLayer(model, layer) if by_edge else FirstLayer(model, layer)

    def scores(self, users: Tensor) -> Tensor:
        """(B, num_items) ŷ(u, v) of every item, from users (B,)."""
        model = self.model
        out = model.user_embedding.weight.new_empty(len(users), model.num_items)
        per_user = sum(4 * (len(layer.entities) * model.d + 4 * layer.m) for layer in self.layers)
        block = USERS.get(users.device.type, USERS["cpu"])
        if len(self.layers) > 1:
            held = LAYER_BYTES.get(users.device.type, LAYER_BYTES["cpu"])
            fewest = min(self.first.FEWEST_USERS, 8 * held // per_user)
            block = max(1, min(block, max(held // per_user, fewest)))
        for start in range(0, len(users), block):
            some = users[start : start + block]
            self._score(some, out[start : start + block])
        return out

    def _score(self, users: Tensor, out: Tensor) -> None:
        model = self.model
        u = model.user_embedding.weight[users]  # (B, d)
        s = model.user_relation_scores(u)  # (B, R)
        if not model.layers[0].attention:
            s = s.new_zeros(1, s.shape[1])  # one user stands for all
        far = s.amax(dim=1) - s.amin(dim=1) > WIDEST_SPREAD
        powers = (s - s.amax(dim=1, keepdim=True)).exp()  # (B, R) e_r
        if isinstance(self.first, FirstLayer) and len(self.layers) == 1:
            self.first.scores(powers, u, out)
        else:
            x = self.first.vectors(powers)  # (B, n, d)
            for layer, aggregator in zip(self.layers[1:], model.layers[1:], strict=True):
                own, pooled = x[:, : len(layer.entities)], layer.pooled(powers, x)
                if layer is self.layers[-1]:
                    out[:] = _last_scores(u, own, pooled, aggregator)
                else:
                    x = aggregator(own, pooled)
        for row in torch.nonzero(far).flatten().tolist():  # exact at any spread, one by one
            items = torch.arange(model.num_items, device=users.device)
            out[row] = model.score(users[row].expand(model.num_items), items)


class Layer:
    """The entities of a layer and their distinct edges.

    Args:
        model: gives S(v).
        entities: (n,) entities whose representations the layer computes.
    """

    def __init__(self, model: KGCN, entities: Tensor) -> None:
        R, E = len(model.relation_embedding), model.entity_embedding.num_embeddings
        dtype = model.relation_embedding.dtype
        degrees = model.indptr.diff()[entities]
        owners = torch.repeat_interleave(degrees)
        first = (model.indptr[entities] - degrees.cumsum(0) + degrees)[owners]
        edge = first + torch.arange(len(owners), device=owners.device)
        keys = (owners * R + model.relations[edge]) * E + model.neighbors[edge]
        keys, times = torch.unique(keys, return_counts=True)
        self.entities = entities
        self.neighbors = keys % E  # (m,)
        self.relations = torch.div(keys, E, rounding_mode="floor") % R  # (m,)
        self.owners = torch.div(keys, E * R, rounding_mode="floor")  # (m,) place of the entity
        self.times = times.to(dtype)  # (m,) how often S(v) has the edge
        ends = torch.bincount(self.owners, minlength=len(entities)).cumsum(0)
        self.offsets = torch.cat([ends.new_zeros(1), ends])  # (n + 1,)
        self.m = len(keys)
        self.counts = torch.zeros(R, len(entities), dtype=dtype, device=entities.device)
        self.counts.index_put_((self.relations, self.owners), self.times, accumulate=True)
        # What Σ e_r · c[v, r] is divided by 1 over, so that an isolated entity gets 0 / 1.
        self.isolated = (degrees == 0).to(dtype)
        averaged = model.scaling == "released" and model.layers[0].attention
        self.divisor = degrees.clamp_min(1).to(dtype) if averaged else None
        self.children = self.neighbors

    def stand_on(self, below: Layer) -> None:
        """From now on neighbours are read at their places in the layer below."""
        place = self.neighbors.new_empty(int(below.entities.max()) + 1)
        place[below.entities] = torch.arange(len(below.entities), device=place.device)
        self.children = place[self.neighbors]

    def totals(self, powers: Tensor) -> Tensor:
        """(B, n) Σ_r e_r · c[v, r], from e_r (B, R)."""
        found = powers @ self.counts + self.isolated
        return found if self.divisor is None else found * self.divisor

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
    """The first layer where entities have few of the R relations: edge by edge, as the others.

    Args:
        model: the model.
        layer: its entities and edges.
    """

    FEWEST_USERS = 1

    def __init__(self, model: KGCN, layer: Layer) -> None:
        self.layer, self.aggregator = layer, model.layers[0]
        table = model.entity_embedding.weight.detach()
        own, self.parts = table[layer.entities], linear_parts(self.aggregator)
        if self.parts is not None:  # W acts before the sums, so no user pays for it
            own_part, pooled_part = self.parts
            bias = self.aggregator.linear.bias.detach()
            own = bias.expand_as(own) if own_part is None else own @ own_part.detach() + bias
            table = table @ pooled_part.detach()
        self.own, self.table = own, table

    def vectors(self, powers: Tensor) -> Tensor:
        """(B, n, d) representations after this layer, from e_r (B, R)."""
        pooled = self.layer.pooled(powers, self.table[None])
        if self.parts is None:
            made: Tensor = self.aggregator(self.own.expand_as(pooled), pooled)
            return made
        return _activated(pooled.add_(self.own), self.aggregator)


class FirstLayer:
    """The layer whose neighbours are the same vectors for every user.

    Args:
        model: the model.
        layer: its entities and edges.
    """

    FEWEST_USERS = 16  # for fewer the right-hand side is read too often; they may hold more memory

    def __init__(self, model: KGCN, layer: Layer) -> None:
        self.layer, self.aggregator = layer, model.layers[0]
        table = model.entity_embedding.weight.detach()
        own, neighbors = table[layer.entities], table[layer.neighbors] * layer.times[:, None]
        self.parts = linear_parts(self.aggregator)
        if self.parts is not None:
            own_part, pooled_part = self.parts
            bias = self.aggregator.linear.bias.detach()
            own = bias.expand_as(own) if own_part is None else own @ own_part.detach() + bias
            neighbors = neighbors @ pooled_part.detach()
        # Scores want entities innermost; the next layer wants each one's vector in one piece.
        self.d_major = model.H == 1 and self.parts is not None
        self.own = own.T.contiguous() if self.d_major else own  # (d, n) or (n, d)
        self.neighbors = neighbors  # (m, d)
        self.R, (self.n, self.d) = len(model.relation_embedding), own.shape
        floats = BLOCK_FLOATS.get(table.device.type, BLOCK_FLOATS["cpu"])
        self.width = max(1, floats // (USERS.get(table.device.type, USERS["cpu"]) * self.d))
        self.kept: list[Tensor] | None = None
        if self.R * self.n * self.d * table.element_size() <= LARGEST_PRODUCT:
            self.kept = [self._right_hand_side(i) for i in range(0, self.n, self.width)]

    def _right_hand_side(self, start: int) -> Tensor:
        """(R, w · d) T[v, r], projected by W, of the block of entities that begins there."""
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
        """Puts u · v^u into out, if this is the last layer too.

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
        """Blocks of w entities, and for each W·(…) + b of Eq. 4-6, (B, d, w) or (B, w, d).

        Where the aggregator is of one's own it is (B, w, d) representations.
        """
        B, totals = len(powers), self.layer.totals(powers)  # (B, n)
        for number, start in enumerate(range(0, self.n, self.width)):
            block = slice(start, min(start + self.width, self.n))
            right = self._right_hand_side(start) if self.kept is None else self.kept[number]
            z = powers @ right
            if self.d_major:
                z = z.view(B, self.d, -1).div_(totals[:, None, block]).add_(self.own[:, block])
                yield block, z
                continue
            z, own = z.view(B, -1, self.d), self.own[block]
            if self.parts is None:
                yield block, self.aggregator(own.expand_as(z), z.div_(totals[:, block, None]))
            else:
                yield block, torch.addcdiv(own, z, totals[:, block, None])


def _last_scores(u: Tensor, own: Tensor, pooled: Tensor, aggregator: Aggregator) -> Tensor:
    """(B, n) u · aggregator(own, pooled), from u (B, d) and vectors (B or 1, n, d)."""
    parts = linear_parts(aggregator)
    if parts is None:
        return _dot(u, aggregator(own, pooled).transpose(1, 2))
    own_part, pooled_part = parts
    if own_part is pooled_part:
        z = F.linear(pooled.add_(own), pooled_part.T, aggregator.linear.bias)
    else:
        z = F.linear(pooled, pooled_part.T, aggregator.linear.bias)
        z = z if own_part is None else z.add_(own @ own_part)
    return _dot_activated(u, z.transpose(1, 2), aggregator)


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
