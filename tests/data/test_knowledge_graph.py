import torch

from kgrec.data.draws import generator
from kgrec.data.knowledge_graph import KnowledgeGraph, Neighborhood


def graph(*triples: tuple[int, int, int], entities: int = 6, relations: int = 3) -> KnowledgeGraph:
    heads, rels, tails = (torch.tensor(column) for column in zip(*triples, strict=True))
    return KnowledgeGraph(heads, rels, tails, entities, relations)


def around(table: Neighborhood, entity: int) -> list[tuple[int, int]]:
    part = slice(int(table.indptr[entity]), int(table.indptr[entity + 1]))
    relations, neighbors = table.relations[part].tolist(), table.neighbors[part].tolist()
    return sorted(zip(relations, neighbors, strict=True))


def test_an_edge_is_seen_from_both_ends():
    table = graph((0, 1, 2), (3, 0, 0)).neighborhood()
    assert around(table, 0) == [(0, 3), (1, 2)]
    assert around(table, 2) == [(1, 0)]
    assert around(table, 3) == [(0, 0)]
    assert around(table, 5) == []


def test_an_entity_with_an_edge_is_connected():
    whole = graph((0, 1, 2), (3, 0, 0), (5, 1, 5))
    assert torch.equal(whole.connected(), whole.neighborhood().degrees > 0)
    assert whole.connected().tolist() == [True, False, True, True, False, True]


def test_s_of_v_is_a_set():
    # A self-loop, and the same relation in both directions, are one neighbour; another relation
    # to the same neighbour is another member.
    table = graph((0, 1, 0), (2, 0, 3), (3, 0, 2), (2, 1, 3)).neighborhood()
    assert around(table, 0) == [(1, 0)]
    assert around(table, 2) == [(0, 3), (1, 3)]


def test_samples_are_distinct_where_there_are_enough():
    star = graph(*((0, i % 3, i) for i in range(1, 6))).neighborhood()
    for K in (1, 3, 5):
        drawn = star.sample(K, generator(0, "test"))
        assert len(set(around(drawn, 0))) == K
        assert set(around(drawn, 0)) <= set(around(star, 0))
        assert all(len(around(drawn, i)) == K for i in range(6))  # leaves repeat their only one


def test_samples_repeat_where_there_are_too_few_and_none_where_there_are_none():
    table = graph((0, 0, 1), (0, 1, 2)).neighborhood()
    drawn = table.sample(5, generator(0, "test"))
    assert len(around(drawn, 0)) == 5
    assert set(around(drawn, 0)) <= {(0, 1), (1, 2)}
    assert around(drawn, 4) == []


def test_samples_are_uniform():
    star = graph(*((0, 0, i) for i in range(1, 6))).neighborhood()
    for K, trials in ((2, 3000), (8, 1000)):  # without and with replacement
        seen = torch.zeros(6)
        for epoch in range(trials):
            drawn = star.sample(K, generator(0, "test", epoch))
            seen += torch.bincount(drawn.neighbors[drawn.indptr[0] : drawn.indptr[1]], minlength=6)
        share = seen[1:] / (K * trials)
        assert (share - 0.2).abs().max() < 4 * (0.2 * 0.8 / (K * trials)) ** 0.5
