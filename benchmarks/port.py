"""KGCN as it is usually ported: a tree of K^H nodes a row, every embedding gathered.

The yardstick of benchmarks/speed.py. Its scores equal kgrec's, which the benchmark asserts.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from kgrec.data.batches import PointwiseBatch
from kgrec.models.kgcn.model import KGCN


class GatherEverything(nn.Module):
    """Shares the parameters and the sampled neighbours of a KGCN with aggregator sum.

    Args:
        model: with the same number of neighbours for every entity.
    """

    def __init__(self, model: KGCN) -> None:
        super().__init__()
        self.model = model
        self.K = int(model.indptr[1])
        self.neighbors = model.neighbors.view(-1, self.K)
        self.relations = model.relations.view(-1, self.K)

    def score(self, users: Tensor, items: Tensor) -> Tensor:
        """(B,) logits from users (B,) and items (B,)."""
        model, B, K = self.model, len(users), self.K
        u = model.user_embedding(users)
        entities, relations = [items[:, None]], []
        for _ in range(model.H):
            below = entities[-1].flatten()
            relations.append(self.relations[below].view(B, -1))  # (B, K^(h+1))
            entities.append(self.neighbors[below].view(B, -1))
        vectors = [model.entity_embedding(e) for e in entities]  # (B, K^h, d)
        between = [F.embedding(r, model.relation_embedding) for r in relations]
        for layer, aggregator in enumerate(model.layers):
            after = []
            for h in range(model.H - layer):
                r = between[h].view(B, -1, K, model.d)
                weights = (u[:, None, None] * r).sum(dim=-1).softmax(dim=-1)  # (B, K^h, K)
                around = vectors[h + 1].view(B, -1, K, model.d)
                pooled = (weights[..., None] * around).sum(dim=2)  # (B, K^h, d)
                after.append(aggregator(vectors[h], pooled))
            vectors = after
        return (u * vectors[0].squeeze(1)).sum(dim=-1)

    def loss(self, batch: PointwiseBatch) -> Tensor:
        """Mean cross-entropy."""
        return F.binary_cross_entropy_with_logits(
            self.score(batch.users, batch.items), batch.labels
        )
