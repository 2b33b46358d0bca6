"""Users to evaluate and items to exclude in top-K evaluation."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kgrec.data.dataset import RecDataset
from kgrec.data.draws import generator
from kgrec.data.interactions import Interactions, LabelledRows
from kgrec.evaluation.ties import tie_order

RELEASED_USERS = 100  # users over which the authors' code takes the mean


class Candidates(NamedTuple):
    """Users to evaluate, the pairs to recommend, the pairs to exclude and the items to rank.

    Attributes:
        users: (n,) users with at least one relevant item, ascending.
        relevant: pairs that a perfect ranking puts first.
        exclude: pairs that are not ranked.
        order: (num_items,) items in the order in which equal scores are ranked.
        items: (m,) ascending items that are ranked; None: all.
    """

    users: Tensor
    relevant: Interactions
    exclude: Interactions
    order: Tensor
    items: Tensor | None = None


def candidates(
    dataset: RecDataset, stage: str, ranking: str = "full", seed: int = 0
) -> Candidates | None:
    """Users and exclusions of one evaluation.

    Args:
        dataset: split data.
        stage: "val" or "test".
        ranking: "full": all items for all users. "released": as the KGCN authors' code does, only
            in the test. "none": nothing is ranked.
        seed: seed of the order of ties, and of the draw of users under "released".

    Returns:
        None where nothing is ranked.
    """
    if ranking == "none":
        return None
    if ranking == "released" and stage == "test":
        return released_candidates(dataset, seed)
    return full_candidates(dataset, stage, seed)


def full_candidates(dataset: RecDataset, stage: str, seed: int = 0) -> Candidates:
    """All items for every user with a positive in the split; earlier positives are excluded.

    If each part has its own items (``split=cold_items``), only the items of the split are ranked.

    Args:
        dataset: split data.
        stage: "val", which excludes training positives, or "test", which excludes validation
            positives too.
        seed: seed of the order of ties.
    """
    relevant = _positives(dataset.test if stage == "test" else dataset.val, dataset)
    exclude = dataset.train
    if stage == "test":
        exclude = exclude.union(_positives(dataset.val, dataset))
    users, items = torch.unique(relevant.users), dataset.candidate_items(stage)
    return Candidates(users, relevant, exclude, _order(dataset, seed), items)


def released_candidates(dataset: RecDataset, seed: int) -> Candidates:
    """Candidates as in the authors' code: 100 random users; validation positives count as misses.

    Users are drawn among those with a training row and a test positive. Training positives and
    training negatives are not ranked.

    Args:
        dataset: split data.
        seed: seed of the order of ties and of the draw of users.
    """
    relevant = _positives(dataset.test, dataset)
    negatives = Interactions.from_pairs(
        *dataset.static_negatives, dataset.num_users, dataset.num_items
    )
    exclude = dataset.train.union(negatives)
    users = torch.unique(relevant.users)
    users = users[exclude.user_degrees()[users] > 0]
    order = torch.randperm(len(users), generator=generator(seed, "users of the released ranking"))
    users = users[order[:RELEASED_USERS]].sort().values
    items = dataset.candidate_items("test")
    return Candidates(users, relevant, exclude, _order(dataset, seed), items)


def _order(dataset: RecDataset, seed: int) -> Tensor:
    return tie_order(dataset.ids.items["item"].to_list(), seed)


def _positives(rows: LabelledRows, dataset: RecDataset) -> Interactions:
    positive = rows.labels > 0.5
    return Interactions.from_pairs(
        rows.users[positive], rows.items[positive], dataset.num_users, dataset.num_items
    )
