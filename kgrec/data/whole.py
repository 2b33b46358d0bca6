"""All positives of a split data set as training positives, for the final model."""

from __future__ import annotations

from dataclasses import replace

import torch

from kgrec.data.dataset import PreparedData, RecDataset
from kgrec.data.draws import generator
from kgrec.data.interactions import Interactions, LabelledRows
from kgrec.data.negatives import NegativeSampler


def whole(dataset: RecDataset, data: PreparedData) -> RecDataset:
    """The data set with every positive in the training part; validation and test are empty.

    Static negatives under ``protocol=paper`` are those of all parts, drawn before the split or
    given in the files. Under ``protocol=clean`` they are drawn anew, because a negative of the
    split may be a positive of another part.

    Args:
        dataset: split data.
        data: the data before the split.
    """
    parts = [dataset.val, dataset.test]
    train = dataset.train
    for rows in parts:
        positive = rows.labels > 0.5
        pairs = rows.users[positive], rows.items[positive]
        train = train.union(Interactions.from_pairs(*pairs, train.num_users, train.num_items))
    if dataset.protocol == "paper":
        negatives = [rows.take(rows.labels < 0.5) for rows in parts]
        users, items = dataset.static_negatives
        static = (
            torch.cat([users, *(rows.users for rows in negatives)]),
            torch.cat([items, *(rows.items for rows in negatives)]),
        )
    else:
        draw = generator(data.seed, "static negatives")
        static = NegativeSampler(train).draw(train.users, draw)
    weights = data.weights
    if weights is not None:
        weights = weights[torch.searchsorted(data.positives.keys, train.keys)]
    none = torch.empty(0, dtype=torch.int64)
    empty = LabelledRows(none, none, torch.empty(0))
    account = dataset.account.copy()
    account.add("refit", "positives of all parts, for training", len(train))
    return replace(
        dataset, train=train, static_negatives=static, val=empty, test=empty, matched={},
        account=account, train_weights=weights,
        items_apart=False,
    )  # fmt: skip
