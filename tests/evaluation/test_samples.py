"""Samples of recommendations, against the data they are drawn from."""

import dataclasses

import polars as pl
import torch

from kgrec.evaluation.candidates import full_candidates
from kgrec.evaluation.full_ranking import rank
from kgrec.evaluation.samples import samples


def ranked(dataset, depth=12):
    draw = torch.Generator().manual_seed(4)
    table = torch.rand(dataset.num_users, dataset.num_items, generator=draw)
    return rank(lambda users: table[users].clone(), full_candidates(dataset, "test"), depth)


def test_records_agree_with_the_data(dataset):
    ranking = ranked(dataset)
    found = samples(dataset, ranking)
    assert len(found) == len({record["user"] for record in found}) == 10
    assert found == samples(dataset, ranking)
    degrees = [record["train_positives"] for record in found]
    assert degrees == sorted(degrees)
    every = dataset.train.user_degrees()[ranking.users]
    assert (degrees[0], degrees[-1]) == (int(every.min()), int(every.max()))
    users, items = dataset.ids.users["user"].to_list(), dataset.ids.items["item"].to_list()
    test = {(users[u], items[i])
            for u, i, label in zip(*(c.tolist() for c in (dataset.test.users, dataset.test.items,
                                                          dataset.test.labels)), strict=True)
            if label}  # fmt: skip
    train = set(zip(dataset.train.users.tolist(), dataset.train.items.tolist(), strict=True))
    for record in found:
        row = ranking.users.tolist().index(users.index(record["user"]))
        best = [items[i] for i in ranking.items[row, :10].tolist()]
        assert [r["item"] for r in record["recommended"]] == best
        for r in record["recommended"]:
            assert r["hit"] == ((record["user"], r["item"]) in test)
        assert len(record["liked"]) == min(5, record["train_positives"])
        for liked in record["liked"]:
            assert (users.index(record["user"]), items.index(liked)) in train


def test_names_are_shown_where_the_files_have_them(dataset):
    named = pl.Series("name", ["First", *[None] * (dataset.num_items - 1)], dtype=pl.String)
    ids = dataclasses.replace(dataset.ids, items=dataset.ids.items.with_columns(named))
    found = samples(dataclasses.replace(dataset, ids=ids), ranked(dataset), num_users=60)
    names = {r["name"] for record in found for r in record["recommended"]}
    assert names == {"First", None}
    liked = {name for record in found for name in record["liked"]}
    assert "First" in liked
    assert liked - {"First"} <= set(ids.items["item"])


def test_fewer_users_and_items_than_the_limits(dataset):
    found = samples(dataset, ranked(dataset, depth=3), num_users=1000)
    assert len(found) == len(ranked(dataset).users)
    assert all(len(record["recommended"]) <= 3 for record in found)
