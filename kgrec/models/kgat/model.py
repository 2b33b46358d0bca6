"""KGAT: attention over the collaborative knowledge graph of users, items and entities.

Wang, He, Cao, Liu, Chua: "KGAT: Knowledge Graph Attention Network for Recommendation", KDD 2019.
Every triple, and every training positive as a triple (u, interact, i), is an edge in both
directions; a relation and its inverse have parameters of their own. N_h are the edges of node h:

    g(h, r, t) = ‖W_r e_h + e_r - W_r e_t‖²                              Eq. 1, TransR
    L_KG       = -ln σ(g(h, r, t') - g(h, r, t))                         Eq. 2
    e_N        = Σ_{(h,r,t) in N_h} π(h, r, t) e_t                       Eq. 3
    π(h, r, t) = softmax over N_h of (W_r e_t) · tanh(W_r e_h + e_r)     Eq. 4, 5
    e⁽ˡ⁺¹⁾     = ρ(W (e + e_N))                                          Eq. 6, gcn
    e⁽ˡ⁺¹⁾     = ρ(W [e; e_N])                                           Eq. 7, graphsage
    e⁽ˡ⁺¹⁾     = ρ(W₁ (e + e_N)) + ρ(W₂ (e ∘ e_N))                       Eq. 8, bi-interaction
    e*         = [e⁽⁰⁾; e⁽¹⁾; …; e⁽ᴸ⁾],  ŷ(u, i) = e*_u · e*_i           Eq. 9 to 12
    L          = -ln σ(ŷ(u, i) - ŷ(u, j)) + λ L_KG                       Eq. 13, with λ = 1

ρ is LeakyReLU. Where the paper is silent, this follows the authors' program: the slope 0.2, biases,
dropout of the outputs of a layer, the outputs of length 1 in e* (the next layer reads them as they
are), and attention as a constant, computed at the start of every epoch and for every evaluation.
Differences from that program:

- Both losses share every step, as Eq. 13 says. The program has an epoch of steps on pairs and then
  one of steps on triples, each with its own Adam.
- A corrupted triple of the graph replaces its tail, or its head, which is the tail of its inverse.
  A corrupted interaction replaces the item, in both directions, by the negative of the pair.
- In the first epoch attention is that of Eq. 4, and W_r begins as the identity. The program begins
  with the mean over the edges of each relation, vectors of a trained BPR-MF, and random W_r.
- With graphsage the program uses ReLU, and puts [e; e_N] instead of the layer's output into e*.
- Regularisation is the weight decay of the optimiser.

A new user has e⁽⁰⁾ = 0, and attention to its items, whose vectors stay as trained.

Shapes: B rows, N nodes, n users and items, m directed edges, D the size of e*.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kgrec.data.batches import PairwiseBatch, PointwiseBatch, TripleBatch
from kgrec.data.dataset import RecDataset
from kgrec.data.draws import generator as make_generator
from kgrec.data.interactions import Interactions
from kgrec.errors import SettingError
from kgrec.models.bprmf import BPRMF
from kgrec.models.folding import check_history, frozen
from kgrec.models.inner_product import InnerProduct
from kgrec.models.kgat.layers import (
    AGGREGATORS,
    Aggregator,
    concatenated,
    edge_attention,
    layer_sizes,
)
from kgrec.models.kgat.reasons import Propagation, attention_reasons
from kgrec.models.kge import TransR
from kgrec.models.lookup import Bags
from kgrec.models.propagation import (
    CollaborativeGraph,
    FromBuffers,
    collaborative_triples,
    propagate,
    segment_softmax,
)
from kgrec.models.reasons import Reasons
from kgrec.models.recommender import Recommender, check_at_least, check_number


class KGAT(InnerProduct):
    """Attentive propagation trained on pairs; its node vectors are shared with TransR.

    Args:
        num_users: number of users.
        num_items: number of items, the first of the entities.
        num_entities: number of entities.
        num_relations: number of relations of the knowledge graph.
        heads: (m / 2,) int64, heads of the triples of nodes, see ``collaborative_triples``.
        relations: (m / 2,) int64, their relations.
        tails: (m / 2,) int64, their tails.
        d: size of e⁽⁰⁾ and of the vectors of relations.
        layers: size of e⁽¹⁾, …, e⁽ᴸ⁾.
        aggregator: "bi-interaction", "gcn" or "graphsage".
        dropout: share of the numbers of e⁽¹⁾, …, e⁽ᴸ⁾ that a training step sets to 0.
        kg_weight: λ, weight of the triples' part of the loss.

    Raises:
        SettingError: a setting that cannot work.
    """

    batches: ClassVar[tuple[Any, ...]] = (PairwiseBatch, TripleBatch)
    logits: ClassVar[bool] = False
    fold_in_method: ClassVar[str | None] = "propagation"

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
        layers: Sequence[int] = (64, 32, 16),
        aggregator: str = "bi-interaction",
        dropout: float = 0.1,
        kg_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_at_least("d", d, 1)
        sizes = layer_sizes(layers)
        if aggregator not in AGGREGATORS:
            expected = ", ".join(AGGREGATORS)
            raise SettingError(f"aggregator: found {aggregator!r}, expected one of {expected}")
        check_number("dropout", dropout, 0, 1)
        check_number("kg_weight", kg_weight, 0)
        self.num_users, self.num_items = num_users, num_items
        self.num_relations = num_relations + 1  # with "interact", which is the last
        self.dropout, self.kg_weight = dropout, kg_weight
        self.kge = TransR(num_users + num_entities, 2 * self.num_relations, d, d)
        table = self.kge.entity_embedding.weight
        nn.init.xavier_uniform_(table[:num_users])
        nn.init.xavier_uniform_(table[num_users:])
        self.layers = nn.ModuleList(
            Aggregator(aggregator, inputs, outputs)
            for inputs, outputs in zip([d, *sizes[:-1]], sizes, strict=True)
        )
        self.heads: Tensor
        self.relations: Tensor
        self.tails: Tensor
        self.register_buffer("heads", heads)
        self.register_buffer("relations", relations)
        self.register_buffer("tails", tails)
        self._graph = FromBuffers[CollaborativeGraph]()
        self._epoch_attention: tuple[Tensor, Tensor] | None = None
        self._dropout_seed, self._steps = 0, 0

    @classmethod
    def from_dataset(
        cls,
        dataset: RecDataset,
        d: int = 64,
        layers: Sequence[int] = (64, 32, 16),
        aggregator: str = "bi-interaction",
        dropout: float = 0.1,
        kg_weight: float = 1.0,
    ) -> Self:
        """Binds settings to a data set."""
        counts = dataset.num_users, dataset.num_items, dataset.num_entities, dataset.num_relations
        triples = collaborative_triples(dataset.train, dataset.graph)
        sizes = layer_sizes(layers)
        return cls(*counts, *triples, d, sizes, aggregator, dropout, kg_weight)

    @property
    def graph(self) -> CollaborativeGraph:
        """The edges of every node."""
        columns = self.heads, self.relations, self.tails
        nodes = len(self.kge.entity_embedding.weight)
        return self._graph.get(
            lambda: CollaborativeGraph.from_triples(*columns, nodes, self.num_relations), *columns
        )

    @torch.no_grad()
    def attention(self) -> Tensor:
        """(m,) π of every edge, which add up to 1 over the edges of a node (Eq. 4 and 5)."""
        return edge_attention(self.kge, self.graph)

    def resample(self, generator: torch.Generator) -> None:
        """Computes the attention of the epoch, and draws the seed of its dropout."""
        attention = self.attention()
        self._epoch_attention = attention, attention[self.graph.reverse]
        self._dropout_seed = int(torch.randint(2**62, (), generator=generator))
        self._steps = 0

    def propagated(
        self, attention: Tensor, reversed_attention: Tensor | None = None, dropped: bool = False
    ) -> list[Tensor]:
        """e⁽⁰⁾, …, e⁽ᴸ⁾ of nodes; the last of the n users and items, the others of all N nodes.

        Args:
            attention: (m,) π of every edge.
            reversed_attention: (m,) π of the reverse of every edge, if it is known.
            dropped: whether dropout is applied.
        """
        table: Tensor = self.kge.entity_embedding.weight
        vectors, draws = [table], None
        if dropped and self.dropout:
            draws = make_generator(self._dropout_seed, "dropout", self._steps, table.device)
            self._steps += 1
        for number, layer in enumerate(self.layers, start=1):
            own = vectors[-1]
            neighbors = propagate(own, self.graph, attention, reversed_attention)
            if number == len(self.layers):  # e* needs no further node
                own, neighbors = self._scored(own), self._scored(neighbors)
            result = layer(own, neighbors)
            if draws is not None:
                share = 1 - self.dropout
                kept = torch.empty_like(result).bernoulli_(share, generator=draws)
                result = result * kept.div_(share)
            vectors.append(result)
        return vectors

    def _scored(self, vectors: Tensor) -> Tensor:
        """Rows of the n users and items."""
        return vectors[: self.num_users + self.num_items]

    def encode(self) -> Tensor:
        """(n, D) e* of every user and item, users first, with the attention of the parameters."""
        return concatenated([self._scored(e) for e in self.propagated(self.attention())])

    def score(self, users: Tensor, items: Tensor, encoded: Tensor | None = None) -> Tensor:
        """(B,) scores ŷ(u, i), from users (B,) and items (B,)."""
        e = self.encode() if encoded is None else encoded
        return (F.embedding(users, e) * F.embedding(items + self.num_users, e)).sum(dim=-1)

    def user_factors(self, users: Tensor, encoded: Tensor | None = None) -> Tensor:
        """(B, D) e* of users (B,)."""
        return (self.encode() if encoded is None else encoded)[users]

    def item_factors(self, encoded: Tensor | None = None) -> Tensor:
        """(num_items, D) e* of every item."""
        return (self.encode() if encoded is None else encoded)[self.num_users :]

    def item_vectors(self) -> Tensor:
        """(num_items, D) e* of every item."""
        return self.item_factors().detach()

    def loss(self, *batches: Any) -> Tensor:
        """Mean over pairs plus λ times the mean over triples, with the attention of the epoch.

        Before the first epoch there is no dropout. Each piece of a step draws its own.
        """
        pairs, triples = batches
        e = self.step_values()
        worse, better = (self.score(pairs.users, i, e) for i in (pairs.negatives, pairs.positives))
        return F.softplus(worse - better).mean() + self.kg_weight * self.graph_loss(pairs, triples)

    def step_values(self) -> Tensor:
        """(n, D) e* of every user and item, with the attention and the dropout of a step."""
        epoch = self._epoch_attention
        if epoch is None:
            return self.encode()
        layers = self.propagated(*epoch, dropped=True)
        return concatenated([self._scored(layer) for layer in layers])

    def regularizer(self, rows: PointwiseBatch, *others: Any) -> Tensor:
        """λ times the mean over triples; a positive is corrupted by a negative of the step."""
        (triples,) = others
        is_positive = rows.labels > 0
        users, positives = rows.users[is_positive], rows.items[is_positive]
        negatives = rows.items[~is_positive]
        if len(negatives) == 0:  # a step of one row, whose batch has no other item
            negatives = positives
        # Negatives follow the order of the positives, so those of pairs are of the same user.
        turn = torch.arange(len(positives), device=users.device) % len(negatives)
        pairs = PairwiseBatch(users, positives, negatives[turn])
        return self.kg_weight * self.graph_loss(pairs, triples)

    def graph_loss(self, pairs: PairwiseBatch, triples: TripleBatch) -> Tensor:
        """Mean L_KG of the triples, and of the pairs as interactions in both directions."""
        R, users = self.num_relations, pairs.users
        items, negatives = pairs.positives + self.num_users, pairs.negatives + self.num_users
        h, t, false_h, false_t = (
            column + self.num_users
            for column in (
                triples.heads, triples.tails, triples.corrupted_heads, triples.corrupted_tails,
            )
        )  # fmt: skip
        back = false_h != h  # a corrupted head is a corrupted tail of the inverse relation
        interact = torch.full_like(items, R - 1)
        relations = torch.cat([triples.relations + back * R, interact, interact + R]).repeat(2)
        heads = [torch.where(back, t, h), users, items]
        heads += [torch.where(back, false_t, false_h), users, negatives]
        tails = [torch.where(back, h, t), items, users]
        tails += [torch.where(back, false_h, false_t), negatives, users]
        true, corrupted = self.kge.score(torch.cat(heads), relations, torch.cat(tails)).chunk(2)
        return F.softplus(corrupted - true).mean()

    @torch.no_grad()
    def fold_in(self, history: Interactions, seed: int = 0) -> Recommender:
        """The inner products of propagated vectors, as a :class:`BPRMF`."""
        check_history(history, self.num_items)
        model, history = frozen(self), history.to(self.heads.device)
        layers = [model._scored(layer) for layer in model.propagated(model.attention())]
        items = [layer[self.num_users :] for layer in layers]
        interact = self.num_relations - 1
        keys = items[0] @ model.kge.matrices[interact]
        logits = keys @ torch.tanh(model.kge.relation_embedding.weight[interact])  # e_u is 0
        sizes = history.user_degrees()
        offsets = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        weights = segment_softmax(logits[history.items], offsets)
        bags = Bags(history.items, offsets, weights)
        users = [items[0].new_zeros(history.num_users, items[0].shape[1])]
        for layer, vectors in zip(model.layers, items, strict=False):
            users.append(layer(users[-1], bags.sums(vectors)))
        return BPRMF.from_vectors(concatenated(users), concatenated(items))

    @torch.no_grad()
    def explain(self, user: int, item: int, history: Tensor, top: int | None = None) -> Reasons:
        """Items that the user attends to, and entities that the item attends to.

        See :mod:`kgrec.models.kgat.reasons`.
        """
        attention = self.attention()
        vectors = self.propagated(attention)
        done = Propagation(self.graph, attention, list(self.layers), vectors, self.num_users)
        return attention_reasons(done, user, item, history, top)

    def bytes_per_row(self, items: Tensor) -> Tensor:
        """(B,) bytes at the peak, for a pair and a triple: 12 ends, and e* of 3 nodes."""
        d, sizes = self.arguments["d"], self.arguments["layers"]
        return torch.full((len(items),), 400.0 + 4 * (30 * d + 6 * (d + sum(sizes))))

    def fixed_bytes(self) -> float:
        """Bytes of the propagation: about 12 numbers for every number of a layer, and the graph."""
        sizes = [self.arguments["d"], *self.arguments["layers"]]
        numbers = self.kge.entity_embedding.num_embeddings * sum(sizes)
        return 48.0 * float(numbers) + 2 * len(self.heads) * 44
