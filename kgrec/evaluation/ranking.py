"""Ranking metrics of users' best items, one figure a user.

Shapes: n users, L ranked items each, best first. ``hits`` (n, L) says which of them are relevant;
``relevant`` (n,) is how many relevant items a user has in all, ranked among the best L or not.
For a user and a cutoff k, rel(i) is 1 where the i-th item is a hit, and R the number of relevant
ones. Every user has at least one of them; who has none is left out before.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Metric = Callable[[Tensor, Tensor, int], Tensor]


def recall(hits: Tensor, relevant: Tensor, k: int) -> Tensor:
    """``Σ_{i≤k} rel(i) / R``: the share of the relevant items that are found.

    It divides by all relevant items, also where there are more of them than k.

    Args:
        hits: (n, L) bool, L >= k.
        relevant: (n,) int.
        k: cutoff.

    Returns:
        (n,) float64 in [0, 1].
    """
    return _top(hits, k).sum(dim=1) / relevant


def precision(hits: Tensor, relevant: Tensor, k: int) -> Tensor:
    """``Σ_{i≤k} rel(i) / k``: the share of the k items that are relevant; as :func:`recall`."""
    return _top(hits, k).sum(dim=1) / k


def hit(hits: Tensor, relevant: Tensor, k: int) -> Tensor:
    """``max_{i≤k} rel(i)``: whether any is found; arguments as in :func:`recall`."""
    return _top(hits, k).amax(dim=1)


def mrr(hits: Tensor, relevant: Tensor, k: int) -> Tensor:
    """``1 / i`` of the first hit, 0 if it comes after k; arguments as in :func:`recall`."""
    return (_top(hits, k) / _ranks(hits, k)).amax(dim=1)


def ap(hits: Tensor, relevant: Tensor, k: int) -> Tensor:
    """``Σ_{i≤k} rel(i)·precision@i / min(k, R)``: average precision; its mean over users is map@k.

    Arguments as in :func:`recall`.
    """
    top = _top(hits, k)
    found = (top * top.cumsum(dim=1) / _ranks(hits, k)).sum(dim=1)
    return found / relevant.clamp(max=k)


def ndcg(hits: Tensor, relevant: Tensor, k: int) -> Tensor:
    """``DCG / IDCG``, ``DCG = Σ_{i≤k} rel(i) / log2(i + 1)``, IDCG of min(k, R) hits in front.

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
