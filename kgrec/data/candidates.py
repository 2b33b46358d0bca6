"""Whom top-K is measured for, and what is not ranked.

All items are ranked for every user with a positive in the split; positives of earlier splits are
not. :func:`released_candidates` is the other way, which the KGCN authors' code has.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kgrec.data.dataset import RecDataset
from kgrec.data.draws import generator
from kgrec.data.interactions import Interactions, LabelledRows

RELEASED_USERS = 100  # of which the authors' code takes the mean


class Candidates(NamedTuple):
    """Who is ranked for, and what is not ranked.

    Attributes:
        users: (n,) users with at least one relevant item, ascending.
        relevant: the pairs that should be found.
        exclude: pairs that are not ranked.
    """

    users: Tensor
    relevant: Interactions
    exclude: Interactions


def candidates(dataset: RecDataset, stage: str) -> Candidates:
    """All items for all users with a positive in the split.

    Args:
        dataset: split data.
        stage: "val", which excludes training positives, or "test", which excludes validation
            positives too.
    """
    relevant = _positives(dataset.test if stage == "test" else dataset.val, dataset)
    exclude = dataset.train
    if stage == "test":
        exclude = exclude.union(_positives(dataset.val, dataset))
    return Candidates(torch.unique(relevant.users), relevant, exclude)


def released_candidates(dataset: RecDataset, seed: int) -> Candidates:
    """The way of the authors' code: 100 random users, validation positives left in as misses.

    Users are drawn among those with a training row and a test positive; training positives and
    training negatives are not ranked.

    Args:
        dataset: split data.
        seed: of the draw of users.
    """
    relevant = _positives(dataset.test, dataset)
    negatives = Interactions.from_pairs(
        *dataset.static_negatives, dataset.num_users, dataset.num_items
    )
    exclude = dataset.train.union(negatives)
    users = torch.unique(relevant.users)
    users = users[exclude.user_degrees()[users] > 0]
    order = torch.randperm(len(users), generator=generator(seed, "users of the released ranking"))
    return Candidates(users[order[:RELEASED_USERS]].sort().values, relevant, exclude)


def _positives(rows: LabelledRows, dataset: RecDataset) -> Interactions:
    liked = rows.labels > 0.5
    return Interactions.from_pairs(
        rows.users[liked], rows.items[liked], dataset.num_users, dataset.num_items
    )
