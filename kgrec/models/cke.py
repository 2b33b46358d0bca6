"""CKE: collaborative knowledge base embedding, only the structural part.

Zhang, Yuan, Lian, Xie, Ma: "Collaborative Knowledge Base Embedding for Recommender Systems", KDD
2016; without the textual and visual parts, as in the KGCN paper (section 4.3). An item's vector is
the sum of one learned from interactions and one learned, for its entity, from the graph. Both are
learned together:

    e_i     = η_i + v_i                                       section 5, without text and images
    ŷ(u, i) = u · e_i
    L       = -ln σ(ŷ(u, i) - ŷ(u, j)) - λ ln σ(f(h, r, t) - f(h', r, t'))

with f of TransR (kge.py) on the entities' vectors v. They need no unit length here: the Gaussian
priors, as weight decay, keep them short.

Shapes: B rows, d embedding size.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kgrec.data.batches import PairwiseBatch, PointwiseBatch, TripleBatch
from kgrec.data.dataset import RecDataset
from kgrec.models.folding import WithUserTables
from kgrec.models.inner_product import InnerProduct
from kgrec.models.kge import TransR
from kgrec.models.recommender import check_at_least, check_number


class CKE(InnerProduct, WithUserTables):
    """Matrix factorisation trained on pairs; its items share vectors with TransR.

    Args:
        num_users: number of users.
        num_items: number of items, the first of the entities.
        num_entities: number of entities.
        num_relations: number of relations.
        d: size of every vector.
        kg_weight: λ, weight of the triples' part of the loss.

    Raises:
        SettingError: a setting that cannot work.
    """

    batches: ClassVar[tuple[Any, ...]] = (PairwiseBatch, TripleBatch)
    logits: ClassVar[bool] = False

    def __init__(
        self,
        num_users: int,
        num_items: int,
        num_entities: int,
        num_relations: int,
        d: int = 64,
        kg_weight: float = 0.1,
    ) -> None:
        super().__init__()
        check_at_least("d", d, 1)
        check_number("kg_weight", kg_weight, 0)
        self.num_items, self.kg_weight = num_items, kg_weight
        self.user_embedding = nn.Embedding(num_users, d)
        self.item_embedding = nn.Embedding(num_items, d)
        self.kge = TransR(num_entities, num_relations, d, d)
        nn.init.xavier_uniform_(self.user_embedding.weight)
        nn.init.xavier_uniform_(self.item_embedding.weight)

    @classmethod
    def from_dataset(cls, dataset: RecDataset, d: int = 64, kg_weight: float = 0.1) -> Self:
        """Binds settings to a data set."""
        users, items = dataset.num_users, dataset.num_items
        return cls(users, items, dataset.num_entities, dataset.num_relations, d, kg_weight)

    def represent(self, items: Tensor) -> Tensor:
        """(…, d) e of items (…)."""
        vectors: Tensor = self.item_embedding(items) + self.kge.entity_embedding(items)
        return vectors

    def encode(self) -> Tensor:
        """(num_items, d) e of every item."""
        return self.item_embedding.weight + self.kge.entity_embedding.weight[: self.num_items]

    def score(self, users: Tensor, items: Tensor, encoded: Tensor | None = None) -> Tensor:
        """(B,) scores ŷ(u, i), from users (B,) and items (B,)."""
        e = self.represent(items) if encoded is None else encoded[items]
        scores: Tensor = (self.user_embedding(users) * e).sum(dim=-1)
        return scores

    def user_factors(self, users: Tensor, encoded: Tensor | None = None) -> Tensor:
        """(B, d) u of users (B,)."""
        vectors: Tensor = self.user_embedding(users)
        return vectors

    def item_factors(self, encoded: Tensor | None = None) -> Tensor:
        """(num_items, d) e of every item."""
        return self.encode() if encoded is None else encoded

    def factors_of(self, items: Tensor, encoded: Tensor | None = None) -> Tensor:
        """(…, d) e of items (…)."""
        return self.represent(items) if encoded is None else F.embedding(items, encoded)

    def item_vectors(self) -> Tensor:
        """(num_items, d) e of every item."""
        return self.encode().detach()

    def loss(self, *batches: Any) -> Tensor:
        """Mean over pairs plus λ times the mean over triples; priors are the weight decay."""
        pairs, triples = batches
        items = torch.cat([pairs.positives, pairs.negatives])
        better, worse = self.score(pairs.users.repeat(2), items).chunk(2)
        return F.softplus(worse - better).mean() + self._weighted_loss(triples)

    def regularizer(self, rows: PointwiseBatch, *others: Any) -> Tensor:
        """λ times the mean over triples."""
        (triples,) = others
        return self._weighted_loss(triples)

    def _weighted_loss(self, triples: TripleBatch) -> Tensor:
        return self.kg_weight * self.kge.loss(triples)

    def bytes_per_row(self, items: Tensor) -> Tensor:
        """(B,) bytes at the peak, for a pair and a triple: about 19 vectors."""
        d = self.user_embedding.embedding_dim
        return torch.full((len(items),), 200.0 + 76 * d)
