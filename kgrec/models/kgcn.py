"""KGCN: knowledge graph convolutional networks.

Wang, Zhao, Xie, Li, Guo: "Knowledge Graph Convolutional Networks for Recommender Systems",
WWW 2019. For user u, item v, and S(v) the neighbours of v:

    π(u, r)  = u · r                                         Eq. 1
    π̃(u, r)  = softmax over e in S(v) of π(u, r(v, e))       Eq. 2
    S_u(v)   = Σ_{e in S(v)} π̃(u, r(v, e)) · e               Eq. 3
    v^u      = σ(W · join(v, S_u(v)) + b)                    Eq. 4-6, see aggregators.py
    ŷ(u, v)  = u · v^u                                       Eq. 7

H such layers, the first H - 1 with ReLU and the last with tanh (Algorithm 1).

Shapes: B rows, d embedding size, R relations; level h of the receptive field has n_h nodes
(n_0 = B) and m_h edges to the next, of all rows side by side, because entities have different
numbers of neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kgrec.data.batches import PointwiseBatch
from kgrec.data.dataset import RecDataset
from kgrec.data.draws import generator
from kgrec.data.knowledge_graph import Neighborhood
from kgrec.errors import ConfigError
from kgrec.models.aggregators import make_aggregator
from kgrec.models.recommender import Recommender, check_at_least

SCALINGS = ("paper", "released")


class Hop(NamedTuple):
    """The edges from level h of the receptive field to level h + 1, grouped by their origin.

    Attributes:
        neighbors: (m_h,) the entity that each edge leads to.
        children: (m_h,) its node at level h + 1; at the last level the entity itself.
        offsets: (n_h + 1,) where the edges of each node begin.
        weights: (m_h,) of each neighbour in the sum of Eq. 3.
    """

    neighbors: Tensor
    children: Tensor
    offsets: Tensor
    weights: Tensor


class KGCN(Recommender):
    """Knowledge graph convolutional network with a pluggable aggregator.

    Args:
        num_users: users.
        num_items: items, the first of the entities.
        num_relations: relations R.
        indptr: (num_entities + 1,) S(v) as CSR, see :class:`Neighborhood`.
        neighbors: (N,) neighbouring entities.
        relations: (N,) their relations.
        d: embedding size.
        H: hops.
        aggregator: sum, concat, neighbor, avg, or a class of one's own
            (:func:`kgrec.models.aggregators.make_aggregator`).
        scaling: "paper": the equations above. "released": as the authors' code has it, the mean
            over d in Eq. 1 and the mean over S(v) of the weighted neighbours in Eq. 3.

    Raises:
        ConfigError: a setting that cannot work.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        num_relations: int,
        indptr: Tensor,
        neighbors: Tensor,
        relations: Tensor,
        d: int = 32,
        H: int = 1,
        aggregator: str | Mapping[str, Any] = "sum",
        scaling: str = "paper",
    ) -> None:
        super().__init__()
        check_at_least("model.d", d, 1)
        check_at_least("model.H", H, 1)
        if scaling not in SCALINGS:
            raise ConfigError(f"model.scaling: found {scaling!r}, expected paper or released")
        self.num_items = num_items
        self.d, self.H, self.scaling = d, H, scaling
        self.user_embedding = nn.Embedding(num_users, d)
        self.entity_embedding = nn.Embedding(len(indptr) - 1, d)
        self.relation_embedding = nn.Parameter(torch.empty(num_relations, d))
        self.aggregators = nn.ModuleList(
            make_aggregator(aggregator, d, torch.tanh if h == H - 1 else torch.relu)
            for h in range(H)
        )
        for table in (
            self.user_embedding.weight,
            self.entity_embedding.weight,
            self.relation_embedding,
        ):
            nn.init.xavier_uniform_(table)
        self.indptr: Tensor
        self.neighbors: Tensor
        self.relations: Tensor
        self.register_buffer("indptr", indptr)
        self.register_buffer("neighbors", neighbors)
        self.register_buffer("relations", relations)
        # Where neighbours are drawn anew each epoch: the whole graph, and how many.
        self._resampled_from: tuple[Neighborhood, int] | None = None

    @classmethod
    def from_dataset(
        cls,
        dataset: RecDataset,
        K: int | str = 8,
        H: int = 1,
        d: int = 32,
        aggregator: str | Mapping[str, Any] = "sum",
        scaling: str = "paper",
        neighbors: str = "static",
    ) -> Self:
        """Binds settings to a data set; S(v) is drawn here, from torch's initial seed.

        Args:
            dataset: gives sizes and graph.
            K: neighbours sampled for every entity, or "all" for its exact neighbourhood.
            H: hops.
            d: embedding size.
            aggregator: see the class.
            scaling: see the class.
            neighbors: "static", drawn once, or "resampled", drawn anew each epoch.

        Raises:
            ConfigError: a setting that cannot work.
        """
        if K != "all" and (isinstance(K, bool) or not isinstance(K, int) or K < 1):
            raise ConfigError(f"model.K: found {K!r}, expected an integer >= 1, or all")
        if neighbors not in ("static", "resampled"):
            raise ConfigError(f"model.neighbors: found {neighbors!r}, expected static or resampled")
        whole = dataset.graph.neighborhood()
        drawn = whole
        if isinstance(K, int):
            drawn = whole.sample(K, generator(torch.initial_seed(), "neighbors"))
        model = cls(
            num_users=dataset.num_users,
            num_items=dataset.num_items,
            num_relations=dataset.num_relations,
            indptr=drawn.indptr,
            neighbors=drawn.neighbors,
            relations=drawn.relations,
            d=d,
            H=H,
            aggregator=aggregator,
            scaling=scaling,
        )
        if neighbors == "resampled" and isinstance(K, int):
            model._resampled_from = (whole, K)
        return model

    def resample(self, generator: torch.Generator) -> None:
        """Draws S(v) anew, where ``neighbors="resampled"``; its size stays what it was."""
        if self._resampled_from is not None:
            whole, K = self._resampled_from
            drawn = whole.sample(K, generator)
            self.neighbors.copy_(drawn.neighbors)
            self.relations.copy_(drawn.relations)

    def score(self, users: Tensor, items: Tensor, encoded: Any = None) -> Tensor:
        """(B,) logits ŷ(u, v), Eq. 7, from users (B,) and items (B,)."""
        u: Tensor = self.user_embedding(users)  # (B, d)
        return (u * self.represent(u, items)).sum(dim=-1)

    def loss(self, *batches: PointwiseBatch) -> Tensor:
        """Mean cross-entropy over positives and negatives, Eq. 8.

        Eq. 8 as printed subtracts the negatives' cross-entropy and sums over all data; here both
        kinds add up and the batch mean is taken. Its λ‖·‖² is the optimiser's ``weight_decay``
        on every matrix (not biases), once a step: (λ/2)‖·‖² as in the released code.
        """
        (batch,) = batches
        return F.binary_cross_entropy_with_logits(
            self.score(batch.users, batch.items), batch.labels
        )

    def user_relation_scores(self, u: Tensor) -> Tensor:
        """(B, R) π(u, r) of Eq. 1, from user vectors u (B, d)."""
        scores = u @ self.relation_embedding.T
        return scores / self.d if self.scaling == "released" else scores

    def represent(self, u: Tensor, items: Tensor) -> Tensor:
        """v^u after H layers (Algorithm 1).

        Args:
            u: (B, d) user vectors.
            items: (B,) int64.

        Returns:
            (B, d).
        """
        nodes, hops = self._receptive_field(u, items)
        table = self.entity_embedding.weight
        # The order-0 vectors of the last level are only ever summed, so never gathered.
        vectors = [F.embedding(entities, table) for entities in nodes]  # (n_h, d)
        for layer, aggregator in enumerate(self.aggregators):
            pooled = [
                F.embedding_bag(
                    hop.neighbors if layer == 0 else hop.children,
                    table if layer == 0 else vectors[h + 1],
                    hop.offsets,
                    mode="sum",
                    per_sample_weights=hop.weights,
                    include_last_offset=True,
                )  # (n_h, d)
                for h, hop in enumerate(hops[: self.H - layer])
            ]
            vectors = [aggregator(v, s) for v, s in zip(vectors, pooled, strict=False)]
        return vectors[0]

    def _receptive_field(self, u: Tensor, items: Tensor) -> tuple[list[Tensor], list[Hop]]:
        """The nodes of levels 0 … H - 1, and the edges from each level to the next.

        Within a row an entity has one representation a level, however often it is reached, so
        it is one node.

        Returns:
            nodes: H tensors (n_h,), the entity at each node.
            hops: H sets of edges.
        """
        num_relations, num_entities = len(self.relation_embedding), len(self.indptr) - 1
        attention = self.aggregators[0].attention
        if attention:
            scores = self.user_relation_scores(u).flatten()  # (B * R,)
        row = torch.arange(len(items), device=items.device)  # the row each node belongs to
        nodes, hops = [items], []
        for h in range(self.H):
            first = self.indptr[nodes[h]]
            degrees = self.indptr[nodes[h] + 1] - first  # (n_h,)
            end = degrees.cumsum(0)
            offsets = torch.cat([end.new_zeros(1), end])  # (n_h + 1,)
            parent = torch.repeat_interleave(degrees)  # (m_h,) the node each edge leaves
            edge = (first - offsets[:-1])[parent] + torch.arange(len(parent), device=row.device)
            row = row[parent]
            if attention:
                logits = scores.index_select(0, row * num_relations + self.relations[edge])
                weights = _segment_softmax(logits, parent, len(degrees))
                if self.scaling == "released":
                    weights = weights / degrees[parent]
            else:
                weights = degrees.to(u.dtype).reciprocal()[parent]
            children = neighbors = self.neighbors[edge]
            if h + 1 < self.H:
                keys, children = torch.unique(row * num_entities + neighbors, return_inverse=True)
                row = keys // num_entities
                nodes.append(keys % num_entities)
            hops.append(Hop(neighbors, children, offsets, weights))
        return nodes, hops

    def bytes_per_row(self, items: Tensor) -> Tensor:
        """(B,) bytes at the peak of a training step, from the real degrees.

        Every node that is aggregated keeps about six vectors of d floats a layer for the
        backward pass, every node of the field about 100 bytes of indices and weights. An upper
        bound where an entity is reached on several paths.
        """
        walks = torch.ones(len(self.indptr) - 1, dtype=torch.float64)  # nodes at level h
        neighbors, degrees = self.neighbors.cpu(), self.indptr.cpu().diff()
        owner = torch.repeat_interleave(degrees)
        total = torch.zeros_like(walks)
        for h in range(self.H + 1):
            total += walks * (100 + 24 * self.d * (self.H - h))
            walks = torch.zeros_like(walks).index_add_(0, owner, walks[neighbors])
        return total[items.cpu()]


def _segment_softmax(logits: Tensor, segment: Tensor, num_segments: int) -> Tensor:
    """(n,) softmax within each segment; the segment's own maximum is taken off first."""
    peak = logits.new_full((num_segments,), -torch.inf)
    peak = peak.scatter_reduce(0, segment, logits.detach(), "amax")
    powers = (logits - peak[segment]).exp()
    total = logits.new_zeros(num_segments).index_add(0, segment, powers)
    return powers / total[segment]
