"""LibFM: a factorisation machine of second order on user, item and, optionally, attributes.

Rendle: "Factorization Machines with libFM", ACM TIST 2012, Eq. 1. With features x (one for the
user, one for the item, one for every attribute of the item), and for each a weight w_f and a
vector v_f:

    ŷ = w_0 + Σ_f w_f x_f + Σ_{f < g} (v_f · v_g) x_f x_g

An attribute is a (relation, neighbour) pair of the item in the knowledge graph. For an item with n
attributes each of them has the value 1/n. Terms that depend only on the item are summed first, so
that a pair costs one inner product:

    ŷ = w_0 + w_u + b_i + v_u · q_i
    q_i = Σ_f v_f x_f,    b_i = Σ_f w_f x_f + ½ (‖q_i‖² - Σ_f x_f² ‖v_f‖²)    over i's features

Shapes: B rows, d embedding size, I items, F attributes, n attributes of all items together.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kgrec.data.batches import PointwiseBatch
from kgrec.data.dataset import RecDataset
from kgrec.models.folding import WithUserTables
from kgrec.models.inner_product import InnerProduct
from kgrec.models.lookup import Bags, weighted_sums
from kgrec.models.reasons import EXACT, Reasons, Term, ordered
from kgrec.models.recommender import check_at_least, check_bool


class ItemSide(NamedTuple):
    """Terms of the score that depend only on items.

    Attributes:
        biases: (I,) b_i.
        vectors: (I, d) q_i.
    """

    biases: Tensor
    vectors: Tensor


class LibFM(InnerProduct, WithUserTables):
    """Second-order interactions of all features.

    Args:
        num_users: number of users.
        num_items: number of items.
        offsets: (I + 1,) int64, start of each item's attributes; None: no attributes.
        attributes: (n,) int64, attributes of all items, grouped by item.
        num_attributes: F.
        d: embedding size.
        bias: whether there is w_0.
        linear: whether there are w_f.

    Raises:
        SettingError: a setting that cannot work.
    """

    user_tables: ClassVar[tuple[str, ...]] = ("user_embedding.weight", "user_weights.weight")

    def __init__(
        self,
        num_users: int,
        num_items: int,
        offsets: Tensor | None = None,
        attributes: Tensor | None = None,
        num_attributes: int = 0,
        d: int = 8,
        bias: bool = True,
        linear: bool = True,
    ) -> None:
        super().__init__()
        check_at_least("d", d, 1)
        check_bool("bias", bias)
        check_bool("linear", linear)
        self.num_items = num_items
        self.bias = nn.Parameter(torch.zeros(())) if bias else None
        self.user_embedding = _factors(num_users, d)
        self.item_embedding = _factors(num_items, d)
        self.user_weights = _weights(num_users) if linear else None
        self.item_weights = _weights(num_items) if linear else None
        self.offsets: Tensor | None
        self.attributes: Tensor | None
        self.register_buffer("offsets", offsets)
        self.register_buffer("attributes", attributes)
        if num_attributes:
            self.attribute_embedding = _factors(num_attributes, d)
            self.attribute_weights = _weights(num_attributes) if linear else None

    @classmethod
    def from_dataset(
        cls,
        dataset: RecDataset,
        d: int = 8,
        bias: bool = True,
        linear: bool = True,
        attributes: bool = False,
    ) -> Self:
        """Binds settings to a data set.

        Args:
            dataset: source of sizes and attributes.
            d: embedding size.
            bias: whether there is w_0.
            linear: whether there are w_f.
            attributes: whether the item's attributes are features.

        Raises:
            SettingError: a setting that cannot work.
        """
        check_bool("attributes", attributes)
        sizes = dataset.num_users, dataset.num_items
        if not attributes:
            return cls(*sizes, d=d, bias=bias, linear=linear)
        graph = dataset.graph.neighborhood()
        offsets = graph.indptr[: dataset.num_items + 1].clone()
        entries = slice(int(offsets[-1]))
        pairs = graph.relations[entries] * dataset.num_entities + graph.neighbors[entries]
        distinct, numbers = torch.unique(pairs, return_inverse=True)
        return cls(*sizes, offsets, numbers, len(distinct), d=d, bias=bias, linear=linear)

    def encode(self) -> ItemSide:
        """Biases and vectors of all items."""
        return self._item_side(None)

    def score(self, users: Tensor, items: Tensor, encoded: ItemSide | None = None) -> Tensor:
        """(B,) logits ŷ(u, i), from users (B,) and items (B,)."""
        if encoded is None:
            side = self._item_side(items)
        else:
            side = ItemSide(encoded.biases[items], F.embedding(items, encoded.vectors))
        products: Tensor = self.user_embedding(users) * side.vectors  # (B, d)
        return self._user_side(users) + side.biases + products.sum(dim=-1)

    def user_factors(self, users: Tensor, encoded: ItemSide | None = None) -> Tensor:
        """(B, d + 2) v_u, 1, w_0 + w_u, from users (B,)."""
        vectors, own = self.user_embedding(users), self._user_side(users)[:, None]
        return torch.cat([vectors, torch.ones_like(own), own], dim=1)

    def item_factors(self, encoded: ItemSide | None = None) -> Tensor:
        """(I, d + 2) q_i, b_i, 1 of every item."""
        return _joined(self.encode() if encoded is None else encoded)

    def factors_of(self, items: Tensor, encoded: ItemSide | None = None) -> Tensor:
        """(…, d + 2) q_i, b_i, 1 of items (…)."""
        if encoded is not None:
            return super().factors_of(items, encoded)
        return _joined(self._item_side(items.flatten())).view(*items.shape, -1)

    def score_all(self, users: Tensor, encoded: ItemSide | None = None) -> Tensor:
        """(B, num_items) logits, from users (B,)."""
        biases, vectors = self.encode() if encoded is None else encoded
        products: Tensor = self.user_embedding(users) @ vectors.T
        return products + biases + self._user_side(users)[:, None]

    def loss(self, *batches: PointwiseBatch) -> Tensor:
        """Mean cross-entropy over positives and negatives; λ‖·‖² is the optimiser's."""
        (batch,) = batches
        return F.binary_cross_entropy_with_logits(
            self.score(batch.users, batch.items), batch.labels
        )

    def item_vectors(self) -> Tensor:
        """(I, d) q of every item."""
        return self._item_side(None).vectors.detach()

    @torch.no_grad()
    def explain(self, user: int, item: int, history: Tensor, top: int | None = None) -> Reasons:
        """The user's terms of the attributes; without attributes, the most similar history.

        The score is the sum of ``parts`` and of x_a (w_a + v_u · v_a) over the attributes a. The
        part "item" has the terms of no user: its weight, and its attributes with each other.
        """
        u = self.user_embedding.weight[user]
        own = float(u @ self.item_embedding.weight[item])
        everyone = float(self._user_side(torch.tensor([user], device=u.device)))
        score, parts = self.score_of(user, item), {"user": everyone, "user and item": own}
        if self.offsets is None or self.attributes is None:
            parts["item"] = score - everyone - own
            reasons = super().explain(user, item, history, top)
            return replace(reasons, parts=parts)
        a = self.attributes[self.offsets[item] : self.offsets[item + 1]]
        shares = self.attribute_embedding.weight[a] @ u
        if self.attribute_weights is not None:
            shares = shares + self.attribute_weights.weight[a, 0]
        shares = shares / max(1, len(a))
        terms = [
            Term(1 / len(a), share, neighbor=position)
            for position, share in enumerate(shares.tolist())
        ]
        kept, left_out = ordered(terms, top)
        together = float(shares.sum())
        parts["item"] = score - everyone - own - together
        return Reasons(score, EXACT, kept, left_out, together, parts)

    def bytes_per_row(self, items: Tensor) -> Tensor:
        """(B,) bytes at the peak: about 6 vectors, and numbers of the row."""
        return torch.full((len(items),), 60.0 + 24 * self.user_embedding.embedding_dim)

    def fixed_bytes(self) -> float:
        """Bytes of the attributes' sums, which every step computes for all items."""
        if self.offsets is None or self.attributes is None:
            return 0.0
        vectors = 4 * self.item_embedding.weight.numel() + self.attribute_embedding.weight.numel()
        return 4.0 * vectors + 40 * len(self.attributes)

    def _user_side(self, users: Tensor) -> Tensor:
        """(B,) w_0 + w_u."""
        total = self.user_embedding.weight.new_zeros(len(users))
        if self.bias is not None:
            total = total + self.bias
        if self.user_weights is not None:
            total = total + self.user_weights(users).squeeze(-1)
        return total

    def _item_side(self, items: Tensor | None) -> ItemSide:
        """Terms of items (B,), or of all items if ``items`` is None."""
        index = slice(None) if items is None else items
        vectors = self.item_embedding.weight if items is None else self.item_embedding(items)
        biases = vectors.new_zeros(len(vectors))
        if self.item_weights is not None:
            weights = self.item_weights.weight if items is None else self.item_weights(items)
            biases = biases + weights.squeeze(-1)
        sums = self._attribute_sums()
        if sums is None:  # the item itself is its only feature
            return ItemSide(biases, vectors)
        linear, summed, squares = sums
        own = vectors.square().sum(dim=-1)
        vectors = vectors + summed[index]
        pairs = 0.5 * (vectors.square().sum(dim=-1) - own - squares[index])
        return ItemSide(biases + linear[index] + pairs, vectors)

    def _attribute_sums(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """Σ w_f x_f (I,), Σ v_f x_f (I, d), Σ x_f² ‖v_f‖² (I,) over the item's attributes."""
        if self.offsets is None or self.attributes is None:
            return None
        sizes = self.offsets.diff()
        table = self.attribute_embedding.weight
        shares = sizes.to(table.dtype).reciprocal().repeat_interleave(sizes)
        bags = Bags(self.attributes, self.offsets, shares)
        squares = table.square().sum(dim=-1, keepdim=True)
        squared = bags._replace(weights=shares.square())
        linear = table.new_zeros(len(sizes))
        if self.attribute_weights is not None:
            linear = weighted_sums(self.attribute_weights.weight, bags).squeeze(-1)
        return linear, weighted_sums(table, bags), weighted_sums(squares, squared).squeeze(-1)


def _joined(side: ItemSide) -> Tensor:
    """(I, d + 2) q_i, b_i, 1."""
    biases = side.biases[:, None]
    return torch.cat([side.vectors, biases, torch.ones_like(biases)], dim=1)


def _factors(count: int, d: int) -> nn.Embedding:
    table = nn.Embedding(count, d)
    nn.init.xavier_uniform_(table.weight)
    return table


def _weights(count: int) -> nn.Embedding:
    table = nn.Embedding(count, 1)
    nn.init.zeros_(table.weight)
    return table
