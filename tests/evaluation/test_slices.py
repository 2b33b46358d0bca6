"""Slices by training positives, against loops over rows."""

import math

import pytest
import torch

from kgrec.evaluation.candidates import full_candidates
from kgrec.evaluation.ctr import auc
from kgrec.evaluation.full_ranking import rank
from kgrec.evaluation.slices import ITEM_EDGES, USER_EDGES, names, slices


def test_names():
    assert names(USER_EDGES) == ["0", "1-2", "3-5", "6-10", "11+"]
    assert names(ITEM_EDGES)[-2:] == ["51-200", "201+"]


def inside(name: str, number: int) -> bool:
    low, _, high = name.removesuffix("+").partition("-")
    if name.endswith("+"):
        return number >= int(low)
    return int(low) <= number <= int(high or low)


def test_every_metric_equals_a_loop_over_rows(dataset):
    draw = torch.Generator().manual_seed(4)
    table = torch.rand(dataset.num_users, dataset.num_items, generator=draw)
    rows = dataset.test
    scores = table[rows.users, rows.items]
    ranking = rank(lambda users: table[users].clone(), full_candidates(dataset, "test"), 5)
    found = slices(dataset, scores, ranking, 5)
    assert {record["by"] for record in found} == {"user", "item"}
    for by, degrees, ids in (
        ("user", dataset.train.user_degrees(), rows.users),
        ("item", dataset.train.item_degrees(), rows.items),
    ):
        own = [record for record in found if record["by"] == by]
        assert sum(record["rows"] for record in own) == len(rows)  # no row is lost
        for record in own:
            mask = torch.tensor([inside(record["positives"], int(degrees[i])) for i in ids])
            assert record["rows"] == int(mask.sum())
            area = auc(scores[mask], rows.labels[mask])
            assert record["auc"] == (None if math.isnan(area) else pytest.approx(area))
            best = dict(zip(ranking.users.tolist(), ranking.items.tolist(), strict=True))
            pairs = [
                (u, i)
                for u, i, y, m in zip(
                    rows.users.tolist(), rows.items.tolist(), rows.labels.tolist(), mask.tolist(),
                    strict=True,
                )
                if y and m
            ]  # fmt: skip
            assert record["relevant"] == len(pairs)
            if not pairs:
                continue
            if by == "item":
                expected = sum(i in best[u] for u, i in pairs) / len(pairs)
            else:
                users = sorted({u for u, _ in pairs})
                assert record["users"] == len(users)
                expected = sum(
                    sum(i in best[u] for v, i in pairs if v == u)
                    / sum(v == u for v, _ in pairs)
                    for u in users
                ) / len(users)  # fmt: skip
            assert record["recall@5"] == pytest.approx(expected)


def test_without_a_ranking_there_is_auc_alone(dataset):
    found = slices(dataset, torch.rand(len(dataset.test)), None, None)
    assert {key for record in found for key in record} == {"by", "positives", "rows", "auc"}
