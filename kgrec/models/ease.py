"""EASE: a linear model of items by items, in closed form, without a graph.

Steck: "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019. With X the (users, items)
matrix of training positives:

    P = (XᵀX + λI)⁻¹
    B_ij = -P_ij / P_jj  for i ≠ j,  B_jj = 0                    Eq. 8
    ŷ(u, j) = x_u · B_j                                          Eq. 2

Shapes: B rows, I items.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kgrec.data.dataset import RecDataset
from kgrec.models.item_based import ItemBased, check_grid


class EASE(ItemBased):
    """Closed-form weights between items; λ is chosen on validation.

    Args:
        num_users: users.
        num_items: items.
        users: (n,) int64, of the training positives.
        items: (n,) int64, of the training positives.
        l2: values of λ to choose from.
        choose_by: the validation figure by which λ is chosen.

    Raises:
        ConfigError: a setting that cannot work.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        users: Tensor,
        items: Tensor,
        l2: Sequence[float] = (100.0,),
        choose_by: str = "val/auc",
    ) -> None:
        super().__init__(num_users, num_items, users, items, choose_by)
        check_grid("model.l2", l2, minimum=1e-6)
        self.l2 = list(l2)
        self.weights: Tensor
        self.register_buffer("weights", torch.zeros(num_items, num_items))

    @classmethod
    def from_dataset(
        cls, dataset: RecDataset, l2: Sequence[float] = (100.0,), choose_by: str = "val/auc"
    ) -> Self:
        """Binds settings to a data set; the weights are computed by :meth:`precompute`."""
        sizes, train = (dataset.num_users, dataset.num_items), dataset.train
        return cls(*sizes, train.users, train.items, list(l2), choose_by)

    def precompute(self, dataset: RecDataset) -> None:
        """Computes B for every λ and keeps the best."""
        # Items that nobody has liked have weights 0; they are left out of the inverse.
        liked = torch.nonzero(dataset.train.item_degrees()).squeeze(1).numpy()
        gram = torch.from_numpy(self.co_occurrences()[np.ix_(liked, liked)].toarray())

        def take(l2: float) -> None:
            P = gram.clone()  # (items liked, items liked), float64
            P.diagonal().add_(l2)
            P = torch.cholesky_inverse(torch.linalg.cholesky(P))
            P.div_(-P.diagonal().clone())
            P.fill_diagonal_(0.0)
            self.weights.zero_()
            self.weights[np.ix_(liked, liked)] = P.to(self.weights)

        self.found["l2"] = float(self.choose(dataset, self.l2, take))

    def score_all(self, users: Tensor, encoded: Any = None) -> Tensor:
        """(B, num_items) scores, from users (B,)."""
        rows, items = self.history.of_users(users)
        counts = torch.bincount(rows, minlength=len(users))
        return F.embedding_bag(items, self.weights, counts.cumsum(0) - counts, mode="sum")
