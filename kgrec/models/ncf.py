"""NCF: neural collaborative filtering, a factorisation and a perceptron combined (NeuMF).

He, Liao, Zhang, Nie, Hu, Chua: "Neural Collaborative Filtering", WWW 2017. With vectors p, q of
user and item for the factorisation, and others p', q' for the perceptron:

    φ_GMF = p ∘ q                                             Eq. 9, before its last layer
    φ_MLP = a(W_L(… a(W_1 [p'; q'] + b_1) …) + b_L)           Eq. 10
    ŷ     = h · [φ_GMF; φ_MLP] + c                            Eq. 12, a logit

with a = ReLU and layers that halve in size down to d, the size of φ_GMF; c is a bias, as in the
authors' code. Both parts are trained together, without the paper's pretraining of each.

Shapes: B rows, I items, d predictive factors, L layers; [p'; q'] has 2^L d numbers, the output of
W_l has 2^(L - l) d.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kgrec.data.batches import PointwiseBatch
from kgrec.data.dataset import RecDataset
from kgrec.models.folding import WithUserTables
from kgrec.models.recommender import MOST_LAYERS, check_at_least, in_blocks


class ItemParts(NamedTuple):
    """Parts of the score that depend only on items.

    Attributes:
        factors: (I, d) q ∘ h_GMF.
        inputs: (I, 2^(L - 1) d) the item's half of W_1 [p'; q'] + b_1.
    """

    factors: Tensor
    inputs: Tensor


class NCF(WithUserTables):
    """NeuMF: GMF and MLP, fused by one linear layer.

    Args:
        num_users: number of users.
        num_items: number of items.
        d: predictive factors of each part.
        num_layers: L, layers of the perceptron.

    Raises:
        SettingError: a setting that cannot work.
    """

    user_tables: ClassVar[tuple[str, ...]] = ("user_factors.weight", "user_inputs.weight")

    def __init__(self, num_users: int, num_items: int, d: int = 8, num_layers: int = 3) -> None:
        super().__init__()
        check_at_least("d", d, 1)
        check_at_least("num_layers", num_layers, 1, MOST_LAYERS)
        self.num_items = num_items
        wide = d * 2 ** (num_layers - 1)  # of p' and of q'
        self.user_factors = nn.Embedding(num_users, d)
        self.item_factors = nn.Embedding(num_items, d)
        self.user_inputs = nn.Embedding(num_users, wide)
        self.item_inputs = nn.Embedding(num_items, wide)
        widths = [wide // 2**layer for layer in range(num_layers)]
        self.first = nn.Linear(2 * wide, wide)
        self.further = nn.ModuleList(nn.Linear(2 * width, width) for width in widths[1:])
        self.output = nn.Linear(2 * d, 1)
        for module in self.modules():
            if isinstance(module, nn.Embedding | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    @classmethod
    def from_dataset(cls, dataset: RecDataset, d: int = 8, num_layers: int = 3) -> Self:
        """Binds settings to a data set."""
        return cls(dataset.num_users, dataset.num_items, d, num_layers)

    def encode(self) -> ItemParts:
        """Parts of the score that depend only on items."""
        return self._item_parts(self.item_factors.weight, self.item_inputs.weight)

    def score(self, users: Tensor, items: Tensor, encoded: ItemParts | None = None) -> Tensor:
        """(B,) logits ŷ, from users (B,) and items (B,)."""
        if encoded is None:
            parts = self._item_parts(self.item_factors(items), self.item_inputs(items))
        else:
            parts = ItemParts(
                F.embedding(items, encoded.factors), F.embedding(items, encoded.inputs)
            )
        products: Tensor = self.user_factors(users) * parts.factors
        return products.sum(dim=-1) + self._perceive(self._user_inputs(users) + parts.inputs)

    def score_all(self, users: Tensor, encoded: ItemParts | None = None) -> Tensor:
        """(B, num_items) logits, from users (B,)."""
        return self._score_all(users, self.encode() if encoded is None else encoded)

    def scorer(self, items: Tensor) -> Callable[[Tensor], Tensor]:
        """A function from users (B,) to (B, n) logits of items (n,), whose parts are made once."""
        parts = self._item_parts(self.item_factors(items), self.item_inputs(items))
        return lambda users: self._score_all(users, parts)

    def _score_all(self, users: Tensor, parts: ItemParts) -> Tensor:
        """(B, I) logits, from users (B,) and parts of I items."""
        factorised: Tensor = self.user_factors(users) @ parts.factors.T

        def perceived(block: Tensor) -> Tensor:
            return self._perceive(self._user_inputs(block)[:, None] + parts.inputs)  # (b, I, ·)

        return factorised + in_blocks(perceived, users, parts.inputs.numel())

    def item_vectors(self) -> Tensor:
        """(num_items, ·) q of both parts side by side."""
        return torch.cat([self.item_factors.weight, self.item_inputs.weight], dim=1).detach()

    def loss(self, *batches: PointwiseBatch) -> Tensor:
        """Mean cross-entropy over positives and negatives, Eq. 7."""
        (batch,) = batches
        return F.binary_cross_entropy_with_logits(
            self.score(batch.users, batch.items), batch.labels
        )

    def bytes_per_row(self, items: Tensor) -> Tensor:
        """(B,) bytes at the peak: about 4 vectors of d and 6 of the perceptron's width."""
        d, wide = self.item_factors.embedding_dim, self.item_inputs.embedding_dim
        return torch.full((len(items),), 40.0 + 4 * (4 * d + 6 * wide))

    def fixed_bytes(self) -> float:
        """Bytes of the gradients of both halves of W_1, each as large as W_1."""
        return 4.0 * 2 * self.first.weight.numel()

    def _item_parts(self, factors: Tensor, inputs: Tensor) -> ItemParts:
        weights = self.first.weight[:, inputs.shape[1] :]
        inputs = F.linear(inputs, weights, self.first.bias)
        return ItemParts(factors * self.output.weight[0, : factors.shape[1]], inputs)

    def _user_inputs(self, users: Tensor) -> Tensor:
        """The users' half of W_1 [p'; q']."""
        inputs: Tensor = self.user_inputs(users)
        return F.linear(inputs, self.first.weight[:, : inputs.shape[1]])

    def _perceive(self, hidden: Tensor) -> Tensor:
        """h_MLP · φ_MLP + c, from W_1 [p'; q'] + b_1 in the last dimension."""
        for layer in self.further:
            hidden = layer(hidden.relu())
        weights = self.output.weight[0, self.item_factors.embedding_dim :]
        perceived: Tensor = hidden.relu() @ weights + self.output.bias
        return perceived
