"""KGCN: knowledge graph convolutional networks.

Wang, Zhao, Xie, Li, Guo: "Knowledge Graph Convolutional Networks for Recommender Systems",
WWW 2019. For user u, item v, and S(v) the neighbours of v:

    π(u, r)  = u · r                                         Eq. 1
    π̃(u, r)  = softmax over e in S(v) of π(u, r(v, e))       Eq. 2
    S_u(v)   = Σ_{e in S(v)} π̃(u, r(v, e)) · e               Eq. 3
    v^u      = σ(W · join(v, S_u(v)) + b)                    Eq. 4-6, see aggregators.py
    ŷ(u, v)  = u · v^u                                       Eq. 7

Two settings, both off in the paper, add a bias b_v of the item to Eq. 7, and the user's history to
the user's vector u (history.py).

H such layers, the first H - 1 with ReLU and the last with tanh (Algorithm 1). A user may weigh
relations in Eq. 2 by multipliers w(r); see reweighing.py.

Shapes: B rows, d embedding size, R relations; level h of the receptive field has n_h nodes of all
rows together (n_0 = B).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from kgrec.data.batches import PointwiseBatch
from kgrec.data.interactions import Interactions
from kgrec.data.knowledge_graph import Neighborhood
from kgrec.models.kgcn.neighborhood import Attention, receptive_field
from kgrec.models.kgcn.new_items import with_new_items
from kgrec.models.kgcn.parameters import KGCNParameters
from kgrec.models.kgcn.paths import path_reasons
from kgrec.models.kgcn.ranking import Encoded, score_all, scorer
from kgrec.models.kgcn.reweighing import reweighed, with_log_weights
from kgrec.models.lookup import rows_and_sums, weighted_sums
from kgrec.models.reasons import Reasons
from kgrec.models.recommender import Recommender


class KGCN(KGCNParameters):
    """Knowledge graph convolutional network with a pluggable aggregator.

    Args:
        num_users: number of users.
        num_items: number of items, which are the first entities.
        num_relations: number of relations R.
        indptr: (num_entities + 1,) S(v) as CSR, see :class:`Neighborhood`.
        neighbors: (N,) neighbouring entities.
        relations: (N,) their relations.
        d: embedding size.
        H: number of hops.
        aggregator: sum, concat, neighbor, avg, or a class of the user's own
            (:func:`kgrec.models.kgcn.aggregators.make_aggregator`).
        scaling: "paper": the equations above. "released": as in the authors' code, the mean over
            d in Eq. 1 and the mean over S(v) of the weighted neighbours in Eq. 3.
        K: number of sampled neighbours in S(v), or "all".
        sampling: "static": S(v) stays the same; "resampled": S(v) is drawn again in every epoch
            (the argument ``neighbors`` of :meth:`from_dataset`).
        text: encoder of texts, which are features of entities (:mod:`kgrec.models.text`), or None.
        text_entities: (n,) int64, entities that have a text; None without ``text``.
        item_bias: whether ŷ(u, v) has a term b_v of the item alone.
        history: "own" or "shared": the user's vector contains the user's training positives
            (:mod:`kgrec.models.kgcn.history`); None: it does not.
        history_users: (n,) int64, users of the training positives, ascending; None without
            ``history``.
        history_items: (n,) int64, items of the training positives; None without ``history``.
        sampler: name of the sampler that drew S(v), or a mapping with ``name`` and arguments
            (:mod:`kgrec.models.kgcn.samplers`).
        edge_weights: (N,) corrected weights of the neighbours
            (:mod:`kgrec.models.kgcn.correction`); None for a sampler without.
        counts: (G, 3) int64, neighbours of the full graph by entity and relation; None likewise.

    Raises:
        SettingError: a setting that cannot work.
    """

    adds_items: ClassVar[bool] = True

    def add_items(self, edges: Neighborhood, known: Tensor, seed: int = 0) -> Self:
        """A model with further items; see :mod:`kgrec.models.kgcn.new_items`."""
        return with_new_items(self, edges, known, seed)

    def reweighed(self, weights: Tensor) -> Self:
        """A model with other weights of relations; see :mod:`kgrec.models.kgcn.reweighing`."""
        return reweighed(self, weights)

    def fold_in(self, history: Interactions, seed: int = 0) -> Recommender:
        """New users with the attention of the training; then relations are reweighed."""
        folded = super(KGCN, with_log_weights(self, None)).fold_in(history, seed)
        return with_log_weights(cast(KGCN, folded), self.log_weights)

    def score(self, users: Tensor, items: Tensor, encoded: Any = None) -> Tensor:
        """(B,) logits ŷ(u, v), Eq. 7, from users (B,) and items (B,)."""
        return self._score(self.user_vectors(users), items)

    def training_score(self, users: Tensor, items: Tensor, encoded: Any = None) -> Tensor:
        """(B,) logits as :meth:`score`, without the scored item in the user's history."""
        return self._score(self.user_vectors(users, without=items), items)

    def _score(self, u: Tensor, items: Tensor) -> Tensor:
        """(B,) logits, from user vectors (B, d) and items (B,)."""
        scores = (u * self.represent(u, items)).sum(dim=-1)
        if self.item_bias is not None:
            scores = scores + self.item_bias(items).squeeze(-1)
        return scores

    def encode(self) -> Encoded:
        """Values that ranking computes once, when they are first needed."""
        return Encoded(self)

    def score_all(self, users: Tensor, encoded: Encoded | None = None) -> Tensor:
        """(B, num_items) logits of every item, from users (B,); no gradients.

        See :mod:`kgrec.models.kgcn.all_items`; equal to :meth:`score` up to rounding.
        """
        return score_all(self, users, encoded)

    def scorer(self, items: Tensor) -> Callable[[Tensor], Tensor]:
        """A function from users (B,) to (B, n) logits of items (n,); see :meth:`score_all`."""
        return scorer(self, items)

    def loss(self, *batches: PointwiseBatch) -> Tensor:
        """Mean cross-entropy over positives and negatives, Eq. 8.

        Eq. 8 as printed subtracts the negatives' cross-entropy and sums over all data. Here both
        kinds are added and the batch mean is taken. The term λ‖·‖² is the optimiser's
        ``weight_decay`` on every matrix (not on biases), once per step: (λ/2)‖·‖² as in the
        released code.
        """
        (batch,) = batches
        return F.binary_cross_entropy_with_logits(
            self.training_score(batch.users, batch.items), batch.labels
        )

    def represent(self, u: Tensor, items: Tensor) -> Tensor:
        """v^u after H layers (Algorithm 1).

        Args:
            u: (B, d) user vectors.
            items: (B,) int64.

        Returns:
            (B, d).
        """
        aggregators = self.layers
        scores = self.user_relation_scores(u) if self.attention else None
        attention = Attention(scores, self.scaling == "released", u.dtype)
        table = self.entity_embedding
        field = receptive_field(self._view, attention, items, self.H, table.num_embeddings)
        nodes = field.nodes[0] if self.H == 1 else torch.cat(field.nodes)
        sparse = table.sparse and self.text_features is None
        own, pooled = rows_and_sums(self.entity_vectors(), nodes, field.leaves, sparse)
        if field.groups is not None:
            pooled = weighted_sums(pooled, field.groups)
        vectors = list(torch.split(own, [len(level) for level in field.nodes]))  # (n_h, d)
        for layer, aggregator in enumerate(aggregators):
            inner = [weighted_sums(v, hop) for v, hop in zip(vectors[1:], field.hops, strict=False)]
            sums = [*inner, pooled] if layer == 0 else inner
            vectors = [aggregator(v, s) for v, s in zip(vectors, sums, strict=False)]
        return vectors[0]

    def explain(self, user: int, item: int, history: Tensor, top: int | None = None) -> Reasons:
        """Paths of 1 … H steps from the item; see :mod:`kgrec.models.kgcn.paths`."""
        return path_reasons(self, user, item, top)
