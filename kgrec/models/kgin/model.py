"""KGIN: intents of users as mixtures of relations, and paths of relations in the graph.

Wang, Huang, Wang, Yuan, Liu, He, Chua: "Learning Intents behind Interactions with Knowledge Graph
for Recommendation", WWW 2021. The relations R have two directions, each with a vector e_r of its
own. N(u) are the training positives of user u, and N(i) the neighbours (r, v) of entity i:

    α(r, p)    = exp(w_rp) / Σ_r' exp(w_r'p)                                     section 3.1.1
    e_p        = Σ_r α(r, p) e_r                           vector of intent p    section 3.1.1
    β⁽ˡ⁾(u, p) = exp(e_p · e_u⁽ˡ⁾) / Σ_p' exp(e_p' · e_u⁽ˡ⁾)                     section 3.2.1
    e_u⁽ˡ⁺¹⁾   = 1/|N(u)| Σ_{i in N(u)} Σ_p β⁽ˡ⁾(u, p) e_p ⊙ e_i⁽ˡ⁾              section 3.2.1
    e_i⁽ˡ⁺¹⁾   = 1/|N(i)| Σ_{(r, v) in N(i)} e_r ⊙ e_v⁽ˡ⁾                        section 3.2.2
    e          = e⁽⁰⁾ + … + e⁽ᴴ⁾                           users and entities    section 3.3
    ŷ(u, i)    = e_u · e_i                                                       section 3.3
    L          = -ln σ(ŷ(u, i) - ŷ(u, j)) + λ₁ L_IND                             section 3.4

L without λ₂‖Θ‖², which is the optimiser's. L_IND (section 3.1.2) keeps the intents apart:

    distance             Σ_{p<q} dCor(e_p, e_q)            correlation of distances over coordinates
    mutual_information   Σ_p -ln [exp(s(e_p, e_p)/τ) / Σ_q exp(s(e_p, e_q)/τ)]   s the cosine
    cosine               Σ_{p<q} s(e_p, e_q)²              in the authors' code alone

Where the authors' code (github.com/huangtinglin/Knowledge_Graph_based_Intent_Network) differs from
the paper, ``variant="released"`` does as the code:

- e_u⁽ˡ⁺¹⁾ is 1/|N(u)| Σ_i (1 + Σ_p β e_p) ⊙ e_i⁽ˡ⁾.
- β compares e_u with free vectors of the intents, not with e_p.
- Every layer's vectors are scaled to length 1. The vectors e⁽⁰⁾ are not.
- L_IND compares the rows w_p of the weights, not the vectors e_p.

In both variants, as in the code, β of a layer uses that layer's e_u, and L_IND counts a pair once
(the sum of the paper counts it twice). In four points kgrec differs from the code:

- The code's mutual information compares columns of w without scaling them. Here it is the paper's.
- The code keeps a share of ``node_dropout`` of the edges; here this share is dropped. Both are 0.5.
  Here the mean is over the edges and positives that are kept; the code divides the positives' sum
  by the expected number.
- The code's L2 is on the propagated vectors of the batch, here on all parameters, as in the paper.
- A draw depends on the seed and the epoch alone.

A new user has e_u⁽⁰⁾ = 0, so its first layer has all intents at the same weight.

Shapes: B rows, U users, I items, E entities, R relations (2R directions), P intents, d embedding
size.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kgrec.data.batches import PairwiseBatch
from kgrec.data.dataset import RecDataset
from kgrec.data.interactions import Interactions
from kgrec.errors import SettingError
from kgrec.models.folding import check_history, frozen
from kgrec.models.inner_product import InnerProduct
from kgrec.models.kgin.independence import INDEPENDENCE
from kgrec.models.kgin.relational import Means, RelationalMeans
from kgrec.models.propagation import FromBuffers
from kgrec.models.reasons import Reasons, weighted_history
from kgrec.models.recommender import MOST_LAYERS, Recommender, check_at_least, check_number

VARIANTS = ("paper", "released")


class Vectors(NamedTuple):
    """Vectors of all nodes.

    Attributes:
        users: (U, d).
        entities: (E, d), items first.
    """

    users: Tensor
    entities: Tensor


class KGIN(InnerProduct):
    """Users propagate from their items by intents, entities from their neighbours by relations.

    Args:
        num_users: U.
        num_items: I, the first of the entities.
        num_entities: E.
        num_relations: R.
        users: (n,) int64, users of the training positives.
        items: (n,) int64, items of the training positives.
        heads: (M,) int64, heads of the triples.
        relations: (M,) int64, relations of the triples.
        tails: (M,) int64, tails of the triples.
        d: embedding size.
        H: layers of propagation.
        intents: P.
        variant: "paper" or "released"; see the module.
        independence: "distance", "mutual_information" or "cosine"; see the module.
        independence_weight: λ₁.
        node_dropout: share of edges and positives that a training step leaves out.
        message_dropout: share of the numbers of each layer that a training step sets to 0.

    Raises:
        SettingError: a setting that cannot work.
    """

    batches: ClassVar[tuple[Any, ...]] = (PairwiseBatch,)
    logits: ClassVar[bool] = False
    fold_in_method: ClassVar[str | None] = "propagation"

    def __init__(
        self,
        num_users: int,
        num_items: int,
        num_entities: int,
        num_relations: int,
        users: Tensor,
        items: Tensor,
        heads: Tensor,
        relations: Tensor,
        tails: Tensor,
        d: int = 64,
        H: int = 1,
        intents: int = 4,
        variant: str = "released",
        independence: str = "distance",
        independence_weight: float = 1e-4,
        node_dropout: float = 0.0,
        message_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_at_least("d", d, 1)
        check_at_least("H", H, 1, MOST_LAYERS)
        check_at_least("intents", intents, 1)
        for name, value, names in (
            ("variant", variant, VARIANTS),
            ("independence", independence, tuple(INDEPENDENCE)),
        ):
            if value not in names:
                raise SettingError(f"{name}: found {value!r}, expected one of {', '.join(names)}")
        check_number("independence_weight", independence_weight, 0)
        check_number("node_dropout", node_dropout, 0, 1)
        check_number("message_dropout", message_dropout, 0, 1)
        self.num_items, self.num_entities = num_items, num_entities
        self.num_relations, self.H, self.variant = num_relations, H, variant
        self.independence, self.independence_weight = independence, independence_weight
        self.node_dropout, self.message_dropout = node_dropout, message_dropout
        self.user_embedding = _table(num_users, d)
        self.entity_embedding = _table(num_entities, d)
        self.relation_embedding = _table(2 * num_relations, d)
        self.intent_weights = _table(intents, 2 * num_relations)  # w, a row for every intent
        self.intent_keys = _table(intents, d) if variant == "released" else None
        self.users: Tensor
        self.items: Tensor
        self.heads: Tensor
        self.relations: Tensor
        self.tails: Tensor
        for name, column in (
            ("users", users), ("items", items),
            ("heads", heads), ("relations", relations), ("tails", tails),
        ):  # fmt: skip
            self.register_buffer(name, column)
        self._likes: FromBuffers[Means] = FromBuffers()
        self._neighbors: FromBuffers[RelationalMeans] = FromBuffers()
        self._draws: torch.Generator | None = None

    @classmethod
    def from_dataset(
        cls,
        dataset: RecDataset,
        d: int = 64,
        H: int = 1,
        intents: int = 4,
        variant: str = "released",
        independence: str = "distance",
        independence_weight: float = 1e-4,
        node_dropout: float = 0.0,
        message_dropout: float = 0.0,
    ) -> Self:
        """Binds settings to a data set."""
        graph, train = dataset.graph, dataset.train
        sizes = train.num_users, train.num_items, graph.num_entities, graph.num_relations
        edges = train.users, train.items, graph.heads, graph.relations, graph.tails
        apart = independence, independence_weight
        return cls(*sizes, *edges, d, H, intents, variant, *apart, node_dropout, message_dropout)

    def likes(self) -> Means:
        """Means over the items of each user."""
        U, E, dtype = len(self.user_embedding), self.num_entities, self.user_embedding.dtype
        pairs = self.users, self.items
        return self._likes.get(lambda: Means.of_pairs(*pairs, U, E, dtype), *pairs, setting=dtype)

    def neighbors(self) -> RelationalMeans:
        """Means over the neighbours of each entity."""
        E, R, dtype = self.num_entities, self.num_relations, self.user_embedding.dtype
        triples = self.heads, self.relations, self.tails

        def means() -> RelationalMeans:
            return RelationalMeans.of_triples(*triples, E, R, dtype)

        return self._neighbors.get(means, *triples, setting=dtype)

    def mixtures(self) -> Tensor:
        """(P, 2R) α, the shares of the relations in each intent."""
        return self.intent_weights.softmax(dim=1)

    def intent_vectors(self) -> Tensor:
        """(P, d) e_p of every intent."""
        return self.mixtures() @ self.relation_embedding

    def intents_of(self, users: Tensor) -> Tensor:
        """(B, P) β of users with the vectors (B, d)."""
        keys = self.intent_vectors() if self.intent_keys is None else self.intent_keys
        return (users @ keys.T).softmax(dim=1)

    def gates(self, users: Tensor) -> Tensor:
        """(B, d) vectors by which the items of users with the vectors (B, d) are multiplied."""
        gates = self.intents_of(users) @ self.intent_vectors()
        return 1 + gates if self.variant == "released" else gates

    def layers(self, draws: torch.Generator | None = None) -> list[Vectors]:
        """Vectors of the layers 0 … H; with dropout if there is a generator."""
        likes, neighbors = self.likes(), self.neighbors()
        if draws is not None and self.node_dropout:
            keep, dtype = 1 - self.node_dropout, self.user_embedding.dtype
            likes = likes.kept(_drawn(likes.owners.shape, keep, draws).to(dtype))
            neighbors = neighbors.kept(_drawn(neighbors.owners.shape, keep, draws).to(dtype))
        layers = [Vectors(self.user_embedding, self.entity_embedding)]
        for _ in range(self.H):
            users, entities = layers[-1]
            users = likes.of(entities) * self.gates(users)
            entities = neighbors.of(entities, self.relation_embedding)
            layers.append(Vectors(self._finished(users, draws), self._finished(entities, draws)))
        return layers

    def _finished(self, vectors: Tensor, draws: torch.Generator | None) -> Tensor:
        """The vectors of a layer, after dropout and scaling."""
        if draws is not None and self.message_dropout:
            keep = 1 - self.message_dropout
            vectors = vectors * _drawn(vectors.shape, keep, draws) / keep
        return F.normalize(vectors) if self.variant == "released" else vectors

    def resample(self, generator: torch.Generator) -> None:
        """Takes the seed of the epoch's dropout from a generator; without it there is none."""
        if self.node_dropout or self.message_dropout:
            seed = int(torch.randint(2**62, (), generator=generator))
            self._draws = torch.Generator(self.user_embedding.device).manual_seed(seed)

    def encode(self, draws: torch.Generator | None = None) -> Vectors:
        """Sums of the layers of every user and entity."""
        (users, entities), *further = self.layers(draws)
        for layer in further:
            users, entities = users + layer.users, entities + layer.entities
        return Vectors(users, entities)

    def score(self, users: Tensor, items: Tensor, encoded: Vectors | None = None) -> Tensor:
        """(B,) scores ŷ(u, i), from users (B,) and items (B,)."""
        e = self.encode() if encoded is None else encoded
        return (F.embedding(users, e.users) * F.embedding(items, e.entities)).sum(dim=-1)

    def user_factors(self, users: Tensor, encoded: Vectors | None = None) -> Tensor:
        """(B, d) e of users (B,)."""
        return (self.encode() if encoded is None else encoded).users[users]

    def item_factors(self, encoded: Vectors | None = None) -> Tensor:
        """(I, d) e of every item."""
        return (self.encode() if encoded is None else encoded).entities[: self.num_items]

    def item_vectors(self) -> Tensor:
        """(I, d) e of every item."""
        return self.item_factors().detach()

    def loss(self, *batches: Any) -> Tensor:
        """Mean of -ln σ(ŷ(u, i) - ŷ(u, j)), plus λ₁ L_IND."""
        (batch,) = batches
        e = self.step_values()
        better = self.score(batch.users, batch.positives, e)
        ranking = F.softplus(self.score(batch.users, batch.negatives, e) - better).mean()
        independence = self.regularizer()
        return ranking if independence is None else ranking + independence

    def step_values(self) -> Vectors:
        """The vectors of a training step, with its dropout."""
        return self.encode(self._draws if self.training else None)

    def regularizer(self, rows: Any = None, *others: Any) -> Tensor | None:
        """λ₁ L_IND."""
        if not self.independence_weight or len(self.intent_weights) == 1:
            return None
        released = self.variant == "released"
        compared = self.intent_weights if released else self.intent_vectors()
        return self.independence_weight * INDEPENDENCE[self.independence](compared)

    @torch.no_grad()
    def fold_in(self, history: Interactions, seed: int = 0) -> Recommender:
        """The model with the users of a history, whose e⁽⁰⁾ is 0."""
        check_history(history, self.num_items)
        model, history = frozen(self), history.to(self.items.device)
        table = self.user_embedding.new_zeros(history.num_users, self.user_embedding.shape[1])
        model.user_embedding = nn.Parameter(table, requires_grad=False)
        model.users, model.items = history.users, history.items
        own = {"num_users": history.num_users, "users": history.users, "items": history.items}
        model.arguments, model._likes = {**self.arguments, **own}, FromBuffers()
        return model

    @torch.no_grad()
    def explain(self, user: int, item: int, history: Tensor, top: int | None = None) -> Reasons:
        """The items of the user's history, with exact shares, and the weights of relations.

        The score is e_u⁽⁰⁾ · e_i plus a term for each training positive of the user; the terms are
        the shares. Without an item, β and the lengths of the layers stay as they are. The weight of
        a relation is Σ_p β⁽⁰⁾(u, p) α(r, p) over both directions. The weights sum to 1.
        """
        layers, own = self.layers(), self.items[self.users == user]
        target = torch.stack([layer.entities[item] for layer in layers]).sum(dim=0)
        terms = target.new_zeros(len(own))
        for users, entities in layers[:-1]:
            parts = entities[own] * self.gates(users[user : user + 1]) / max(1, len(own))  # (n, d)
            length = parts.sum(dim=0).norm().clamp(min=1e-12)
            terms += parts @ target / (length if self.variant == "released" else 1)
        liked, start = torch.isin(own, history), float(layers[0].users[user] @ target)
        score = start + float(terms.sum())
        reasons = weighted_history(score, own[liked], terms[liked], top)
        further = {"user": start}
        if not bool(liked.all()):
            further["other positives"] = float(terms[~liked].sum())
        beta = self.intents_of(self.user_embedding[user : user + 1])[0]
        weights = (beta @ self.mixtures()).view(2, -1).sum(dim=0)
        return replace(reasons, parts=further, relation_scores=weights)

    def bytes_per_row(self, items: Tensor) -> Tensor:
        """(B,) bytes at the peak: about 6 vectors, and numbers of the row."""
        return torch.full((len(items),), 40.0 + 24 * self.user_embedding.shape[1])

    def fixed_bytes(self) -> float:
        """Bytes of the propagation: about 2 vectors of a node and 1 of an edge, in H + 1 layers."""
        d, edges = self.user_embedding.shape[1], 2 * len(self.heads)
        nodes = len(self.user_embedding) + len(self.entity_embedding)
        return 4.0 * d * (self.H + 1) * (2 * nodes + edges) + 40.0 * (edges + len(self.users))


def _drawn(shape: torch.Size, keep: float, draws: torch.Generator) -> Tensor:
    """True with probability ``keep``."""
    return torch.rand(shape, generator=draws, device=draws.device) < keep


def _table(rows: int, columns: int) -> nn.Parameter:
    table = nn.Parameter(torch.empty(rows, columns))
    nn.init.xavier_uniform_(table)
    return table
