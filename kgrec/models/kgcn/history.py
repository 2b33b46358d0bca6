"""The user's history in the user's vector, as in SVD++ and FISM.

Koren: "Factorization Meets the Neighborhood", KDD 2008, Eq. 15; Kabbur, Ning, Karypis: "FISM:
Factored Item Similarity Models for Top-N Recommender Systems", KDD 2013. With N(u) the training
positives of u, the user's vector is

    u + Σ_{i in N(u)} y_i / √|N(u)|

in Eq. 1 and in Eq. 7 alike. A training row (u, v) leaves v out of N(u), as FISM does; otherwise the
row's own y_v would tell its label. A negative leaves nothing out, because v is not in N(u). Scores
after the training take the whole history. A user without a history has u alone.

Shapes: B rows, d embedding size, U distinct users among the rows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kgrec.data.interactions import Interactions
from kgrec.errors import SettingError
from kgrec.models.lookup import Bags, rows_and_sums

HISTORIES = ("own", "shared")


class UserHistory(nn.Module):
    """Histories of all users, and the vectors y of items.

    Args:
        kind: "own": y is a table of its own; "shared": y is the item's order-0 entity vector.
        users: (n,) int64, users of the training positives, ascending.
        items: (n,) int64, items of the training positives.
        num_items: number of items.
        d: embedding size.
    """

    def __init__(self, kind: str, users: Tensor, items: Tensor, num_items: int, d: int) -> None:
        super().__init__()
        self.users: Tensor
        self.items: Tensor
        self.register_buffer("users", users)
        self.register_buffer("items", items)
        self.embedding: nn.Embedding | None = None
        if kind == "own":
            self.embedding = nn.Embedding(num_items, d)
            nn.init.xavier_uniform_(self.embedding.weight)

    def forward(
        self, users: Tensor, without: Tensor | None, vectors: Tensor, sparse: bool
    ) -> Tensor:
        """(B, d) Σ y_i / √|N(u)|.

        Args:
            users: (B,) int64.
            without: (B,) int64, an item that each row leaves out of N(u) if it is there; or None.
            vectors: (E, d) order-0 entity vectors; those of items come first.
            sparse: whether the gradient of y is a sparse tensor.
        """
        table = vectors if self.embedding is None else self.embedding.weight
        distinct, row = torch.unique(users, return_inverse=True)
        owners, items = Interactions(self.users, self.items, 0, 0).of_users(distinct)
        history = Interactions(owners, items, len(distinct), len(table))
        lengths = history.user_degrees()  # (U,)
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        lengths = lengths[row]
        left_out, own = row[:0], items[:0]
        if without is not None:
            left_out = torch.nonzero(history.contains(row, without)).squeeze(1)
            own = without[left_out]
            lengths[left_out] -= 1
        # Sums of distinct users, from which rows subtract the item that they leave out.
        singles, sums = rows_and_sums(table, own, Bags(items, offsets), sparse)
        total = sums.index_select(0, row).index_add(0, left_out, singles, alpha=-1)
        return total * lengths.clamp(min=1).to(total.dtype).rsqrt()[:, None]

    def bytes_per_row(self, d: int) -> float:
        """Bytes of a training row: about 6 vectors, and indices of a row's mean history."""
        lengths = torch.bincount(self.users.cpu()).float()
        return 24.0 * d + 60.0 * float(lengths.square().sum() / max(1, len(self.items)))


def checked_history(kind: str, users: Tensor | None, items: Tensor | None) -> tuple[Tensor, Tensor]:
    """Users and items of the training positives.

    Raises:
        SettingError: an unknown kind of history, or no training positives.
    """
    if kind not in HISTORIES:
        raise SettingError(f"history: found {kind!r}, expected own, shared or null")
    if users is None or items is None:
        raise SettingError(
            f"history: found {kind!r} without history_users and history_items, expected both"
        )
    return users, items
