"""Descriptions: by hand where the numbers are small, by a plain loop where they are not."""

import json
import time

import pytest
import torch
from conftest import prepared, raw_tables, small
from hypothesis import given
from hypothesis import strategies as st

from kgrec.data.dataset import PreparedData
from kgrec.data.describe import components, describe, distribution, relations
from kgrec.data.knowledge_graph import KnowledgeGraph
from kgrec.data.prepare import prepare
from kgrec.data.protocols import clean
from kgrec.data.splits import RandomSplit
from kgrec.reports.dataset import tables as dataset_tables


def graph(triples: list[tuple[int, int, int]], num_entities: int) -> KnowledgeGraph:
    heads, relation_ids, tails = torch.tensor(triples).reshape(-1, 3).T
    return KnowledgeGraph(heads, relation_ids, tails, num_entities, 1 + int(relation_ids.max()))


def test_a_distribution_by_hand():
    # Ordered 0 1 2 3 4: Σ (2i - n - 1) x_i = -4·0 - 2·1 + 0·2 + 2·3 + 4·4 = 20, over n Σx = 50.
    found = distribution(torch.tensor([4, 0, 2, 1, 3]))
    assert (found.min, found.p25, found.median, found.p75, found.max) == (0, 1, 2, 3, 4)
    assert found.mean == 2
    assert found.gini == pytest.approx(0.4)
    assert found.top1 == found.top10 == pytest.approx(0.4)  # one of five at least


def test_gini_of_equal_counts_of_zeros_and_of_one_owner():
    assert distribution(torch.full((100,), 7)).gini == pytest.approx(0)
    assert distribution(torch.full((100,), 7)).top10 == pytest.approx(0.1)
    assert (distribution(torch.zeros(5)).gini, distribution(torch.zeros(5)).top1) == (0, 0)
    one = torch.zeros(100)
    one[3] = 8
    assert distribution(one).gini == pytest.approx(0.99)
    assert distribution(one).top1 == 1


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60).filter(any))
def test_gini_is_the_mean_difference_of_all_pairs(counts):
    differences = sum(abs(a - b) for a in counts for b in counts)
    expected = differences / (2 * len(counts) * sum(counts))
    assert distribution(torch.tensor(counts)).gini == pytest.approx(expected)


def naive_components(heads: list[int], tails: list[int], n: int) -> list[int]:
    around = {v: set() for v in range(n)}
    for head, tail in zip(heads, tails, strict=True):
        around[head].add(tail)
        around[tail].add(head)
    names = [-1] * n
    for start in range(n):
        waiting = [start] if names[start] < 0 else []
        while waiting:
            v = waiting.pop()
            if names[v] < 0:
                names[v] = start
                waiting.extend(around[v])
    return names


edges = st.integers(1, 30).flatmap(
    lambda n: st.tuples(
        st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=40)
    )
)


@given(edges)
def test_components_are_those_of_a_plain_search(case):
    n, pairs = case
    heads, tails = [h for h, _ in pairs], [t for _, t in pairs]
    found = components(
        KnowledgeGraph(
            torch.tensor(heads, dtype=torch.int64), torch.zeros(len(pairs), dtype=torch.int64),
            torch.tensor(tails, dtype=torch.int64), n, 1,
        )
    )  # fmt: skip
    assert found.tolist() == naive_components(heads, tails, n)


