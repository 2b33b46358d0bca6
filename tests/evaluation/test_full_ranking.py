"""Users to evaluate, items to exclude, and the metrics of top-K evaluation."""

import pytest
import torch
from conftest import small

from kgrec.data.knowledge_graph import KnowledgeGraph
from kgrec.data.protocols import clean, paper
from kgrec.data.splits import ColdItems, RandomSplit
from kgrec.evaluation.candidates import full_candidates, released_candidates
from kgrec.evaluation.full_ranking import overall, per_user, rank
from kgrec.evaluation.ties import tie_order


def pairs(rows, label=1):
    return {
        (u, i)
        for u, i, y in zip(
            rows.users.tolist(), rows.items.tolist(), rows.labels.tolist(), strict=True
        )
        if y == label
    }


def train_pairs(dataset):
    return set(zip(dataset.train.users.tolist(), dataset.train.items.tolist(), strict=True))


def literal(dataset, scores, stage, k, exclude):
    """Recall@k of every user with a positive in the split, by sorting lists."""
    relevant = pairs(getattr(dataset, stage))
    place = tie_order(dataset.ids.items["item"], 0).argsort().tolist()
    found = {}
    for user in sorted({u for u, _ in relevant}):
        own = {i for u, i in relevant if u == user}
        ranked = sorted(
            (i for i in range(dataset.num_items) if (user, i) not in exclude),
            key=lambda i: (-float(scores[user, i]), place[i]),
        )
        found[user] = len(own & set(ranked[:k])) / len(own)
    return found


@pytest.mark.parametrize("stage", ["val", "test"])
def test_recall_equals_a_loop_over_lists(dataset, stage):
    scores = torch.randint(5, (dataset.num_users, dataset.num_items)).float()  # many ties
    exclude = train_pairs(dataset) | (pairs(dataset.val) if stage == "test" else set())
    found = rank(lambda users: scores[users].clone(), full_candidates(dataset, stage), 20)
    recall = per_user(found, [5, 20])
    for k in (5, 20):
        expected = literal(dataset, scores, stage, k, exclude)
        assert found.users.tolist() == list(expected)
        assert recall[f"recall@{k}"].tolist() == pytest.approx(list(expected.values()), abs=1e-12)


@pytest.mark.parametrize("stage", ["val", "test"])
@pytest.mark.parametrize("protocol", [paper, clean])
def test_only_the_items_of_the_split_are_ranked_if_each_has_its_own(protocol, stage):
    dataset = protocol(small(), ColdItems())
    own = {item for _, item in pairs(getattr(dataset, stage))}
    scores = torch.randint(5, (dataset.num_users, dataset.num_items)).float()
    scores[:, dataset.train.items] = 9.0  # items that were trained would come first
    others = {(u, i) for u in range(60) for i in range(40) if i not in own}
    ranking = rank(lambda users: scores[users].clone(), full_candidates(dataset, stage), 5)
    assert set(ranking.items.flatten().tolist()) <= own
    expected = literal(dataset, scores, stage, 5, others)
    assert per_user(ranking, [5])["recall@5"].tolist() == pytest.approx(list(expected.values()))
    # The catalogue, of which a share is recommended, are these items.
    metrics = overall(ranking, dataset.train.item_degrees(), [5])
    shown = torch.unique(ranking.items)
    assert metrics["coverage@5"] == pytest.approx(len(shown) / len(own))
    assert 0 <= metrics["gini@5"] < 1
    deep = rank(lambda users: scores[users].clone(), full_candidates(dataset, stage), 40)
    assert deep.items.shape[1] == len(own)  # no cut-off is beyond the candidates
    assert per_user(deep, [len(own)])[f"recall@{len(own)}"].eq(1).all()


def test_nothing_excluded_is_recommended(dataset):
    found = rank(
        lambda u: torch.rand(len(u), dataset.num_items), full_candidates(dataset, "test"), 40
    )
    shown = {
        (user, item)
        for user, items in zip(found.users.tolist(), found.items.tolist(), strict=True)
        for item in items
        if item >= 0
    }
    assert not shown & (train_pairs(dataset) | pairs(dataset.val))
    assert pairs(dataset.test) <= shown  # 40 of 40 items: everything that may be found
    assert per_user(found, [40])["recall@40"].eq(1).all()


