"""Importance sampling: draws whose weighted sums are unbiased for the full neighbourhood.

Why they are is in :mod:`kgrec.models.kgcn.correction`. An entity with at most K neighbours has all
of them with a = 1, which is exact. From another, K neighbours are drawn with replacement, one from
each K-th part of the proposal q(e|v), whose neighbours stand in order of relation (stratified
sampling): each has K · q(e|v) expected draws, and the variance is at most that of independent draws
(Cochran, "Sampling Techniques", 3rd edition, 1977, chapter 5A).

Adaptive draws have the proposal of least variance for the current model. For independent draws and
one user, E‖Ŝ‖² = 1/K · Σ_e π̃(u, r)² ‖e‖² / q(e|v) + const. Its mean over users is least, by
Cauchy-Schwarz, for

    q*(e|v) ∝ sqrt(mean over users of π̃(u, r)²) · ‖e‖

All users share a draw, so their root mean square stands in place of one user's attention. Vectors
change within an epoch, and a small q would give a large weight. So a share of the draws is uniform
(defensive mixture; Hesterberg, "Weighted average importance sampling and defensive mixture
distributions", Technometrics 37(2), 1995): a is at most |N(v)| / (K · mixture).

Sources of importance sampling in graph networks, and of adaptive proposals:

    Chen, Ma, Xiao: "FastGCN: Fast Learning with Graph Convolutional Networks via Importance
    Sampling", ICLR 2018.
    Huang, Zhang, Rong, Huang: "Adaptive Sampling Towards Fast Graph Representation Learning",
    NeurIPS 2018 (AS-GCN), which learns the proposal; here it has a closed form, because the
    attention depends on the relation alone.
    Liu, Wu, Zhang, Zhou, Yang, Song, Qi: "Bandit Samplers for Training Graph Neural Networks",
    NeurIPS 2020, which finds the same proposal by a bandit, from rewards of the draws.

Shapes: E entities, N neighbours of all entities in the full graph, M users, R relations, G pairs
(v, r) that the graph has, K draws of an entity.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kgrec.data.knowledge_graph import Neighborhood
from kgrec.errors import SettingError
from kgrec.models.kgcn.correction import group_of_each, relation_counts
from kgrec.models.kgcn.samplers.base import Current, Draw, Sampler
from kgrec.models.kgcn.samplers.preferring import (
    checked_power,
    degree_weights,
    relation_balanced_weights,
)
from kgrec.models.recommender import check_number

PROPOSALS = ("uniform", "relation_balanced", "degree")
BLOCK_NUMBERS = 2**23  # attention weights of a block of users


class Importance(Sampler):
    """Draws from a fixed proposal, with corrected weights.

    Args:
        proposal: "uniform"; "relation_balanced", q ∝ 1 / c[v, r]; or "degree", q ∝ degree^power.
        power: power of the neighbour's degree, for the proposal "degree".

    Raises:
        SettingError: an argument that cannot work.
    """

    corrected = True

    def __init__(self, proposal: str = "uniform", power: float = 0.5) -> None:
        if proposal not in PROPOSALS:
            raise SettingError(
                f"sampler.proposal: found {proposal!r}, expected one of {', '.join(PROPOSALS)}"
            )
        self.kind, self.power = proposal, checked_power(power)

    def proposal(self, graph: Neighborhood, K: int, current: Current | None) -> Tensor:
        """(N,) float64 q(e|v), which sums to 1 over the neighbours of each entity."""
        if self.kind == "relation_balanced":
            return normalized(graph, relation_balanced_weights(graph))
        return normalized(graph, degree_weights(graph, self.power if self.kind == "degree" else 0))

    def draw(
        self,
        graph: Neighborhood,
        K: int,
        generator: torch.Generator,
        current: Current | None = None,
    ) -> Draw:
        """See :class:`Sampler`."""
        q = self.proposal(graph, K, current)
        points = torch.rand(len(graph.degrees), K, generator=generator, dtype=torch.float64)
        return stratified(graph, q, points)


class Adaptive(Importance):
    """Draws from the proposal of least variance, found anew at the start of every epoch.

    It is drawn again in every epoch, whether ``neighbors`` is static or resampled. Before the
    training all neighbours are alike.

    Args:
        mixture: share of the draws that is uniform.

    Raises:
        SettingError: the mixture is no number in (0, 1).
    """

    adaptive = True

    def __init__(self, mixture: float = 0.2) -> None:
        check_number("sampler.mixture", mixture, 0.01, below=1)
        super().__init__()
        self.mixture = mixture

    def proposal(self, graph: Neighborhood, K: int, current: Current | None) -> Tensor:
        """See :class:`Importance`; O(M · G) for the attention of entities with draws."""
        uniform = super().proposal(graph, K, None)
        if current is None:
            return uniform
        counts, group = relation_counts(graph), group_of_each(graph)
        drawn = graph.degrees[counts[:, 0]] > K
        attention = torch.ones(len(counts), dtype=torch.float64)
        attention[drawn] = mean_square_attention(counts[drawn], current.scores).sqrt()
        norms = current.vectors.double().norm(dim=1)
        # An entity whose neighbours are all 0 has uniform draws.
        weights = attention[group] * norms[graph.neighbors] + torch.finfo(torch.float64).tiny
        return self.mixture * uniform + (1 - self.mixture) * normalized(graph, weights)


def mean_square_attention(counts: Tensor, scores: Tensor) -> Tensor:
    """(G,) float64 mean over users of π̃(u, r)², Eq. 2 over all neighbours of v.

    Args:
        counts: (G, 3) rows (v, r, c[v, r]) in ascending order.
        scores: (M, R) π(u, r).
    """
    _, relations, sizes = counts.unbind(1)
    entities, owners = torch.unique_consecutive(counts[:, 0], return_inverse=True)
    total = torch.zeros(len(counts), dtype=torch.float64)
    for block in torch.split(scores, max(1, BLOCK_NUMBERS // max(1, len(counts)))):
        logits = block.T[relations]  # (G, m)
        shape = len(entities), len(block)
        peaks = logits.new_full(shape, -torch.inf)
        peaks.scatter_reduce_(0, owners[:, None].expand_as(logits), logits, "amax")
        powers = (logits - peaks[owners]).exp_()
        sums = logits.new_zeros(shape).index_add_(0, owners, powers * sizes[:, None])
        total += (powers / sums[owners]).square_().sum(dim=1)
    return total / len(scores)


def normalized(graph: Neighborhood, weights: Tensor) -> Tensor:
    """(N,) weights divided by their sum over the neighbours of each entity."""
    owners = torch.repeat_interleave(graph.degrees)
    sums = weights.new_zeros(len(graph.degrees)).index_add_(0, owners, weights)
    return weights / sums[owners]


def stratified(graph: Neighborhood, q: Tensor, points: Tensor) -> Draw:
    """K draws of each entity with more than K neighbours; all neighbours of the others.

    Args:
        graph: all neighbours of every entity.
        q: (N,) float64 proposal.
        points: (E, K) uniform numbers in [0, 1), one for each K-th part of q.
    """
    K, degrees = points.shape[1], graph.degrees
    owners = torch.repeat_interleave(degrees)
    small = torch.nonzero(degrees[owners] <= K).squeeze(1)
    rows = torch.nonzero(degrees > K).squeeze(1)
    ends = torch.cat([q.new_zeros(1), q.cumsum(0)])
    low, high = ends[graph.indptr[rows]], ends[graph.indptr[rows + 1]]
    parts = (torch.arange(K) + points[rows]) / K  # (rows, K)
    at = low[:, None] + parts * (high - low)[:, None]
    drawn = torch.searchsorted(ends, at, right=True) - 1
    first, last = graph.indptr[rows][:, None], graph.indptr[rows + 1][:, None] - 1
    drawn = torch.minimum(torch.maximum(drawn, first), last).flatten()  # against rounding
    picked = torch.cat([small, drawn])
    weights = torch.cat([q.new_ones(len(small)), (K * q[drawn]).reciprocal()])
    order = torch.argsort(picked, stable=True)
    picked = picked[order]
    drawn_graph = Neighborhood.from_edges(
        owners[picked], graph.neighbors[picked], graph.relations[picked], len(degrees)
    )
    return Draw(drawn_graph, weights[order].float())
