"""Ranking metrics of users' best items, one value per user.

Shapes: n users, L ranked items each, best first. ``hits`` (n, L) says which items are relevant;
``relevant`` (n,) is the number of relevant items of a user, ranked among the best L or not. For a
user and a cut-off k, rel(i) is 1 where the i-th item is a hit, and R is the number of relevant
items. Every user has at least one; users without one are not evaluated.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Metric = Callable[[Tensor, Tensor, int], Tensor]


def recall(hits: Tensor, relevant: Tensor, k: int) -> Tensor:
    """``Σ_{i≤k} rel(i) / R``: the share of the relevant items among the best k.

    It divides by all relevant items, even if there are more than k.

    Args:
        hits: (n, L) bool, L >= k.
        relevant: (n,) int.
        k: cut-off.

    Returns:
        (n,) float64 in [0, 1].
    """
    return _top(hits, k).sum(dim=1) / relevant


def precision(hits: Tensor, relevant: Tensor, k: int) -> Tensor:
    """``Σ_{i≤k} rel(i) / k``: the share of the k items that are relevant; as :func:`recall`."""
    return _top(hits, k).sum(dim=1) / k


def hit(hits: Tensor, relevant: Tensor, k: int) -> Tensor:
    """``max_{i≤k} rel(i)``: whether a relevant item is among the best k; as :func:`recall`."""
    return _top(hits, k).amax(dim=1)


def mrr(hits: Tensor, relevant: Tensor, k: int) -> Tensor:
    """``1 / i`` for the first hit i, 0 if i > k; arguments as in :func:`recall`."""
    return (_top(hits, k) / _ranks(hits, k)).amax(dim=1)


def ap(hits: Tensor, relevant: Tensor, k: int) -> Tensor:
    """``Σ_{i≤k} rel(i)·precision@i / min(k, R)``: average precision; its mean over users is map@k.

    Arguments as in :func:`recall`.
    """
    top = _top(hits, k)
    precisions = top.cumsum(dim=1) / _ranks(hits, k)
    return (top * precisions).sum(dim=1) / relevant.clamp(max=k)


def ndcg(hits: Tensor, relevant: Tensor, k: int) -> Tensor:
    """``DCG / IDCG``, ``DCG = Σ_{i≤k} rel(i) / log2(i + 1)``; IDCG has min(k, R) hits at the top.

    Järvelin and Kekäläinen (TOIS 2002), with binary gains; arguments as in :func:`recall`.
    """
    discounts = 1 / (_ranks(hits, k) + 1).log2()
    ideal = torch.cat([discounts.new_zeros(1), discounts.cumsum(0)])
    return _top(hits, k) @ discounts / ideal[relevant.clamp(max=k)]


METRICS: dict[str, Metric] = {
    "recall": recall, "precision": precision, "ndcg": ndcg, "mrr": mrr, "map": ap, "hit": hit,
}  # fmt: skip


def _top(hits: Tensor, k: int) -> Tensor:
    """(n, k) float64."""
    if not 1 <= k <= hits.shape[1]:
        raise ValueError(f"k: found {k}, expected 1 to {hits.shape[1]}, the items ranked")
    return hits[:, :k].double()


def _ranks(hits: Tensor, k: int) -> Tensor:
    """(k,) 1 … k."""
    return torch.arange(1, k + 1, dtype=torch.float64, device=hits.device)