def test_a_user_with_few_items_left_finds_no_more_than_there_are():
    dataset = paper(small(), RandomSplit())
    found = rank(
        lambda u: torch.rand(len(u), dataset.num_items), full_candidates(dataset, "test"), 40
    )
    left = (found.items >= 0).sum(dim=1)
    assert left.max() < 40
    assert not bool(found.hits[found.items < 0].any())


@pytest.mark.parametrize("protocol", [paper, clean])
def test_released_ranking_does_not_exclude_validation_positives(protocol, monkeypatch):
    dataset = protocol(small(), RandomSplit())
    monkeypatch.setattr("kgrec.evaluation.candidates.RELEASED_USERS", 20)
    found = released_candidates(dataset, seed=1)
    assert len(found.users) == 20
    assert found.users.tolist() == sorted(set(found.users.tolist()))
    assert found.users.tolist() != released_candidates(dataset, seed=2).users.tolist()
    excluded = set(zip(found.exclude.users.tolist(), found.exclude.items.tolist(), strict=True))
    negatives = set(zip(*(x.tolist() for x in dataset.static_negatives), strict=True))
    assert excluded == train_pairs(dataset) | negatives


def test_coverage_popularity_and_gini(dataset):
    found = rank(
        lambda u: torch.arange(dataset.num_items, 0, -1.0).repeat(len(u), 1),
        full_candidates(dataset, "test"), 10,
    )  # fmt: skip
    figures = overall(found, dataset.train.item_degrees(), [1, 10])
    best = found.items[:, 0]
    assert figures["coverage@1"] == pytest.approx(len(set(best.tolist())) / dataset.num_items)
    degrees = dataset.train.item_degrees()[best].double()
    assert figures["popularity@1"] == pytest.approx(float(degrees.mean()))
    assert figures["gini@10"] < figures["gini@1"]


def test_diversity_and_novelty_by_hand():
    from kgrec.evaluation.catalogue import diversity, novelty

    #  item 0: {(0, 4), (1, 5)}, item 1: {(0, 4)}, item 2: {(1, 4)}, item 3: nothing
    graph = KnowledgeGraph(
        torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 0, 1]), torch.tensor([4, 5, 4, 4]), 6, 2
    ).neighborhood()
    items = torch.tensor([[0, 1, 2], [2, 3, -1], [3, -1, -1]])
    values = diversity(items, graph, [1, 2, 3])
    assert values.keys() == {2, 3}
    assert values[2] == pytest.approx((0.5 + 1) / 2)  # the third user has no pair
    assert values[3] == pytest.approx(((0.5 + 1 + 1) / 3 + 1) / 2)
    assert diversity(items[2:], graph, [2]) == {}
    assert diversity(items[:0], graph, [2]) == {}
    popularity = torch.tensor([8, 4, 1, 0])
    bits = [0, 1, 3, 3, 3, 3]  # of 8 users; item 3 counts as 1
    assert novelty(items, popularity, 8) == pytest.approx(sum(bits) / len(bits))


def test_diversity_of_blocks_and_of_drawn_users(dataset, monkeypatch):
    from kgrec.evaluation import catalogue

    generator = torch.Generator().manual_seed(0)
    items = torch.stack([torch.randperm(40, generator=generator)[:10] for _ in range(50)])
    graph = dataset.neighborhood
    whole = catalogue.diversity(items, graph, [2, 10])
    monkeypatch.setattr(catalogue, "BLOCK", 30)
    blocks = catalogue.diversity(items, graph, [2, 10])
    assert blocks == pytest.approx(whole)
    monkeypatch.setattr(catalogue, "MOST_USERS", 40)
    drawn = catalogue.diversity(items, graph, [2, 10])
    assert drawn == catalogue.diversity(items, graph, [2, 10])
    assert drawn != whole
    assert drawn[10] == pytest.approx(whole[10], abs=0.1)


def test_the_ranking_has_diversity_and_novelty(dataset):
    found = rank(
        lambda u: torch.arange(dataset.num_items, 0, -1.0).repeat(len(u), 1),
        full_candidates(dataset, "test"), 10,
    )  # fmt: skip
    degrees = dataset.train.item_degrees()
    metrics = overall(found, degrees, [1, 10], dataset.num_users, dataset.neighborhood)
    assert 0 < metrics["diversity@10"] < 1
    assert "diversity@1" not in metrics
    assert metrics["novelty@1"] > 0
    plain = overall(found, degrees, [1, 10])
    assert plain.items() <= metrics.items()