@pytest.mark.parametrize("shape", ["chain", "shuffled chain", "random"])
def test_components_of_a_large_graph_are_fast(shape):
    n = 100_000
    draw = torch.Generator().manual_seed(0)
    names = torch.arange(n) if shape == "chain" else torch.randperm(n, generator=draw)
    if shape == "random":
        heads, tails = torch.randint(n // 2, (2, 500_000), generator=draw)
    else:
        heads, tails = names[:-1], names[1:]
    start = time.monotonic()
    found = components(KnowledgeGraph(heads, torch.zeros_like(heads), tails, n, 1))
    assert time.monotonic() - start < 5
    assert found.unique().numel() == (1 if shape != "random" else n // 2 + 1)


def by_hand() -> PreparedData:
    """Two users and three items; c is in no triple, d has no entity, y - z is a part of its own."""
    return prepared(
        [("u", "a", 5.0), ("u", "b", 3.0), ("v", "a", 4.0), ("v", "a", 4.0), ("v", "d", 4.0)],
        [("a", "A"), ("b", "B"), ("c", "C"), ("a", "A")],
        [("A", "genre", "x"), ("B", "genre", "x"), ("A", "near", "B"), ("y", "genre", "z"),
         ("y", "genre", "z"), ("x", "odd", "A")],
    )  # fmt: skip


def test_facts_by_hand():
    found = describe(by_hand())
    assert found.counts == {
        "users": 2, "items": 3, "positives": 3, "entities": 6, "relations": 3, "triples": 5,
    }  # fmt: skip
    assert found.facts == {
        "density": 0.5,
        "rated_pairs": 3,
        "items_without_positive": 1,
        "items_without_entity": 1,
        "duplicate_links": 1,
        "duplicate_positives": 1,
        "duplicate_triples": 1,
        "items_without_neighbor": 1,
        "orphan_entities": 1,
        "components": 3,
        "components_of_several": 2,
        "largest_component_entities": 3,
        "largest_component_entity_share": 0.5,
        "largest_component_item_share": pytest.approx(2 / 3),
        "item_to_item_triple_share": pytest.approx(1 / 5),
    }
    assert found.samples["positives_per_user"].tolist() == [2, 1]
    assert found.samples["positives_per_item"].tolist() == [2, 1, 0]
    # A: (genre, x), (near, B), (odd, x); B: (genre, x), (near, A).
    assert found.samples["neighbors_per_item"].tolist() == [3, 2, 0]
    assert {"step": "graph", "what": "triples read", "count": 6} in found.account


def test_the_relation_table_by_hand():
    data = by_hand()
    rows = relations(data.graph, data.ids.relations["relation"], 3).to_dicts()
    assert [list(row.values()) for row in rows] == [
        ["genre", 3, 3, 2, 2, pytest.approx(2 / 3)],
        ["near", 1, 1, 1, 2, pytest.approx(2 / 3)],  # one end each
        ["odd", 1, 1, 1, 1, pytest.approx(1 / 3)],  # from the tail
    ]


def test_a_relation_without_a_triple_or_an_item_has_zeros():
    import polars as pl

    rows = relations(graph([(2, 0, 3), (2, 2, 3)], 4), pl.Series(["r", "unused", "s"]), 2).rows()
    assert rows == [("r", 1, 1, 1, 0, 0.0), ("s", 1, 1, 1, 0, 0.0), ("unused", 0, 0, 0, 0, 0.0)]


def test_facts_of_times_parts_and_negatives():
    import polars as pl

    raw = raw_tables(
        [("u", "a", 1.0), ("u", "b", 1.0), ("v", "a", 1.0)], [("a", "A"), ("b", "B")],
        [("A", "r", "B")],
    )  # fmt: skip
    rows = raw.interactions.with_columns(
        timestamp=pl.Series([30.0, 10.0, 20.0]), part=pl.Series([0, 0, 2], dtype=pl.Int8)
    )
    negatives = pl.DataFrame({"user": ["v"], "item": ["b"]})
    facts = describe(prepare(type(raw)(rows, raw.links, raw.triples, negatives), "x")).facts
    assert (facts["first_positive_at"], facts["last_positive_at"]) == (10, 30)
    parts = [facts[f"given_{part}_positives"] for part in ("train", "val", "test")]
    assert parts == [2, 0, 1]
    assert facts["given_negatives"] == 1


def test_test_users_without_a_training_positive_are_counted():
    data = small()
    dataset = clean(data, RandomSplit((0.05, 0.05, 0.9)))
    facts = describe(data, dataset).facts
    train, test = dataset.train, dataset.test
    testers = {int(u) for u, y in zip(test.users, test.labels, strict=True) if y}
    strangers = testers - set(train.users.tolist())
    assert 0 < len(strangers) < len(testers)
    assert facts["test_users"] == len(testers)
    assert facts["test_users_without_training"] == len(strangers)
    assert facts["test_users_without_training_share"] == len(strangers) / len(testers)
    assert len(describe(data, dataset).account) > len(describe(data).account)


def test_a_description_is_plain_data_and_every_name_has_a_label():
    data = small()
    found = describe(data, clean(data, RandomSplit()))
    plain = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert list(plain) == [
        "name", "counts", "published_counts", "facts", "distributions", "relations",
        "inverse_relations", "lookalikes", "account",
    ]  # fmt: skip
    assert set(plain["facts"]) | set(plain["distributions"]) <= set(dataset_tables.LABELS)
