"""Unbiased estimates of a full neighbourhood from some of its neighbours.

K neighbours e_1, …, e_K of v are drawn from a proposal q(e|v) > 0. By importance sampling

    Ŝ_u(v) = Σ_k a_k · π̃(u, r_k) · e_k    with    a_k = 1 / (K · q(e_k|v))

has the expectation S_u(v) of Eq. 3 over *all* neighbours, if π̃ is the attention over all neighbours
too. Eq. 2 is a ratio, and a softmax over the drawn neighbours alone would be biased. The attention
depends on a neighbour only through its relation, so the denominator over all neighbours needs no
neighbour, but only c[v, r], the number of v's neighbours by relation r in the full graph:

    π̃(u, r) = exp(π(u, r)) / Σ_r' c[v, r'] · exp(π(u, r'))                 exactly Eq. 2

The estimate is unbiased for given vectors of the neighbours and any weights of relations: so with
H = 1 for S_u(v), and with H > 1 for each layer given the layer below. σ is not linear, so v^u
itself is not unbiased.

Shapes: E entities, N drawn neighbours of all entities, R relations, G pairs (v, r) that the full
graph has.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kgrec.data.knowledge_graph import Neighborhood


class Correction(NamedTuple):
    """What makes sums over drawn neighbours unbiased.

    Attributes:
        weights: (N,) float, a of each drawn neighbour.
        counts: (G, 3) int64, rows (v, r, c[v, r]) in ascending order.
    """

    weights: Tensor
    counts: Tensor

    def of(self, entities: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The counts of some distinct entities (n,).

        Returns:
            (g,) index into ``entities``, (g,) relation, (g,) c[v, r].
        """
        last = max(int(part.max()) if len(part) else 0 for part in (entities, self.counts[:, 0]))
        place = self.counts.new_full((last + 1,), -1)
        place[entities] = torch.arange(len(entities), device=place.device)
        owner = place[self.counts[:, 0]]
        inside = owner >= 0
        return owner[inside], self.counts[inside, 1], self.counts[inside, 2]


def relation_counts(graph: Neighborhood) -> Tensor:
    """(G, 3) int64, rows (v, r, c[v, r]) in ascending order."""
    keys, R = _keys(graph)
    keys, counts = torch.unique(keys, return_counts=True)
    return torch.stack([keys // R, keys % R, counts], dim=1)


def group_of_each(graph: Neighborhood) -> Tensor:
    """(N,) row of each neighbour in :func:`relation_counts`."""
    row: Tensor = torch.unique(_keys(graph)[0], return_inverse=True)[1]
    return row


def _keys(graph: Neighborhood) -> tuple[Tensor, int]:
    """(N,) v · R + r of each neighbour, and R."""
    R = int(graph.relations.max()) + 1 if len(graph.relations) else 1
    return torch.repeat_interleave(graph.degrees) * R + graph.relations, R
