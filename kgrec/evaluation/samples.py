"""Recommendations for a few test users, for people to read."""

from __future__ import annotations

from typing import Any

import torch

from kgrec.data.dataset import RecDataset
from kgrec.evaluation.full_ranking import Ranking


def samples(
    dataset: RecDataset, ranking: Ranking, num_users: int = 10, k: int = 10, num_liked: int = 5
) -> list[dict[str, Any]]:
    """The best items of a few test users.

    The users are spread evenly over all evaluated users, from the fewest to the most training
    positives, so they are the same for every model.

    Args:
        dataset: split data.
        ranking: ranking of the test.
        num_users: most users to show.
        k: most recommended items to show for a user.
        num_liked: most training positives to show for a user, the most popular first.

    Returns:
        One record per user: ``user`` (the raw id), ``train_positives`` and ``test_positives``
        (their number), ``liked`` (names, or raw ids where the files have no name),
        ``recommended``, best first: ``item`` (the raw id), ``name`` (or None), ``hit`` (whether it
        is a test positive).
    """
    ids, degrees = dataset.ids, dataset.train.user_degrees()
    user_ids, item_ids = ids.users["user"], ids.items["item"]
    names = ids.items["name"]
    popularity = dataset.train.item_degrees()
    order = degrees[ranking.users].argsort(stable=True)
    places = torch.linspace(0, len(order) - 1, min(num_users, len(order))).round().long()
    records = []
    for row in order[places].tolist():
        user = int(ranking.users[row])
        _, liked = dataset.train.of_users(ranking.users[row : row + 1])
        liked = liked[popularity[liked].argsort(descending=True, stable=True)]
        items, hits = ranking.items[row, :k].tolist(), ranking.hits[row, :k].tolist()
        records.append(
            {
                "user": user_ids[user],
                "train_positives": int(degrees[user]),
                "test_positives": int(ranking.relevant[row]),
                "liked": [names[i] or item_ids[i] for i in liked[:num_liked].tolist()],
                "recommended": [
                    {"item": item_ids[item], "name": names[item], "hit": hit}
                    for item, hit in zip(items, hits, strict=True)
                    if item >= 0  # -1: fewer items were left
                ],
            }
        )
    return records
