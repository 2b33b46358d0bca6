"""Top-K evaluation: which of the best items of each user are relevant.

Shapes: n users, L ranked items each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kgrec.data.knowledge_graph import Neighborhood
from kgrec.evaluation import catalogue
from kgrec.evaluation.candidates import Candidates
from kgrec.evaluation.ranking import METRICS
from kgrec.evaluation.topk import top_k


class Ranking(NamedTuple):
    """The best items of each user.

    Attributes:
        users: (n,) int64.
        items: (n, L) int64, best first; -1 where fewer items are left.
        hits: (n, L) bool, whether each item is relevant.
        tied: (n, L) bool, whether the next item in the ranking has the same score.
        relevant: (n,) int64, number of relevant items of each user, ranked or not.
        num_items: number of items that can be recommended.
        candidates: (num_items,) ascending items that can be recommended; None: the catalogue.
    """

    users: Tensor
    items: Tensor
    hits: Tensor
    tied: Tensor
    relevant: Tensor
    num_items: int
    candidates: Tensor | None = None

    def places(self) -> Tensor:
        """(n, L) places of the items among those that can be recommended; -1 as in items."""
        if self.candidates is None:
            return self.items
        places = torch.searchsorted(self.candidates, self.items.contiguous())
        return places.masked_fill(self.items < 0, -1)


def rank(
    score_all: Callable[[Tensor], Tensor],
    candidates: Candidates,
    depth: int,
    device: torch.device | str = "cpu",
) -> Ranking:
    """Ranks all items, or the candidate items, for each user and looks up which are relevant.

    Args:
        score_all: function from users (B,) to (B, num_items) scores, on the device.
        candidates: users, relevant items, exclusions and items to rank.
        depth: L, at most the number of items to rank.
        device: device that computes scores; the result is on the CPU.
    """
    users, relevant = candidates.users, candidates.relevant
    num_items, ranked = relevant.num_items, candidates.items
    num_ranked = num_items if ranked is None else len(ranked)
    depth = min(depth, num_ranked)
    scores, items = top_k(
        score_all if ranked is None else _only(score_all, ranked.to(device), num_items),
        users.to(device),
        min(depth + 1, num_items),  # one more item, to see whether it is tied with the last
        num_items,
        candidates.exclude.to(device),
        order=candidates.order,
    )
    return ranking_of(scores, items, candidates, depth)


def ranking_of(scores: Tensor, items: Tensor, candidates: Candidates, depth: int) -> Ranking:
    """The ranking of users whose best items are known.

    Args:
        scores: (n, depth or more) scores of the best items, best first.
        items: (n, depth or more) the best items; -1 where fewer are left.
        candidates: users, relevant items and items to rank.
        depth: L.
    """
    users, relevant = candidates.users, candidates.relevant
    ranked = candidates.items
    num_ranked = relevant.num_items if ranked is None else len(ranked)
    scores, items = scores.cpu(), items.cpu()
    tied = torch.zeros_like(items, dtype=torch.bool)
    tied[:, :-1] = (scores[:, :-1] == scores[:, 1:]) & (items[:, 1:] >= 0)
    items, tied = items[:, :depth], tied[:, :depth]
    rows = users[:, None].expand_as(items)
    hits = relevant.contains(rows.flatten(), items.flatten().clamp(min=0)).view(items.shape)
    return Ranking(
        users, items, hits & (items >= 0), tied, relevant.user_degrees()[users], num_ranked, ranked
    )


def _only(
    score_all: Callable[[Tensor], Tensor], items: Tensor, num_items: int
) -> Callable[[Tensor], Tensor]:
    """The scores of ``score_all``; those of all other items are -inf, so that none is ranked."""
    hidden = torch.ones(num_items, dtype=torch.bool, device=items.device)
    hidden[items] = False
    return lambda users: score_all(users).masked_fill_(hidden, -torch.inf)


def per_user(ranking: Ranking, ks: Sequence[int]) -> dict[str, Tensor]:
    """(n,) values of every metric at every cut-off, by name, such as ``recall@20``."""
    return {
        f"{name}@{k}": metric(ranking.hits, ranking.relevant, k)
        for name, metric in METRICS.items()
        for k in _reachable(ranking, ks)
    }


def overall(
    ranking: Ranking,
    popularity: Tensor,
    ks: Sequence[int],
    num_users: int | None = None,
    graph: Neighborhood | None = None,
) -> dict[str, float]:
    """Metrics over all users together at every cut-off.

    ``coverage@k``, ``popularity@k``, ``gini@k``, ``novelty@k`` and ``diversity@k`` (k >= 2)
    describe the recommended items, see :mod:`kgrec.evaluation.catalogue`. ``tied_users@k`` is the
    share of users whose items k and k + 1 have the same score, so that
    :func:`kgrec.evaluation.ties.tie_order` decides which of them is recommended.

    Args:
        ranking: the best items.
        popularity: (num_items,) number of training positives of each item.
        ks: cut-offs.
        num_users: number of users of the data set; None: no novelty.
        graph: S(v) of every entity; None: no diversity.
    """
    metrics: dict[str, float] = {}
    ks, places = _reachable(ranking, ks), ranking.places()
    if graph is not None:
        diversities = catalogue.diversity(ranking.items[:, : max(ks, default=0)], graph, ks)
        metrics |= {f"diversity@{k}": value for k, value in diversities.items()}
    for k in ks:
        best = ranking.items[:, :k]
        metrics[f"coverage@{k}"] = catalogue.coverage(places[:, :k], ranking.num_items)
        metrics[f"popularity@{k}"] = catalogue.mean_popularity(best, popularity)
        metrics[f"gini@{k}"] = catalogue.gini(places[:, :k], ranking.num_items)
        if num_users is not None:
            metrics[f"novelty@{k}"] = catalogue.novelty(best, popularity, num_users)
        metrics[f"tied_users@{k}"] = float(ranking.tied[:, k - 1].float().mean())
    return metrics


def _reachable(ranking: Ranking, ks: Sequence[int]) -> list[int]:
    """Cut-offs up to the length of the ranking."""
    return [k for k in ks if k <= ranking.items.shape[1]]
