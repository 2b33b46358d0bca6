"""KGNN-LS: KGCN with label smoothness in its loss ("KGCN-LS").

Wang, Zhang, Zhang, Leskovec, Zhao, Li, Wang: "Knowledge-aware Graph Neural Networks with Label
Smoothness Regularization for Recommender Systems", KDD 2019. In addition to the score of a pair
(u, v), its label is predicted by label propagation over v's receptive field. The weights are the
attention of KGCN's Eq. 2, and v's own label is held out. From the outermost hop inwards,

    l_u(e) = y_ue                                   if e is an item whose label for u is known
    l_u(e) = Σ_{n in S(e)} π̃(u, r(e, n)) l_u(n)     otherwise; ½ at the outermost hop
    L      = L of KGCN + γ · mean of J(y_uv, l_u(v))      Eq. 10

with J the cross-entropy. Known labels are 1 for training positives, and 0 for the static training
negatives. Where no labelled item is within H hops, l_u(v) is ½ and carries no information. In a
graph whose triples only link items to attributes, this is so for H = 1.

Shapes: B rows; level h of the receptive field has n_h nodes of all rows together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from kgrec.data.batches import PointwiseBatch
from kgrec.data.dataset import RecDataset
from kgrec.errors import SettingError
from kgrec.models.kgcn.model import KGCN
from kgrec.models.kgcn.neighborhood import Attention, levels
from kgrec.models.lookup import weighted_sums
from kgrec.models.recommender import check_number

# J is infinite where all labels nearby are wrong, so l_u(v) is kept this far from 0 and 1.
MARGIN = 1e-3


class KGNNLS(KGCN):
    """KGCN with label smoothness in its loss.

    :meth:`from_dataset` binds the known labels, which only the loss needs. A model rebuilt from a
    checkpoint has none; it scores as KGCN does.

    Args:
        num_users: number of users.
        num_items: number of items, which are the first entities.
        num_relations: relations R.
        indptr: see :class:`KGCN`.
        neighbors: see :class:`KGCN`.
        relations: see :class:`KGCN`.
        d: embedding size.
        H: number of hops.
        aggregator: see :class:`KGCN`; an aggregator with attention.
        scaling: see :class:`KGCN`; label weights sum to 1 under both scalings.
        K: see :class:`KGCN`.
        sampling: see :class:`KGCN`.
        ls_weight: γ, weight of label smoothness.
        text: see :class:`KGCN`.
        text_entities: see :class:`KGCN`.
        item_bias: see :class:`KGCN`.
        history: see :class:`KGCN`.
        history_users: see :class:`KGCN`.
        history_items: see :class:`KGCN`.

    Raises:
        SettingError: a setting that cannot work.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        num_relations: int,
        indptr: Tensor,
        neighbors: Tensor,
        relations: Tensor,
        d: int = 32,
        H: int = 2,
        aggregator: str | Mapping[str, Any] = "sum",
        scaling: str = "paper",
        K: int | str = "all",
        sampling: str = "static",
        ls_weight: float = 0.5,
        text: str | None = None,
        text_entities: Tensor | None = None,
        *,
        item_bias: bool = False,
        history: str | None = None,
        history_users: Tensor | None = None,
        history_items: Tensor | None = None,
    ) -> None:
        sizes, graph = (num_users, num_items, num_relations), (indptr, neighbors, relations)
        texts = text, text_entities
        super().__init__(
            *sizes, *graph, d, H, aggregator, scaling, K, sampling, *texts, item_bias=item_bias,
            history=history, history_users=history_users, history_items=history_items,
        )  # fmt: skip
        check_number("ls_weight", ls_weight, 0)
        if not self.attention:
            raise SettingError(
                f"aggregator: found {aggregator!r}, expected an aggregator with attention, whose "
                "weights the labels smooth"
            )
        self.ls_weight = ls_weight
        self.label_keys: Tensor
        self.label_values: Tensor
        no_labels = torch.zeros(0, dtype=torch.int64), torch.zeros(0)
        self.register_buffer("label_keys", no_labels[0], persistent=False)
        self.register_buffer("label_values", no_labels[1], persistent=False)

    @classmethod
    def from_dataset(
        cls,
        dataset: RecDataset,
        K: int | str = 8,
        H: int = 2,
        d: int = 32,
        aggregator: str | Mapping[str, Any] = "sum",
        scaling: str = "paper",
        neighbors: str = "static",
        text: str | None = None,
        cache: str | None = None,
        ls_weight: float = 0.5,
        *,
        item_bias: bool = False,
        history: str | None = None,
    ) -> Self:
        """Binds settings to a data set.

        Args:
            dataset: source of sizes, graph and labels.
            K: see :meth:`KGCN.from_dataset`.
            H: number of hops.
            d: embedding size.
            aggregator: see the class.
            scaling: see the class.
            neighbors: see :meth:`KGCN.from_dataset`.
            text: see :meth:`KGCN.from_dataset`.
            cache: see :meth:`KGCN.from_dataset`.
            ls_weight: γ.
            item_bias: see :class:`KGCN`.
            history: see :class:`KGCN`.

        Raises:
            SettingError: a setting that cannot work.
        """
        settings = {"H": H, "d": d, "aggregator": aggregator, "scaling": scaling}
        further = {"ls_weight": ls_weight, "item_bias": item_bias, "history": history}
        model = cls._of_dataset(dataset, K, neighbors, text, cache, **settings, **further)
        users, items = dataset.static_negatives
        keys = torch.cat([dataset.train.keys, users * dataset.num_items + items])
        values = torch.zeros(len(keys))
        values[: len(dataset.train)] = 1
        order = torch.argsort(keys, stable=True)  # a pair with both labels counts as positive
        model.label_keys, model.label_values = keys[order], values[order]
        return model

    def loss(self, *batches: PointwiseBatch) -> Tensor:
        """The loss of KGCN plus γ times the mean cross-entropy of propagated labels."""
        (batch,) = batches
        smoothness = self.regularizer(batch)
        return super().loss(batch) + smoothness

    def regularizer(self, rows: PointwiseBatch, *others: Any) -> Tensor:
        """γ times the mean cross-entropy of propagated labels."""
        propagated = self.propagate(rows.users, rows.items).clamp(MARGIN, 1 - MARGIN)
        return self.ls_weight * F.binary_cross_entropy(propagated, rows.labels)

    def propagate(self, users: Tensor, items: Tensor) -> Tensor:
        """(B,) l_u(v), from users (B,) and items (B,); v is held out of the user's history too."""
        scores = self.user_relation_scores(self.user_vectors(users, without=items))
        attention = Attention(scores, averaged=False, dtype=scores.dtype)
        num_entities = self.entity_embedding.num_embeddings
        rows, nodes, hops = levels(self._view, attention, items, self.H, num_entities)
        # Labels are shifted by -½, so that a node without neighbours has the label ½.
        shifted = scores.new_zeros(len(nodes[-1]))
        for hop in range(self.H, -1, -1):
            row = rows[hop]
            if hop < self.H:
                shifted = weighted_sums(shifted[:, None], hops[hop]).squeeze(1)
            if row is not None:  # v itself is held out
                labels, is_known = self._labels(users[row], nodes[hop])
                shifted = torch.where(is_known & (nodes[hop] != items[row]), labels - 0.5, shifted)
        return shifted + 0.5

    def _labels(self, users: Tensor, entities: Tensor) -> tuple[Tensor, Tensor]:
        """(n,) y_ue and (n,) whether it is known, from users (n,) and entities (n,)."""
        if len(self.label_keys) == 0:
            return torch.zeros_like(users, dtype=self.label_values.dtype), users < 0
        keys = users * self.num_items + entities
        at = torch.searchsorted(self.label_keys, keys).clamp_(max=len(self.label_keys) - 1)
        is_known = (entities < self.num_items) & (self.label_keys[at] == keys)
        return self.label_values[at], is_known

    def bytes_per_row(self, items: Tensor) -> Tensor:
        """(B,) bytes at the peak: the receptive field is built twice, once for labels."""
        return 2 * super().bytes_per_row(items)
