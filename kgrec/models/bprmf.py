"""BPR-MF: matrix factorisation trained to rank a positive above a negative.

Rendle, Freudenthaler, Gantner, Schmidt-Thieme: "BPR: Bayesian Personalized Ranking from Implicit
Feedback", UAI 2009, section 4.3.1. For a positive i and a negative j of user u:

    x(u, i) = p_u · q_i
    L       = -ln σ(x(u, i) - x(u, j))                        section 4.1, without its λ‖Θ‖²

Shapes: B rows.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kgrec.data.batches import PairwiseBatch
from kgrec.models.svd import SVD


class BPRMF(SVD):
    """The model of :class:`SVD`, trained on pairs; its scores are not logits.

    Args:
        num_users: number of users.
        num_items: number of items.
        d: embedding size.
    """

    batches: ClassVar[tuple[Any, ...]] = (PairwiseBatch,)
    logits: ClassVar[bool] = False

    @classmethod
    def from_vectors(cls, users: Tensor, items: Tensor) -> Self:
        """A model of given vectors (num_users, d) and (num_items, d), which is not trained."""
        with torch.device("meta"):
            model = cls(len(users), *items.shape)
        model.user_embedding.weight = nn.Parameter(users, requires_grad=False)
        model.item_embedding.weight = nn.Parameter(items, requires_grad=False)
        return model.eval()

    def loss(self, *batches: Any) -> Tensor:
        """Mean of -ln σ(x(u, i) - x(u, j)); λ‖Θ‖² is the optimiser's."""
        (batch,) = batches
        better = self.score(batch.users, batch.positives)
        return F.softplus(self.score(batch.users, batch.negatives) - better).mean()

    def bytes_per_row(self, items: Tensor) -> Tensor:
        """(B,) bytes at the peak: about 6 vectors, and numbers of the row."""
        return 1.5 * super().bytes_per_row(items)
