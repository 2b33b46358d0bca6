"""Knowledge graph embeddings: TransE and TransR.

Bordes, Usunier, Garcia-Durán, Weston, Yakhnenko: "Translating Embeddings for Modeling
Multi-relational Data", NIPS 2013; Lin, Liu, Sun, Liu, Zhu: "Learning Entity and Relation Embeddings
for Knowledge Graph Completion", AAAI 2015. With vectors h, r, t of head, relation and tail, and a
matrix M_r of every relation:

    f(h, r, t) = -‖h + r - t‖²                                TransE
    f(h, r, t) = -‖h M_r + r - t M_r‖²                        TransR
    L          = max(0, γ - f(h, r, t) + f(h', r, t'))        with a margin γ
    L          = -ln σ(f(h, r, t) - f(h', r, t'))             without a margin

Shapes: B rows, E entities, R relations, d size of entities' vectors, k of relations'.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kgrec.data.batches import TripleBatch


class Translation(nn.Module):
    """Base class of TransE and TransR.

    Args:
        num_entities: E.
        num_relations: R.
        d: size of entities' vectors.
        k: size of relations' vectors.
    """

    def __init__(self, num_entities: int, num_relations: int, d: int, k: int) -> None:
        super().__init__()
        self.entity_embedding = nn.Embedding(num_entities, d)
        self.relation_embedding = nn.Embedding(num_relations, k)
        nn.init.xavier_uniform_(self.entity_embedding.weight)
        nn.init.xavier_uniform_(self.relation_embedding.weight)

    def project(self, vectors: Tensor, relations: Tensor) -> Tensor:
        """(B, k) vectors (B, d) in the spaces of relations (B,); linear in the vectors."""
        raise NotImplementedError

    def score(self, heads: Tensor, relations: Tensor, tails: Tensor) -> Tensor:
        """(B,) f(h, r, t), from ids (B,)."""
        # One lookup, so that the table has one gradient.
        h, t = self.entity_embedding(torch.cat([heads, tails])).chunk(2)
        translated = self.project(h - t, relations) + self.relation_embedding(relations)
        distance: Tensor = translated.square().sum(dim=-1)
        return -distance

    def loss(self, batch: TripleBatch, margin: float | None = None) -> Tensor:
        """Mean of L over triples and their corruptions; without a margin if it is None."""
        heads = torch.cat([batch.heads, batch.corrupted_heads])
        tails = torch.cat([batch.tails, batch.corrupted_tails])
        true, corrupted = self.score(heads, batch.relations.repeat(2), tails).chunk(2)
        if margin is None:
            return F.softplus(corrupted - true).mean()
        return F.relu(margin - true + corrupted).mean()


class TransE(Translation):
    """Relations translate heads to tails.

    Args:
        num_entities: E.
        num_relations: R.
        d: size of all vectors.
    """

    def __init__(self, num_entities: int, num_relations: int, d: int) -> None:
        super().__init__(num_entities, num_relations, d, d)
        for table in (self.entity_embedding.weight, self.relation_embedding.weight):
            nn.init.uniform_(table, -1, 1)
        self.relation_embedding.weight.data = F.normalize(self.relation_embedding.weight.data)
        self.normalize(torch.arange(num_entities))

    @torch.no_grad()
    def normalize(self, entities: Tensor) -> None:
        """Scales vectors of entities (n,) to length 1; long vectors would minimise L trivially."""
        table = self.entity_embedding.weight
        table[entities] = F.normalize(table[entities])

    def project(self, vectors: Tensor, relations: Tensor) -> Tensor:
        """The vectors."""
        return vectors

    def score_tails(self, heads: Tensor, relations: Tensor) -> Tensor:
        """(B, E) f(h, r, ·), from heads (B,) and relations (B,)."""
        return self._negated_distances(
            self.entity_embedding(heads) + self.relation_embedding(relations)
        )

    def score_heads(self, tails: Tensor, relations: Tensor) -> Tensor:
        """(B, E) f(·, r, t), from tails (B,) and relations (B,)."""
        return self._negated_distances(
            self.entity_embedding(tails) - self.relation_embedding(relations)
        )

    def _negated_distances(self, points: Tensor) -> Tensor:
        """(B, E) -‖p - e‖² of points (B, d), as one product."""
        table = self.entity_embedding.weight
        lengths = points.square().sum(dim=1, keepdim=True) + table.square().sum(dim=1)
        return lengths.neg_().addmm_(points, table.T, alpha=2)


class TransR(Translation):
    """Relations translate heads to tails, each relation in its own space.

    Args:
        num_entities: E.
        num_relations: R.
        d: size of entities' vectors.
        k: size of relations' vectors.
    """

    def __init__(self, num_entities: int, num_relations: int, d: int, k: int) -> None:
        super().__init__(num_entities, num_relations, d, k)
        self.matrices = nn.Parameter(torch.eye(d, k).repeat(num_relations, 1, 1))  # (R, d, k)

    def project(self, vectors: Tensor, relations: Tensor) -> Tensor:
        """(B, k) v M_r, with one product for each relation that occurs."""
        order = torch.argsort(relations)
        present, counts = torch.unique_consecutive(relations[order], return_counts=True)
        parts = torch.split(vectors[order], counts.tolist())
        products = [part @ M for part, M in zip(parts, self.matrices[present], strict=True)]
        return torch.cat(products)[order.argsort()]
