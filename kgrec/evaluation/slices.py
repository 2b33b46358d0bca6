"""Metrics by the number of training positives of the user, or of the item.

A mean over all rows hides where a model works: for users with a long history, for popular items, or
where only the graph can help. Items without a training positive are the slice "0" of ``item``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from kgrec.data.dataset import RecDataset
from kgrec.evaluation.ctr import auc
from kgrec.evaluation.full_ranking import Ranking
from kgrec.evaluation.ranking import ndcg

# The smallest number of training positives in each slice.
USER_EDGES = (0, 1, 3, 6, 11)
ITEM_EDGES = (0, 1, 3, 6, 11, 51, 201)


def names(edges: tuple[int, ...]) -> list[str]:
    """``0``, ``1-2``, … for the slices that begin at the given numbers."""
    labels = []
    for low, above in zip(edges, (*edges[1:], None), strict=True):
        if above is None:
            labels.append(f"{low}+")
        else:
            labels.append(str(low) if above == low + 1 else f"{low}-{above - 1}")
    return labels


def slices(
    dataset: RecDataset, scores: Tensor, ranking: Ranking | None, k: int | None
) -> list[dict[str, Any]]:
    """Test metrics of every slice that has a row.

    Args:
        dataset: split data.
        scores: (n,) scores of the test rows.
        ranking: ranking of the test, of at least k items; None: no recall and ndcg.
        k: cut-off, or None.

    Returns:
        One record per slice: ``by`` ("user" or "item"), ``positives`` (training positives, as
        "1-2"), ``rows`` (test rows), ``auc`` within the slice (None where a class is missing).
        With a ranking: ``relevant``, the number of test positives of evaluated users; by user
        ``users`` and the means of ``recall@k`` and ``ndcg@k`` over them; by item ``recall@k``,
        the share of the slice's test positives among the best k.
    """
    rows = dataset.test
    records = []
    for by, edges, degrees, ids in (
        ("user", USER_EDGES, dataset.train.user_degrees(), rows.users),
        ("item", ITEM_EDGES, dataset.train.item_degrees(), rows.items),
    ):
        slice_of = torch.bucketize(degrees, torch.tensor(edges[1:]), right=True)
        for number, name in enumerate(names(edges)):
            inside = slice_of[ids] == number
            if not bool(inside.any()):
                continue
            area = auc(scores[inside], rows.labels[inside])
            record: dict[str, Any] = {
                "by": by,
                "positives": name,
                "rows": int(inside.sum()),
                "auc": None if math.isnan(area) else area,
            }
            if ranking is not None and k is not None:
                record |= (_by_user if by == "user" else _by_item)(
                    ranking, slice_of == number, k, dataset
                )
            records.append(record)
    return records


def _by_user(ranking: Ranking, inside: Tensor, k: int, dataset: RecDataset) -> dict[str, Any]:
    rows = inside[ranking.users]
    hits, relevant = ranking.hits[rows], ranking.relevant[rows]
    if len(relevant) == 0:
        return {"users": 0, "relevant": 0, f"recall@{k}": None, f"ndcg@{k}": None}
    return {
        "users": len(relevant),
        "relevant": int(relevant.sum()),
        f"recall@{k}": float((hits[:, :k].double().sum(dim=1) / relevant).mean()),
        f"ndcg@{k}": float(ndcg(hits, relevant, k).mean()),
    }


def _by_item(ranking: Ranking, inside: Tensor, k: int, dataset: RecDataset) -> dict[str, Any]:
    rows = dataset.test
    ranked = torch.isin(rows.users, ranking.users)
    relevant = int((inside[rows.items] & (rows.labels > 0.5) & ranked).sum())
    items, hits = ranking.items[:, :k], ranking.hits[:, :k]
    hit = int((hits & inside[items.clamp(min=0)]).sum())
    return {"relevant": relevant, f"recall@{k}": hit / relevant if relevant else None}
