"""Click-through metrics on scored, labelled rows.

Shapes: n rows. Scores are raw: a sigmoid in float32 saturates and creates ties. A score that is NaN
is an error in every metric: it has no rank and is on neither side of a threshold.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kgrec.data.draws import widest_float
from kgrec.errors import KgrecError


def check_numbers(scores: Tensor) -> None:
    """Raises KgrecError if a score is NaN."""
    if bad := int(scores.isnan().sum()):
        raise KgrecError(f"found {bad} of {scores.numel()} scores that are NaN, expected numbers")


def _checked(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and labels on a device with float64; raises KgrecError if a score is NaN."""
    check_numbers(scores)
    if widest_float(scores.device) is not torch.float64:
        return scores.cpu(), labels.cpu()
    return scores, labels


def auc(scores: Tensor, labels: Tensor) -> float:
    """Area under the ROC curve, from ranks; ties count half.

    ``(Σ rank of positives - P(P + 1)/2) / (P·N)`` with P positives, N negatives and average
    ranks for ties: the probability that a positive scores above a negative.

    Args:
        scores: (n,) float.
        labels: (n,) 0 or 1.

    Returns:
        In [0, 1]; nan where a class is missing.

    Raises:
        KgrecError: a score is NaN.
    """
    scores, labels = _checked(scores, labels)
    positive = labels > 0.5
    P, N = int(positive.sum()), int((~positive).sum())
    if P == 0 or N == 0:
        return math.nan
    _, group, sizes = torch.unique(scores, return_inverse=True, return_counts=True)
    last = sizes.cumsum(0)  # rank of the last row of each group of ties
    rank = (last - (sizes - 1) / 2).double()[group]
    return float((rank[positive].sum() - P * (P + 1) / 2) / (P * N))


def f1(scores: Tensor, labels: Tensor, threshold: float) -> float:
    """F1 where a score of at least ``threshold`` is called positive: ``2·TP / (2·TP + FP + FN)``.

    Args:
        scores: (n,) float.
        labels: (n,) 0 or 1.
        threshold: on the scale of the scores; 0 for logits is a probability of one half.

    Returns:
        In [0, 1]; 0 where no row is positive and none is called positive.

    Raises:
        KgrecError: a score is NaN.
    """
    scores, labels = _checked(scores, labels)
    called, positive = scores >= threshold, labels > 0.5
    hits = int((called & positive).sum())
    denominator = int(called.sum()) + int(positive.sum())
    return 2 * hits / denominator if denominator else 0.0


def accuracy(scores: Tensor, labels: Tensor, threshold: float) -> float:
    """Share of rows for which a score of at least ``threshold`` agrees with a positive label.

    Args:
        scores: (n,) float.
        labels: (n,) 0 or 1.
        threshold: on the scale of the scores.

    Returns:
        In [0, 1]; nan where there is no row.

    Raises:
        KgrecError: a score is NaN.
    """
    scores, labels = _checked(scores, labels)
    return float(((scores >= threshold) == (labels > 0.5)).double().mean())


def log_loss(logits: Tensor, labels: Tensor) -> float:
    """Mean cross-entropy of Bernoulli labels, in nats.

    ``-(1/n) Σ y·log σ(z) + (1 - y)·log(1 - σ(z))``, computed as ``softplus(z) - y·z``, which
    neither overflows nor takes the logarithm of a rounded 0.

    Args:
        logits: (n,) float, before the sigmoid.
        labels: (n,) 0 or 1.

    Returns:
        At least 0; nan where there is no row.

    Raises:
        KgrecError: a score is NaN.
    """
    logits, labels = _checked(logits, labels)
    z = logits.double()
    return float((F.softplus(z) - z * labels.double()).mean())


def best_f1_threshold(scores: Tensor, labels: Tensor) -> float:
    """The threshold with the highest F1; of several, the highest threshold.

    Args:
        scores: (n,) float, n >= 1.
        labels: (n,) 0 or 1.

    Returns:
        One of the scores.

    Raises:
        KgrecError: a score is NaN.
    """
    scores, labels = _checked(scores, labels)
    values, order = scores.sort(descending=True)
    hits = (labels[order] > 0.5).double().cumsum(0)
    called = torch.arange(1, len(values) + 1, dtype=torch.float64, device=values.device)
    # A threshold calls all rows of a group of ties positive, so only the last row counts.
    last = torch.ones_like(values, dtype=torch.bool)
    last[:-1] = values[1:] != values[:-1]
    f1_at = torch.where(last, 2 * hits / (called + hits[-1]), -1.0)
    return float(values[f1_at.argmax()])
