"""Objectives: what the scores of positives and negatives should become.

With s a score, s_j that of the j-th of n negatives of a positive, τ the temperature and q the
sampling distribution of the negatives:

    bce      -ln σ(s)  for a positive,  -ln σ(-s)  for a negative
    bpr      -ln σ(s - s_j)
    softmax  -ln [ exp(s/τ) / (exp(s/τ) + Σ_j exp(s_j/τ - log_q_j)) ]

bpr is of Rendle et al.: "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009.
softmax estimates the cross-entropy of the softmax over all items from a few of them. log_q
corrects for how often an item is drawn:

    sampled negatives   log_q_j = ln(n q(j))          Bengio, Senécal: "Adaptive Importance Sampling
                        to Accelerate Training of a Neural Probabilistic Language Model", IEEE
                        Transactions on Neural Networks 2008. Σ_j then has the expectation
                        Σ exp(s/τ) over all items that may be drawn.
    in the batch        log_q_j = ln q(j) - ln q(i)   Yi et al.: "Sampling-Bias-Corrected Neural
                        Modeling for Large Corpus Item Recommendations", RecSys 2019. They subtract
                        ln q from every score, also from that of the positive i.

A negative with log_q = ∞ does not count: in a batch it is a positive of the same user.

Shapes: B rows of a batch, n negatives of a positive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from kgrec.data.batches import ListwiseBatch, PairwiseBatch, PointwiseBatch

# Objectives by name: the batch type, and whether scores become logits.
OBJECTIVES: dict[str, tuple[type[Any], bool]] = {
    "bce": (PointwiseBatch, True),
    "bpr": (PairwiseBatch, False),
    "softmax": (ListwiseBatch, False),
}


def bce(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of scores (B,), as logits, with labels (B,)."""
    return F.binary_cross_entropy_with_logits(scores, labels)


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean of -ln σ(s - s_j), from scores (B,) of positives and (B,) or (B, n) of negatives."""
    if negative.ndim > positive.ndim:
        positive = positive[:, None]
    return F.softplus(negative - positive).mean()


def softmax(positive: Tensor, negative: Tensor, log_q: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean cross-entropy of the softmax over a positive and its negatives.

    Args:
        positive: (B,) scores.
        negative: (B, n) scores.
        log_q: (B, n), subtracted from the scores of negatives; ∞ leaves a negative out.
        temperature: τ, by which scores are divided.
    """
    s = positive / temperature
    # With the positive in the sum it is finite, also where no negative counts.
    scores = torch.cat([s[:, None], negative / temperature - log_q], dim=1)
    return (torch.logsumexp(scores, dim=1) - s).mean()


@dataclass(frozen=True)
class Objective:
    """An objective that takes the place of a model's own loss.

    Attributes:
        name: ``bce``, ``bpr`` or ``softmax``.
        temperature: τ of softmax.
        correction: whether softmax corrects for the sampling distribution.
    """

    name: str
    temperature: float = 1.0
    correction: bool = True

    names: ClassVar[tuple[str, ...]] = tuple(OBJECTIVES)

    @property
    def batch(self) -> type[Any]:
        """Type of the batches of interactions."""
        return OBJECTIVES[self.name][0]

    @property
    def logits(self) -> bool:
        """Whether scores become logits, so that 0 means a probability of one half."""
        return OBJECTIVES[self.name][1]

    def __call__(self, positive: Tensor, negative: Tensor, log_q: Tensor | None = None) -> Tensor:
        """The mean loss of bpr or softmax.

        Args:
            positive: (B,) scores.
            negative: (B,) scores for bpr, (B, n) for softmax.
            log_q: (B, n) for softmax.
        """
        if self.name == "bpr":
            return bpr(positive, negative)
        assert log_q is not None
        if not self.correction:
            log_q = torch.where(log_q.isinf(), log_q, 0.0)
        return softmax(positive, negative, log_q, self.temperature)
