"""Models whose score is one inner product of a vector of the user and a vector of the item.

The best items of such a model can be found by an index of the items' vectors
(:mod:`kgrec.inference.index`). A bias of the item is a further dimension, which is 1 in the user's
vector; a term of the user alone is one more, which is 1 in the item's.

Shapes: B users, n items of a list, D the size of both vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kgrec.models.recommender import Recommender


class InnerProduct(Recommender):
    """A model with ŷ(u, v) = a_u · b_v; a subclass implements the two vectors."""

    def user_factors(self, users: Tensor, encoded: Any = None) -> Tensor:
        """(B, D) a of users (B,).

        Args:
            users: (B,) int64.
            encoded: result of :meth:`encode`, or None to compute what is needed.
        """
        raise NotImplementedError

    def item_factors(self, encoded: Any = None) -> Tensor:
        """(num_items, D) b of every item; for ``encoded`` see :meth:`user_factors`."""
        raise NotImplementedError

    def factors_of(self, items: Tensor, encoded: Any = None) -> Tensor:
        """(…, D) b of items (…); override it where a few cost less than all."""
        return F.embedding(items, self.item_factors(encoded))

    def score_lists(self, users: Tensor, items: Tensor, encoded: Any = None) -> Tensor:
        """(B, n) scores, from users (B,) and items (B, n); a_u is read once for its list."""
        a, b = self.user_factors(users, encoded), self.factors_of(items, encoded)
        return torch.einsum("bd,bnd->bn", a, b)

    def score_grid(self, users: Tensor, items: Tensor, encoded: Any = None) -> Tensor:
        """(B, n) scores, from users (B,) and items (n,), as one product of matrices."""
        return self.user_factors(users, encoded) @ self.factors_of(items, encoded).T

    def scorer(self, items: Tensor) -> Callable[[Tensor], Tensor]:
        """A function from users (B,) to (B, n) scores of items (n,), read once."""
        b = self.factors_of(items)
        return lambda users: self.user_factors(users) @ b.T

    def score_all(self, users: Tensor, encoded: Any = None) -> Tensor:
        """(B, num_items) scores, from users (B,)."""
        encoded = self.encode() if encoded is None else encoded
        return self.user_factors(users, encoded) @ self.item_factors(encoded).T
