"""LightCKG: linear propagation over users, items and entities, with a bias of every item.

LightGCN (He, Deng, Wang, Li, Zhang, Wang: "LightGCN: Simplifying and Powering Graph Convolution
Network for Recommendation", SIGIR 2020) on the collaborative knowledge graph of KGAT (Wang, He,
Cao, Liu, Chua: "KGAT: Knowledge Graph Attention Network for Recommendation", KDD 2019, section 2).
A relation has one number, as in LightKG (Li et al., KDD 2025), and not a vector or a matrix. A
training positive is an edge of weight 1, a triple of relation r an edge of weight w_r. With E⁽⁰⁾ a
vector for every node, A the symmetric matrix of the weights, s the weight of a node's own vector
and D the diagonal matrix of the row sums of A + sI:

    E⁽ᵏ⁺¹⁾  = D^-½ (A + sI) D^-½ E⁽ᵏ⁾
    e       = 1/(H + 1) Σ_{k=0..H} e⁽ᵏ⁾
    ŷ(u, v) = e_u · e_v + b_v
    b_v     = γ p_v + c_v

p_v is the logarithm of the item's number of training positives minus the mean of the trained items:
what b_v would be if no user differed from another. γ starts at 1, c at 0. An item that training
has not seen has p = 0, as the average trained item.

The score is linear in the vectors that a node reads from a neighbour, so the part of it that comes
from one entity next to the item, or from one item of the user's history, is a number
(:meth:`LightCKG.explain`). Weights of relations multiply w_r in a trained model, whose D stays.

A new user has e⁽⁰⁾ = 0 and gets its layers from those of its items, which stay as trained.

Shapes: B rows, N nodes (users, then entities), n users and items, m edges, R relations.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kgrec.data.batches import PointwiseBatch
from kgrec.data.dataset import RecDataset
from kgrec.data.interactions import Interactions
from kgrec.errors import SettingError
from kgrec.models.bprmf import BPRMF
from kgrec.models.folding import check_history, frozen
from kgrec.models.inner_product import InnerProduct
from kgrec.models.lightckg.reasons import LinearPropagation, linear_reasons
from kgrec.models.lookup import Bags
from kgrec.models.propagation import (
    CollaborativeGraph,
    FromBuffers,
    collaborative_triples,
    propagate,
)
from kgrec.models.reasons import Reasons
from kgrec.models.recommender import (
    MOST_LAYERS,
    Recommender,
    check_at_least,
    check_bool,
    check_number,
)


class LightCKG(InnerProduct):
    """Mean of H linear propagations over the collaborative knowledge graph, plus an item bias.

    Args:
        num_users: number of users.
        num_items: number of items, the first of the entities.
        num_entities: number of entities.
        num_relations: R, without the relation of the training positives.
        heads: (m / 2,) int64, heads of the triples of nodes, see ``collaborative_triples``.
        relations: (m / 2,) int64, their relations.
        tails: (m / 2,) int64, their tails.
        d: embedding size.
        H: layers of propagation.
        kg_weight: w_r of every relation; 0: no knowledge graph.
        own_weight: s.
        item_bias: whether there is b_v.

    Raises:
        SettingError: a setting that cannot work.
    """

    batches: ClassVar[tuple[Any, ...]] = (PointwiseBatch,)
    fold_in_method: ClassVar[str | None] = "propagation"
    weighs_relations = True

    def __init__(
        self,
        num_users: int,
        num_items: int,
        num_entities: int,
        num_relations: int,
        heads: Tensor,
        relations: Tensor,
        tails: Tensor,
        d: int = 64,
        H: int = 2,
        kg_weight: float = 0.1,
        own_weight: float = 1.0,
        item_bias: bool = True,
    ) -> None:
        super().__init__()
        check_at_least("d", d, 1)
        check_at_least("H", H, 1, MOST_LAYERS)
        check_number("kg_weight", kg_weight, 0)
        check_number("own_weight", own_weight, 0)
        check_bool("item_bias", item_bias)
        self.num_users, self.num_items, self.num_relations = num_users, num_items, num_relations
        self.H, self.kg_weight, self.own_weight = H, kg_weight, own_weight
        self.embedding = nn.Parameter(torch.empty(num_users + num_entities, d))  # users first
        nn.init.xavier_uniform_(self.embedding)
        self.popularity_weight = nn.Parameter(torch.ones(1)) if item_bias else None  # γ
        self.item_bias = nn.Parameter(torch.zeros(num_items)) if item_bias else None  # c
        self.heads: Tensor
        self.relations: Tensor
        self.tails: Tensor
        self.register_buffer("heads", heads)
        self.register_buffer("relations", relations)
        self.register_buffer("tails", tails)
        # (R,) multipliers of a reweighed model; no part of a checkpoint.
        self.multipliers: Tensor | None
        self.register_buffer("multipliers", None, persistent=False)
        self._graph = FromBuffers[CollaborativeGraph]()
        self._weights = FromBuffers[tuple[Tensor, Tensor]]()
        self._popularity = FromBuffers[Tensor]()

    @classmethod
    def from_dataset(
        cls,
        dataset: RecDataset,
        d: int = 64,
        H: int = 2,
        kg_weight: float = 0.1,
        own_weight: float = 1.0,
        item_bias: bool = True,
    ) -> Self:
        """Binds settings to a data set."""
        counts = dataset.num_users, dataset.num_items, dataset.num_entities, dataset.num_relations
        triples = collaborative_triples(dataset.train, dataset.graph)
        return cls(*counts, *triples, d, H, kg_weight, own_weight, item_bias)

    # ------------------------------------------------------------------ propagation

    @property
    def graph(self) -> CollaborativeGraph:
        """Edges of every node; the relation R is that of the training positives."""
        columns = self.heads, self.relations, self.tails
        nodes, relations = len(self.embedding), self.num_relations + 1
        return self._graph.get(
            lambda: CollaborativeGraph.from_triples(*columns, nodes, relations), *columns
        )

    @property
    def weights(self) -> tuple[Tensor, Tensor]:
        """(m,) entries of D^-½ A D^-½ for the edges, and (N, 1) of D^-½ sI D^-½ for the nodes."""
        columns = [self.heads, self.relations, self.tails]
        if self.multipliers is not None:
            columns.append(self.multipliers)
        return self._weights.get(self._normalized, *columns, setting=self.embedding.dtype)

    def _edge_weights(self) -> Tensor:
        """(m,) entry of A for every edge, without the multipliers of a reweighed model."""
        of_relation = self.embedding.new_full((self.num_relations + 1,), self.kg_weight)
        of_relation[-1] = 1.0
        return of_relation[self.graph.relations % (self.num_relations + 1)]

    def _row_sums(self, edges: Tensor) -> Tensor:
        """(N,) diagonal of D, from the edges' entries of A (m,)."""
        sums = edges.new_zeros(self.graph.num_nodes).index_add_(0, self.graph.owners, edges)
        return sums + self.own_weight

    def _normalized(self) -> tuple[Tensor, Tensor]:
        graph, edges = self.graph, self._edge_weights()
        roots = self._row_sums(edges).rsqrt()
        roots[roots.isinf()] = 0.0  # a node without edges
        if self.multipliers is not None:
            factors = torch.cat([self.multipliers, edges.new_ones(1)])
            edges = edges * factors[graph.relations % (self.num_relations + 1)]
        own = self.own_weight * roots.square()[:, None]
        return edges * roots[graph.owners] * roots[graph.others], own

    def bias(self) -> Tensor:
        """(num_items,) b of every item."""
        if self.item_bias is None or self.popularity_weight is None:
            return self.embedding.new_zeros(self.num_items)
        return self.popularity_weight * self.popularity + self.item_bias

    @property
    def popularity(self) -> Tensor:
        """(num_items,) p of every item."""
        columns = self.relations, self.tails
        return self._popularity.get(self._log_degrees, *columns, setting=self.embedding.dtype)

    def _log_degrees(self) -> Tensor:
        items = self.tails[self.relations == self.num_relations] - self.num_users
        degrees = torch.bincount(items, minlength=self.num_items)
        logs = degrees.clamp(min=1).to(self.embedding.dtype).log()
        mean = logs[degrees > 0].mean() if len(items) else 0.0
        return torch.where(degrees > 0, logs - mean, 0.0)

    def layers(self) -> list[Tensor]:
        """(N, d) each: E⁽⁰⁾ … E⁽ᴴ⁾."""
        graph, (edges, own) = self.graph, self.weights
        vectors: list[Tensor] = [self.embedding]
        for _ in range(self.H):
            summed = propagate(vectors[-1], graph, edges, edges)
            vectors.append(summed + own * vectors[-1] if self.own_weight else summed)
        return vectors

    def encode(self) -> Tensor:
        """(n, d + 1) e of users, then items; the last number is 1 of a user and b of an item."""
        e = torch.stack(self.layers()).mean(dim=0)[: self.num_users + self.num_items]
        ones = e.new_ones(self.num_users)
        return torch.cat([e, torch.cat([ones, self.bias()])[:, None]], dim=1)

    # ------------------------------------------------------------------ scores

    def score(self, users: Tensor, items: Tensor, encoded: Tensor | None = None) -> Tensor:
        """(B,) logits ŷ(u, v), from users (B,) and items (B,)."""
        e = self.encode() if encoded is None else encoded
        return (F.embedding(users, e) * F.embedding(items + self.num_users, e)).sum(dim=-1)

    def user_factors(self, users: Tensor, encoded: Tensor | None = None) -> Tensor:
        """(B, d + 1) e and 1 of users (B,)."""
        return F.embedding(users, self.encode() if encoded is None else encoded)

    def item_factors(self, encoded: Tensor | None = None) -> Tensor:
        """(num_items, d + 1) e and b of every item."""
        return (self.encode() if encoded is None else encoded)[self.num_users :]

    def item_vectors(self) -> Tensor:
        """(num_items, d) e of every item."""
        return self.item_factors().detach()[:, :-1]

    def step_values(self) -> Tensor:
        """The vectors of a training step, with gradients."""
        return self.encode()

    def loss(self, *batches: PointwiseBatch) -> Tensor:
        """Mean cross-entropy of the rows."""
        (batch,) = batches
        scores = self.score(batch.users, batch.items)
        return F.binary_cross_entropy_with_logits(scores, batch.labels)

    # ------------------------------------------------------------------ use

    def reweighed(self, weights: Tensor) -> Self:
        """A model in which w_r of every relation is multiplied; see :class:`Recommender`."""
        R = self.num_relations
        if weights.shape != (R,) or not bool(((weights > 0) & weights.isfinite()).all()):
            raise SettingError(
                f"weights: found {weights.tolist()}, expected {R} finite numbers above 0"
            )
        twin = frozen(self)
        current = 1.0 if self.multipliers is None else self.multipliers
        twin.multipliers = weights.to(self.embedding) * current
        twin._weights = FromBuffers()
        return twin

    @torch.no_grad()
    def fold_in(self, history: Interactions, seed: int = 0) -> Recommender:
        """The inner products of propagated vectors, as a :class:`BPRMF`.

        A new user's degree is the length of its history. A degree of an item counts the new user.
        """
        check_history(history, self.num_items)
        history, first = history.to(self.heads.device), self.num_users
        layers = [layer[first : first + self.num_items] for layer in self.layers()]
        sizes = history.user_degrees()
        sums = self._row_sums(self._edge_weights())
        of_items = sums[first : first + self.num_items] + 1
        of_users = sizes + self.own_weight
        weights = (of_users[history.users] * of_items[history.items]).rsqrt()
        bags = Bags(history.items, torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]), weights)
        own = (self.own_weight / of_users)[:, None]
        users = [layers[0].new_zeros(history.num_users, layers[0].shape[1])]
        for layer in layers[:-1]:
            users.append(bags.sums(layer) + own * users[-1])
        vectors = [torch.stack(users).mean(dim=0), torch.stack(layers).mean(dim=0)]
        lasts = vectors[0].new_ones(history.num_users), self.bias()
        vectors = [
            torch.cat([e, last[:, None]], dim=1) for e, last in zip(vectors, lasts, strict=True)
        ]
        return BPRMF.from_vectors(*vectors)

    @torch.no_grad()
    def explain(self, user: int, item: int, history: Tensor, top: int | None = None) -> Reasons:
        """Items that the user reads and entities that the item reads, with their shares.

        See :mod:`kgrec.models.lightckg.reasons`.
        """
        edges, own = self.weights
        done = LinearPropagation(self.graph, edges, own.squeeze(1), self.layers(), self.num_users)
        bias = None if self.item_bias is None else float(self.bias()[item])
        return linear_reasons(done, bias, user, item, history, top)

    def bytes_per_row(self, items: Tensor) -> Tensor:
        """(B,) bytes at the peak: about 6 vectors, and numbers of the row."""
        return torch.full((len(items),), 40.0 + 24 * (self.embedding.shape[1] + 1))

    def fixed_bytes(self) -> float:
        """Bytes of the propagation: H + 2 tables of the size of E⁽⁰⁾, and the edges."""
        return 4.0 * (self.H + 2) * self.embedding.numel() + 2 * len(self.heads) * 44
