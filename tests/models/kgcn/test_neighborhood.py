"""The two views of S(v) are interchangeable."""

import pytest
import torch
from kgcn_cases import AGGREGATORS, GRAPH, PAIRS, make

from kgrec.data.draws import generator
from kgrec.models.kgcn import neighborhood
from kgrec.models.kgcn.neighborhood import Grouped, Sampled, view


@pytest.mark.parametrize("scaling", ["paper", "released"])
@pytest.mark.parametrize("H", [1, 2, 3])
@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_both_views_give_the_same_scores_and_gradients(aggregator, H, scaling, monkeypatch):
    found = []
    for threshold, kind in ((99, Sampled), (1, Grouped)):
        monkeypatch.setattr(neighborhood, "GROUP_FROM_K", threshold)
        model = make(aggregator, H, 4, scaling)
        assert isinstance(model._view, kind)
        scores = model.score(*map(torch.tensor, PAIRS))
        (scores * torch.arange(1.0, 6.0)).sum().backward()
        found.append([scores, *(p.grad for p in model.parameters() if p.grad is not None)])
    for sampled, grouped in zip(*found, strict=True):
        torch.testing.assert_close(sampled, grouped, rtol=1e-9, atol=1e-12)


def test_the_view_follows_the_neighbourhood():
    whole = GRAPH.neighborhood()
    assert isinstance(view(whole), Grouped)
    assert isinstance(view(whole.sample(4, generator(0, "test"))), Sampled)
    many = neighborhood.GROUP_FROM_K
    assert isinstance(view(whole.sample(many, generator(0, "test"))), Grouped)


def test_new_neighbours_are_seen():
    model = make("sum", 1, 4, "paper")
    users, items = map(torch.tensor, PAIRS)
    before = model.score(users, items)
    again = GRAPH.neighborhood().sample(4, generator(9, "test"))
    model.neighbors.copy_(again.neighbors)
    model.relations.copy_(again.relations)
    assert not torch.allclose(model.score(users, items), before)
    with torch.inference_mode():  # where tensors have no version
        torch.testing.assert_close(model.score(users, items), model.score(users, items))


def test_an_entity_reached_on_two_paths_is_one_node():
    model = make("sum", 2, "all", "paper")
    attention = neighborhood.Attention(None, False, torch.float64)
    field = neighborhood.receptive_field(model._view, attention, torch.tensor([0, 0]), 2, 7)
    # Item 0 has the neighbours 4, 5, 1, in each of its two rows apart.
    assert [sorted(nodes.tolist()) for nodes in field.nodes] == [[0, 0], [1, 1, 4, 4, 5, 5]]
