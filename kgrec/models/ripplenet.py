"""RippleNet: preferences spread from a user's history over the knowledge graph.

Wang, Zhang, Wang, Zhao, Li, Xie, Guo: "RippleNet: Propagating User Preferences on the Knowledge
Graph for Recommender Systems", CIKM 2018. For item v and the ripple sets S_u¹ … S_uᴴ of user u
(:mod:`kgrec.models.ripple_sets`), with a matrix R_r for every relation:

    p_i  = softmax over (h_i, r_i, t_i) in S_uᵏ of vᵀ R_{r_i} h_i        Eq. 4
    o_k  = Σ_i p_i t_i                                                   Eq. 5
    u    = o_1 + … + o_H                                                 Eq. 6
    ŷ    = u · v                                                         Eq. 7

After each hop the item is updated, by default v ← W (v + o_k), as in the authors' code; the paper
does not print it. The loss is cross-entropy - λ2 Σ_k mean of σ(hᵀ R_r t) over S_uᵏ: the
authors' form of the paper's λ2 ‖I_r - Eᵀ R E‖² (Eq. 13), over triples that exist. λ1 is the
optimiser's ``weight_decay``.

Products of matrices and entities are computed once for every triple of a step, not once for every
ripple set that contains it.

Shapes: B rows, d embedding size, H hops, M triples of a ripple set, T triples, n triples of a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kgrec.data.batches import PointwiseBatch
from kgrec.data.dataset import RecDataset
from kgrec.data.draws import generator
from kgrec.data.interactions import Interactions
from kgrec.errors import SettingError
from kgrec.models.folding import check_history, frozen, own_generator
from kgrec.models.lookup import Bags, weighted_sums
from kgrec.models.reasons import LEAVE_ONE_OUT, Reasons, Step, Term, ordered
from kgrec.models.recommender import (
    LARGEST_SIZE,
    MOST_LAYERS,
    Recommender,
    check_at_least,
    check_bool,
    check_number,
    in_blocks,
)
from kgrec.models.ripple_sets import Triples, ripple_sets

UPDATES = ("replace", "plus", "replace_transform", "plus_transform")


class Products(NamedTuple):
    """Products for the distinct triples of a step.

    Attributes:
        heads: (n,) int64, entities.
        tails: (n,) int64, entities.
        keys: (n, d) R_r h.
        answers: (n, d) R_r t.
    """

    heads: Tensor
    tails: Tensor
    keys: Tensor
    answers: Tensor


class RippleNet(Recommender):
    """Ripple sets with attention by item.

    A user without a ripple set, because no triple starts from its items, has the score 0. New users
    get ripple sets of their own, drawn from their histories.

    Args:
        num_users: number of users.
        num_items: number of items, the first of the entities.
        num_entities: number of entities.
        num_relations: number of relations.
        num_triples: T.
        d: embedding size.
        H: number of hops.
        memory: M, triples of each ripple set.
        update: update of the item after a hop: replace (v ← o), plus (v ← v + o), replace_transform
            (v ← W o) or plus_transform (v ← W (v + o)).
        kge_weight: λ2.
        all_hops: whether u is the sum of all o_k; if not, u is o_H.

    Raises:
        SettingError: a setting that cannot work.
    """

    fold_in_method: ClassVar[str | None] = "exact"

    def __init__(
        self,
        num_users: int,
        num_items: int,
        num_entities: int,
        num_relations: int,
        num_triples: int,
        d: int = 16,
        H: int = 2,
        memory: int = 32,
        update: str = "plus_transform",
        kge_weight: float = 0.01,
        all_hops: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (("d", d), ("H", H), ("memory", memory)):
            check_at_least(name, value, 1, MOST_LAYERS if name == "H" else LARGEST_SIZE)
        if update not in UPDATES:
            expected = ", ".join(UPDATES)
            raise SettingError(f"update: found {update!r}, expected one of {expected}")
        check_number("kge_weight", kge_weight, 0)
        check_bool("all_hops", all_hops)
        self.num_items, self.H, self.update = num_items, H, update
        self.kge_weight, self.all_hops = kge_weight, all_hops
        self.entity_embedding = nn.Embedding(num_entities, d)
        self.relation_matrices = nn.Parameter(torch.empty(num_relations, d, d))
        nn.init.xavier_uniform_(self.entity_embedding.weight)
        bound = math.sqrt(6 / (d + d))  # Xavier-uniform for each matrix, all at once
        nn.init.uniform_(self.relation_matrices, -bound, bound)
        self.transform = nn.Linear(d, d, bias=False) if update.endswith("transform") else None
        if self.transform is not None:
            nn.init.xavier_uniform_(self.transform.weight)
        # Triples sorted by relation, and ripple sets as indices of triples.
        self.heads: Tensor
        self.relations: Tensor
        self.tails: Tensor
        self.ripples: Tensor
        for name in ("heads", "relations", "tails"):
            self.register_buffer(name, torch.zeros(num_triples, dtype=torch.int64))
        self.register_buffer("ripples", torch.full((num_users, H, memory), -1, dtype=torch.int32))

    @classmethod
    def from_dataset(
        cls,
        dataset: RecDataset,
        d: int = 16,
        H: int = 2,
        memory: int = 32,
        update: str = "plus_transform",
        kge_weight: float = 0.01,
        all_hops: bool = True,
    ) -> Self:
        """Binds settings to a data set; the ripple sets are left to :meth:`precompute`."""
        return cls(
            dataset.num_users,
            dataset.num_items,
            dataset.num_entities,
            dataset.num_relations,
            len(dataset.graph),
            d=d,
            H=H,
            memory=memory,
            update=update,
            kge_weight=kge_weight,
            all_hops=all_hops,
        )

    def precompute(self, dataset: RecDataset) -> None:
        """Draws the ripple sets, from torch's initial seed."""
        order = torch.argsort(dataset.graph.relations, stable=True)
        for name in ("heads", "relations", "tails"):
            getattr(self, name).copy_(getattr(dataset.graph, name)[order])
        draw = generator(torch.initial_seed(), "ripples")
        _, H, M = self.ripples.shape
        ripples = ripple_sets(dataset.train, self._triples(), H, M, draw)
        self.ripples.copy_(ripples)
        without = float((ripples[:, 0, 0] < 0).sum())
        self.precompute_metrics["users_without_ripple_set"] = without

    def fold_in(self, history: Interactions, seed: int = 0) -> Recommender:
        """The model with ripple sets drawn for each user from the seed and the user's items."""
        check_history(history, self.num_items)
        model, history = frozen(self), history.to("cpu")
        _, H, M = self.ripples.shape
        triples = self._triples()

        def draw(items: Tensor) -> Tensor:
            alone = Interactions(torch.zeros_like(items), items, 1, self.num_items)
            return ripple_sets(alone, triples, H, M, own_generator(seed, "ripples", items))

        histories = torch.split(history.items, history.user_degrees().tolist())
        model.ripples = torch.cat([draw(items) for items in histories]).to(self.ripples.device)
        model.arguments = {**self.arguments, "num_users": history.num_users}
        return model

    def encode(self) -> Products:
        """Products of every triple."""
        return self._products(torch.arange(len(self.heads), device=self.heads.device))

    def score(self, users: Tensor, items: Tensor, encoded: Products | None = None) -> Tensor:
        """(B,) logits ŷ, from users (B,) and items (B,)."""
        slots, products = self._ripples(users, encoded)
        v = self.entity_embedding(items)[:, None]  # (B, 1, d)
        return self._answer(v, slots, products, self._has_ripple_set(users)).squeeze(1)

    def score_all(self, users: Tensor, encoded: Products | None = None) -> Tensor:
        """(B, num_items) logits, from users (B,)."""
        items = self.entity_embedding.weight[: self.num_items]
        return self._score_all(users, items, self.encode() if encoded is None else encoded)

    def scorer(self, items: Tensor) -> Callable[[Tensor], Tensor]:
        """A function from users (B,) to (B, n) logits of items (n,), whose vectors are read once.

        Products are those of the triples of a block of users.
        """
        vectors: Tensor = self.entity_embedding(items)
        return lambda users: self._score_all(users, vectors, None)

    def _score_all(self, users: Tensor, items: Tensor, encoded: Products | None) -> Tensor:
        """(B, I) logits, from users (B,) and vectors of items (I, d)."""

        def answer(block: Tensor) -> Tensor:
            slots, products = self._ripples(block, encoded)
            v = items.expand(len(block), -1, -1)
            return self._answer(v, slots, products, self._has_ripple_set(block))

        _, _, M = self.ripples.shape
        return in_blocks(answer, users, len(items) * (M + 3 * items.shape[1]))

    def loss(self, *batches: PointwiseBatch) -> Tensor:
        """Mean cross-entropy - λ2 Σ_k mean σ(hᵀ R_r t) over the rows' ripple sets."""
        (batch,) = batches
        slots, products = self._ripples(batch.users)
        has_ripple_set = self._has_ripple_set(batch.users)
        v = self.entity_embedding(batch.items)[:, None]
        scores = self._answer(v, slots, products, has_ripple_set).squeeze(1)
        loss = F.binary_cross_entropy_with_logits(scores, batch.labels)
        if self.kge_weight == 0:
            return loss
        return loss - self._truth(slots, products, has_ripple_set)

    def regularizer(self, rows: PointwiseBatch, *others: Any) -> Tensor | None:
        """-λ2 Σ_k mean σ(hᵀ R_r t) over the rows' ripple sets."""
        if self.kge_weight == 0:
            return None
        slots, products = self._ripples(rows.users)
        return -self._truth(slots, products, self._has_ripple_set(rows.users))

    def _truth(self, slots: Tensor, products: Products, has_ripple_set: Tensor) -> Tensor:
        """λ2 Σ_k mean σ(hᵀ R_r t) over the ripple sets of rows."""
        # A triple counts as often as it is in the ripple set of a row.
        counts = torch.bincount(slots[has_ripple_set].flatten(), minlength=len(products.heads))
        truth: Tensor = (self.entity_embedding(products.heads) * products.answers).sum(-1).sigmoid()
        _, _, M = slots.shape
        return self.kge_weight * (counts * truth).sum() / (len(slots) * M)

    def _triples(self) -> Triples:
        """Triples of the graph, grouped by head."""
        return Triples.of(self.heads.cpu(), self.tails.cpu(), self.entity_embedding.num_embeddings)

    def _answer(
        self, v: Tensor, slots: Tensor, products: Products, has_ripple_set: Tensor
    ) -> Tensor:
        """(B, I) logits of items v (B, I, d)."""
        total = torch.zeros_like(v)
        single = v.shape[1] == 1
        for hop in range(self.H):
            keys = F.embedding(slots[:, hop], products.keys)  # (B, M, d)
            p = torch.softmax(v @ keys.transpose(1, 2), dim=-1)  # (B, I, M)
            tails = products.tails[slots[:, hop]]  # (B, M)
            if single:  # read and summed in one operation
                table, bags = self.entity_embedding, Bags(tails, None, p[:, 0])
                o = weighted_sums(table.weight, bags, table.sparse)[:, None]
            else:
                o = p @ self.entity_embedding(tails)  # (B, I, d)
            total = total + o if self.all_hops else o
            v = self._moved(v, o)
        return torch.where(has_ripple_set[:, None], (total * v).sum(dim=-1), 0.0)

    @torch.no_grad()
    def item_vectors(self) -> Tensor:
        """(num_items, d) v of every item before the first hop."""
        return self.entity_embedding.weight[: self.num_items].detach()

    @torch.no_grad()
    def explain(self, user: int, item: int, history: Tensor, top: int | None = None) -> Reasons:
        """Terms p_i t_i of the user's distinct triples, each removed from all hops at once.

        The weights p of other triples stay. The path of a triple starts at an item of the history;
        beyond the first hop it takes the triple of the largest weight that leads to its head.
        """
        pair = torch.tensor([[user], [item]], device=self.ripples.device)
        score = float(self.score(pair[0], pair[1]))
        if not bool(self._has_ripple_set(pair[0])):
            return Reasons(score, LEAVE_ONE_OUT)
        triples, places = torch.unique(self.ripples[user].long(), return_inverse=True)
        products = self._products(triples)
        tails = self.entity_embedding(products.tails)  # (n, d)
        weights, sums, start = [], [], self.entity_embedding.weight[item]
        v = start
        for place in places:
            p = torch.softmax(products.keys[place] @ v, dim=0)  # (M,)
            weights.append(p.new_zeros(len(triples)).index_add(0, place, p))
            sums.append(weights[-1] @ tails)
            v = self._moved(v, sums[-1])
        o = torch.stack(sums)[:, None]  # (H, 1, d)
        shares = self._total(start, o) - self._total(
            start, o - torch.stack(weights)[..., None] * tails
        )
        together = float(self._total(start, o) - self._total(start, torch.zeros_like(o)))
        steps = torch.stack([products.heads, self.relations[triples], products.tails]).T.tolist()
        reached: dict[int, tuple[int, tuple[Step, ...]]] = {}  # item and path to each entity
        paths: dict[int, tuple[int, tuple[Step, ...]]] = {}  # item and path of each triple
        for weight in weights:
            further = dict(reached)
            for n in torch.argsort(weight, descending=True).tolist():
                if float(weight[n]) > 0 and n not in paths:
                    head, relation, tail = steps[n]
                    source, before = reached.get(head, (head, ()))
                    paths[n] = source, (*before, Step(relation, tail))
                    further.setdefault(tail, paths[n])
            reached = further
        terms = [
            Term(float(sum(w[n] for w in weights)), float(shares[n]), path, source)
            for n, (source, path) in paths.items()
        ]
        kept, left_out = ordered(terms, top)
        return Reasons(score, LEAVE_ONE_OUT, kept, left_out, together)

    def _moved(self, v: Tensor, o: Tensor) -> Tensor:
        """The item after a hop, (…, d), from its vector and o of the hop."""
        moved = v + o if self.update.startswith("plus") else o
        return moved if self.transform is None else self.transform(moved)

    def _total(self, v: Tensor, sums: Tensor) -> Tensor:
        """(n,) scores of an item v (d,) from the sums o of all hops (H, n, d)."""
        for o in sums:
            v = self._moved(v, o)
        total = sums.sum(dim=0) if self.all_hops else sums[-1]
        return (total * v).sum(dim=-1)

    def _has_ripple_set(self, users: Tensor) -> Tensor:
        """(B,) bool: whether a triple starts from an item of the user's history."""
        has_ripple_set: Tensor = self.ripples[users, 0, 0] >= 0
        return has_ripple_set

    def _ripples(self, users: Tensor, encoded: Products | None = None) -> tuple[Tensor, Products]:
        """(B, H, M) indices into the products, and the products; 0 without a ripple set."""
        slots = self.ripples[users].long().clamp_(min=0)
        if encoded is not None:
            return slots, encoded
        if slots.numel() >= len(self.heads):  # computing all products is faster than sorting
            return slots, self.encode()
        triples, slots = torch.unique(slots, return_inverse=True)
        return slots, self._products(triples)

    def _products(self, triples: Tensor) -> Products:
        """Products for triples (n,), ascending, so sorted by relation."""
        ends = torch.stack([self.heads[triples], self.tails[triples]])  # (2, n)
        vectors = self.entity_embedding(ends)  # (2, n, d)
        present, sizes = torch.unique_consecutive(self.relations[triples], return_counts=True)
        parts = zip(
            torch.split(vectors, sizes.tolist(), dim=1),
            self.relation_matrices[present],
            strict=True,
        )
        products = torch.cat([part @ matrix.T for part, matrix in parts], dim=1)
        return Products(ends[0], ends[1], products[0], products[1])

    def bytes_per_row(self, items: Tensor) -> Tensor:
        """(B,) bytes at the peak: keys of every slot, their gradients, weights and indices."""
        _, H, M = self.ripples.shape
        d = self.entity_embedding.embedding_dim
        return torch.full((len(items),), float(H * M * (12 * d + 60)))
