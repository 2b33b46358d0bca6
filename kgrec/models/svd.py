"""SVD: matrix factorisation without biases.

Koren, Bell, Volinsky: "Matrix Factorization Techniques for Recommender Systems", IEEE Computer
2009. The KGCN paper (section 4.3) takes the unbiased version, trained on the same rows as KGCN:

    ŷ(u, v) = p_u · q_v

Shapes: B rows, d embedding size.
"""

from __future__ import annotations

from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kgrec.data.batches import PointwiseBatch
from kgrec.data.dataset import RecDataset
from kgrec.models.folding import WithUserTables
from kgrec.models.inner_product import InnerProduct
from kgrec.models.recommender import check_at_least


class SVD(InnerProduct, WithUserTables):
    """Inner product of a user's and an item's vector.

    Args:
        num_users: number of users.
        num_items: number of items.
        d: embedding size.

    Raises:
        SettingError: a setting that cannot work.
    """

    def __init__(self, num_users: int, num_items: int, d: int = 32) -> None:
        super().__init__()
        check_at_least("d", d, 1)
        self.num_items = num_items
        self.user_embedding = nn.Embedding(num_users, d)
        self.item_embedding = nn.Embedding(num_items, d)
        nn.init.xavier_uniform_(self.user_embedding.weight)
        nn.init.xavier_uniform_(self.item_embedding.weight)

    @classmethod
    def from_dataset(cls, dataset: RecDataset, d: int = 32) -> Self:
        """Binds settings to a data set."""
        return cls(dataset.num_users, dataset.num_items, d)

    def score(self, users: Tensor, items: Tensor, encoded: Any = None) -> Tensor:
        """(B,) logits ŷ(u, v), from users (B,) and items (B,)."""
        scores: Tensor = (self.user_embedding(users) * self.item_embedding(items)).sum(dim=-1)
        return scores

    def user_factors(self, users: Tensor, encoded: Any = None) -> Tensor:
        """(B, d) p of users (B,)."""
        vectors: Tensor = self.user_embedding(users)
        return vectors

    def item_factors(self, encoded: Any = None) -> Tensor:
        """(num_items, d) q of every item."""
        return self.item_embedding.weight

    def factors_of(self, items: Tensor, encoded: Any = None) -> Tensor:
        """(…, d) q of items (…)."""
        vectors: Tensor = self.item_embedding(items)
        return vectors

    def item_vectors(self) -> Tensor:
        """(num_items, d) q of every item."""
        return self.item_embedding.weight.detach()

    def loss(self, *batches: PointwiseBatch) -> Tensor:
        """Mean cross-entropy over positives and negatives; λ‖·‖² is the optimiser's."""
        (batch,) = batches
        return F.binary_cross_entropy_with_logits(
            self.score(batch.users, batch.items), batch.labels
        )

    def bytes_per_row(self, items: Tensor) -> Tensor:
        """(B,) bytes at the peak: about 4 vectors, and numbers of the row."""
        return torch.full((len(items),), 40.0 + 16 * self.user_embedding.embedding_dim)
