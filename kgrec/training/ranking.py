"""Ranks for the users to evaluate; processes of one training share the users, or the items."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from kgrec.data.batches import own_rows
from kgrec.evaluation.candidates import Candidates
from kgrec.evaluation.full_ranking import Ranking, rank, ranking_of
from kgrec.evaluation.sharded_ranking import top_k_of_shards
from kgrec.models.recommender import Recommender
from kgrec.training.distributed import gather_rows, joined


def rank_shares_of_items(
    model: Recommender, evaluated: Candidates, depth: int, device: torch.device
) -> Ranking:
    """Ranks for all users; each process scores its share of the items.

    Args:
        model: model whose tables the processes share.
        evaluated: users to evaluate and items to rank.
        depth: largest number of ranked items; fewer if there are fewer.
        device: device that scores.

    Returns:
        The ranking of all users, on every process.
    """
    num_items, ranked = evaluated.relevant.num_items, evaluated.items
    depth = min(depth, num_items if ranked is None else len(ranked))
    best = top_k_of_shards(
        model.scorer,
        evaluated.users.to(device),
        min(depth + 1, num_items),
        num_items,
        evaluated.exclude,
        evaluated.order,
        ranked,
    )
    return ranking_of(*best, evaluated, depth)


def rank_shares_of_users(
    model: Recommender, evaluated: Candidates, depth: int, device: torch.device, encoded: Any
) -> Ranking:
    """Ranks all items; each process does so for its share of the users.

    Args:
        model: model of which every process has all parameters.
        evaluated: users to evaluate and items to rank.
        depth: largest number of ranked items; fewer if there are fewer.
        device: device that scores.
        encoded: result of ``model.encode()``.

    Returns:
        The ranking of all users, on every process.
    """
    place = (dist.get_rank(), dist.get_world_size()) if joined() else (0, 1)
    own = own_rows(len(evaluated.users), *place)
    ranking = rank(
        lambda users: model.score_all(users, encoded),
        evaluated._replace(users=evaluated.users[own]),
        depth,
        device,
    )
    return ranking._replace(
        users=evaluated.users,
        items=gather_rows(ranking.items, device),
        hits=gather_rows(ranking.hits, device),
        tied=gather_rows(ranking.tied, device),
        relevant=gather_rows(ranking.relevant, device),
    )
