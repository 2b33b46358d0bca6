"""EASE: a linear item-to-item model in closed form, without a graph.

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
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor

from kgrec.data.dataset import RecDataset
from kgrec.models.item_based import ItemBased, grid_of
from kgrec.models.reasons import Reasons, weighted_history


class EASE(ItemBased):
    """Closed-form weights between items; λ is chosen on validation.

    Args:
        num_users: number of users.
        num_items: number of items.
        users: (n,) int64, users of the training positives.
        items: (n,) int64, items of the training positives.
        l2: values of λ to choose from, or one value.
        choose_by: validation metric by which λ is chosen.

    Raises:
        SettingError: a setting that cannot work.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        users: Tensor,
        items: Tensor,
        l2: float | Sequence[float] = (100.0,),
        choose_by: str = "val/auc",
    ) -> None:
        super().__init__(num_users, num_items, users, items, choose_by)
        self.l2 = _grid(l2)
        self.weights: Tensor
        self.register_buffer("weights", torch.zeros(num_items, num_items))

    @classmethod
    def from_dataset(
        cls, dataset: RecDataset, l2: float | Sequence[float] = (100.0,), choose_by: str = "val/auc"
    ) -> Self:
        """Binds settings to a data set; the weights are computed by :meth:`precompute`."""
        sizes, train = (dataset.num_users, dataset.num_items), dataset.train
        return cls(*sizes, train.users, train.items, _grid(l2), choose_by)

    def precompute(self, dataset: RecDataset) -> None:
        """Computes B for every λ and keeps the best."""
        # Items without a training positive have weights 0; the inverse leaves them out.
        with_positive = torch.nonzero(dataset.train.item_degrees()).squeeze(1)
        X = self.positives_matrix()[:, with_positive.numpy()]

        def apply(l2: float) -> None:
            P = inverse(X, l2)  # (n, n)
            P.div_(-P.diagonal().clone())
            P.fill_diagonal_(0.0)
            self.weights.zero_()
            rows = self.weights.new_zeros(len(with_positive), self.num_items)
            columns = with_positive.to(rows.device)
            self.weights[with_positive] = rows.index_copy_(1, columns, P.to(rows))

        self.choose(dataset, {"l2": self.l2}, apply)

    def score_all(self, users: Tensor, encoded: Any = None) -> Tensor:
        """(B, num_items) scores, from users (B,)."""
        rows, items = self.history.of_users(users)
        counts = torch.bincount(rows, minlength=len(users))
        return F.embedding_bag(items, self.weights, counts.cumsum(0) - counts, mode="sum")

    def similar_to(self, item: int) -> Tensor:
        """(num_items,) B_ij of item i: what liking it adds to every score."""
        return self.weights[item]

    def explain(self, user: int, item: int, history: Tensor, top: int | None = None) -> Reasons:
        """The terms B_ij of the user's training positives i, which add up to the score."""
        own = self.history.of_users(torch.tensor([user], device=self.items.device))[1]
        return weighted_history(self.score_of(user, item), own, self.weights[own, item], top)


def _grid(l2: float | Sequence[float]) -> list[float]:
    return grid_of("l2", l2, 1e-6, float)


def inverse(X: sp.csr_array, l2: float) -> Tensor:
    """P = (XᵀX + λI)⁻¹, by a matrix of users or of items: the smaller one.

    A user with one positive adds only to the diagonal of XᵀX. With D that diagonal and λ, and Y
    the rows of the other users, Woodbury's identity inverts a matrix of users by users:

        (YᵀY + D)⁻¹ = D⁻¹ - D⁻¹Yᵀ (YD⁻¹Yᵀ + I)⁻¹ YD⁻¹

    Args:
        X: (users, n) of 0 and 1.
        l2: λ.

    Returns:
        (n, n) float64.
    """
    sizes = np.diff(X.indptr)
    several = X[sizes > 1]  # Y
    diagonal = torch.from_numpy(X[sizes == 1].sum(axis=0)) + l2  # (n,), D
    if several.shape[0] >= several.shape[1]:
        gram = torch.from_numpy((several.T @ several).toarray())
        gram.diagonal().add_(diagonal)
        return torch.cholesky_inverse(torch.linalg.cholesky(gram))
    scaled = sp.csr_array(several / diagonal.numpy())  # YD⁻¹
    inner = torch.from_numpy((scaled @ several.T).toarray())
    inner.diagonal().add_(1.0)
    inner = torch.cholesky_inverse(torch.linalg.cholesky(inner))
    half = scaled.T @ inner.numpy()  # (n, users)
    P = torch.from_numpy(-(scaled.T @ half.T))
    P.diagonal().add_(diagonal.reciprocal())
    return P
