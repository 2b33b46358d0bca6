"""KGNN-LS: KGCN whose weights must also explain labels by the labels nearby ("KGCN-LS").

Wang, Zhang, Zhang, Leskovec, Zhao, Li, Wang: "Knowledge-aware Graph Neural Networks with Label
Smoothness Regularization for Recommender Systems", KDD 2019. Beside the score of a pair (u, v), its
label is predicted by label propagation over v's receptive field, with the attention of Eq. 2 of
KGCN as weights and v's own label held out. From the outermost hop inwards,

    l_u(e) = y_ue                                   if e is an item whose label for u is known
    l_u(e) = Σ_{n in S(e)} π̃(u, r(e, n)) l_u(n)     otherwise; ½ at the outermost hop
    L      = L of KGCN + γ · mean of J(y_uv, l_u(v))      Eq. 10

with J the cross-entropy. Known are training positives, with the label 1, and the negatives that
were drawn for training once, with the label 0. Where no labelled item is within H hops, l_u(v) is
½ and says nothing; in a graph that leads from items to attributes alone, that is so for H = 1.

Shapes: B rows; level h of the receptive field has n_h nodes, of all rows side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from kgrec.data.batches import PointwiseBatch
from kgrec.data.dataset import RecDataset
from kgrec.errors import ConfigError
from kgrec.models.kgcn.model import KGCN
from kgrec.models.kgcn.neighborhood import Attention, levels
from kgrec.models.lookup import weighted_sums

# J is infinite where all labels nearby are wrong; l_u(v) keeps this distance from 0 and 1.
MARGIN = 1e-3


class KGNNLS(KGCN):
    """KGCN with label smoothness in its loss.

    What only the loss needs, known labels and γ, is bound by :meth:`from_dataset`; rebuilt from a
    checkpoint it scores, as KGCN does.
    """

    ls_weight = 0.0
    label_keys: Tensor
    label_values: Tensor

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
        ls_weight: float = 0.5,
    ) -> Self:
        """Binds settings to a data set.

        Args:
            dataset: gives sizes, graph and labels.
            K: see :class:`KGCN`.
            H: see :class:`KGCN`.
            d: see :class:`KGCN`.
            aggregator: see :class:`KGCN`; one with attention.
            scaling: see :class:`KGCN`; labels are averaged with weights that sum to 1 either way.
            neighbors: see :class:`KGCN`.
            ls_weight: γ.

        Raises:
            ConfigError: a setting that cannot work.
        """
        if ls_weight < 0:
            raise ConfigError(f"model.ls_weight: found {ls_weight!r}, expected at least 0")
        model = super().from_dataset(dataset, K, H, d, aggregator, scaling, neighbors)
        if not model.layers[0].attention:
            raise ConfigError(
                f"model.aggregator: found {aggregator!r}, expected one with attention, whose "
                "weights the labels smooth"
            )
        users, items = dataset.static_negatives
        keys = torch.cat([dataset.train.keys, users * dataset.num_items + items])
        values = torch.zeros(len(keys))
        values[: len(dataset.train)] = 1
        order = torch.argsort(keys, stable=True)  # a pair that is both counts as positive
        model.ls_weight = ls_weight
        model.register_buffer("label_keys", keys[order], persistent=False)
        model.register_buffer("label_values", values[order], persistent=False)
        return model

    def loss(self, *batches: PointwiseBatch) -> Tensor:
        """KGCN's, and γ times the mean cross-entropy of labels as propagated."""
        (batch,) = batches
        found = self.propagate(batch.users, batch.items).clamp(MARGIN, 1 - MARGIN)
        smooth = F.binary_cross_entropy(found, batch.labels)
        return super().loss(batch) + self.ls_weight * smooth

    def propagate(self, users: Tensor, items: Tensor) -> Tensor:
        """(B,) l_u(v), from users (B,) and items (B,)."""
        scores = self.user_relation_scores(self.user_embedding(users))
        attention = Attention(scores, averaged=False, dtype=scores.dtype)
        num_entities = self.entity_embedding.num_embeddings
        rows, nodes, hops = levels(self._view, attention, items, self.H, num_entities)
        # Labels are moved by -½, so that a node without neighbours has ½ too.
        moved = scores.new_zeros(len(nodes[-1]))
        for hop in range(self.H, -1, -1):
            row = rows[hop]
            if hop < self.H:
                moved = weighted_sums(moved[:, None], hops[hop]).squeeze(1)
            if row is not None:  # v itself is held out
                labels, known = self._labels(users[row], nodes[hop])
                moved = torch.where(known & (nodes[hop] != items[row]), labels - 0.5, moved)
        return moved + 0.5

    def _labels(self, users: Tensor, entities: Tensor) -> tuple[Tensor, Tensor]:
        """(n,) y_ue, from users (n,) and entities (n,), and (n,) whether it is known."""
        if len(self.label_keys) == 0:
            return torch.zeros_like(users, dtype=self.label_values.dtype), users < 0
        keys = users * self.num_items + entities
        at = torch.searchsorted(self.label_keys, keys).clamp_(max=len(self.label_keys) - 1)
        known = (entities < self.num_items) & (self.label_keys[at] == keys)
        return self.label_values[at], known

    def bytes_per_row(self, items: Tensor) -> Tensor:
        """(B,) bytes at the peak: the field is made twice, for vectors and for labels."""
        return 2 * super().bytes_per_row(items)
