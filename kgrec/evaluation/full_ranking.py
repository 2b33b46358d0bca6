"""Top-K evaluation: which of the best items of each user are test positives.

Shapes: n users, L ranked items each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kgrec.evaluation import catalogue
from kgrec.evaluation.candidates import Candidates
from kgrec.evaluation.ranking import METRICS
from kgrec.evaluation.topk import top_k


class Ranking(NamedTuple):
    """The best items of each user.

    Attributes:
        users: (n,) int64.
        items: (n, L) int64, best first; -1 where fewer are left.
        hits: (n, L) bool, whether each is relevant.
        relevant: (n,) int64, relevant items of each user, found or not.
        num_items: items of the catalogue.
    """

    users: Tensor
    items: Tensor
    hits: Tensor
    relevant: Tensor
    num_items: int


def rank(
    score_all: Callable[[Tensor], Tensor],
    found: Candidates,
    depth: int,
    device: torch.device | str = "cpu",
) -> Ranking:
    """Ranks, and looks up which are relevant.

    Args:
        score_all: from users (B,) to (B, num_items) scores, on the device.
        found: whom and what to rank.
        depth: L, at most the number of items.
        device: where scores are computed; the result comes back to the CPU.
    """
    num_items = found.relevant.num_items
    users = found.users.to(device)
    _, items = top_k(score_all, users, min(depth, num_items), num_items, found.exclude.to(device))
    items = items.cpu()
    rows = found.users[:, None].expand_as(items)
    hits = found.relevant.contains(rows.flatten(), items.flatten().clamp(min=0)).view(items.shape)
    relevant = found.relevant.user_degrees()[found.users]
    return Ranking(found.users, items, hits & (items >= 0), relevant, num_items)


def per_user(ranking: Ranking, ks: Sequence[int]) -> dict[str, Tensor]:
    """Every metric at every cutoff: name, such as ``recall@20``, to (n,) figures."""
    return {
        f"{name}@{k}": metric(ranking.hits, ranking.relevant, k)
        for name, metric in METRICS.items()
        for k in _reachable(ranking, ks)
    }


def overall(ranking: Ranking, popularity: Tensor, ks: Sequence[int]) -> dict[str, float]:
    """What is recommended to everybody: coverage, popularity and concentration at every cutoff.

    Args:
        ranking: the best items.
        popularity: (num_items,) training positives of each item.
        ks: cutoffs.
    """
    figures = {}
    for k in _reachable(ranking, ks):
        best = ranking.items[:, :k]
        figures[f"coverage@{k}"] = catalogue.coverage(best, ranking.num_items)
        figures[f"popularity@{k}"] = catalogue.mean_popularity(best, popularity)
        figures[f"gini@{k}"] = catalogue.gini(best, ranking.num_items)
    return figures


def _reachable(ranking: Ranking, ks: Sequence[int]) -> list[int]:
    """Cutoffs that the catalogue is large enough for."""
    return [k for k in ks if k <= ranking.items.shape[1]]
