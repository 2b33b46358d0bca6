import math

import pytest
import torch
from conftest import small
from kgcn_cases import (
    AGGREGATORS,
    ENTITIES,
    PAIRS,
    D,
    literal,
    make,
)

from kgrec.data.batches import PointwiseBatch
from kgrec.data.draws import generator
from kgrec.data.protocols import paper
from kgrec.data.splits import RandomSplit
from kgrec.errors import ConfigError
from kgrec.models.kgcn.model import KGCN


@pytest.mark.parametrize("scaling", ["paper", "released"])
@pytest.mark.parametrize("K", [1, 4, "all"])
@pytest.mark.parametrize("H", [1, 2, 3])
@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_forward_and_gradients_equal_the_literal_algorithm(aggregator, H, K, scaling, monkeypatch):
    monkeypatch.setattr("kgrec.models.lookup.SMALL_TABLE", 0)  # the way of larger tables
    if H == 3 and K == 4:
        users, items = [0, 1], [0, 3]  # the literal tree has 85 nodes a pair
    else:
        users, items = PAIRS
    ours, theirs = make(aggregator, H, K, scaling), make(aggregator, H, K, scaling)
    weights = torch.linspace(0.5, 1.5, len(users), dtype=torch.float64)
    found = ours.score(torch.tensor(users), torch.tensor(items))
    expected = literal(theirs, users, items)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if b.grad is None:  # avg never looks at relations
            assert (aggregator, name) == ("avg", "relation_embedding")
            assert a.grad is None
        else:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("scaling", ["paper", "released"])
@pytest.mark.parametrize("K", [4, "all"])
@pytest.mark.parametrize("aggregator", ["sum", "concat", "neighbor"])
def test_scores_of_a_hundred_neither_overflow_nor_vanish(aggregator, K, scaling):
    model = make(aggregator, 2, K, scaling, spread=100.0)
    logits = (model.user_embedding.weight @ model.relation_embedding.T).detach()
    assert float(logits.max()) == pytest.approx(100)
    assert float(logits.min()) == pytest.approx(-100)
    expected = literal(model, *PAIRS)
    torch.testing.assert_close(
        model.score(*map(torch.tensor, PAIRS)), expected, rtol=1e-9, atol=1e-12
    )
    single = model.float().score(*map(torch.tensor, PAIRS))
    torch.testing.assert_close(single, expected.float(), rtol=1e-4, atol=1e-4)
    single.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_an_entity_without_neighbours_gets_the_zero_vector():
    model = make("neighbor", 1, "all", "paper")
    (layer,) = model.aggregators
    u = model.user_embedding.weight[:1]
    alone = model.represent(u, torch.tensor([3]))
    torch.testing.assert_close(alone[0], torch.tanh(layer.linear.bias))


def test_released_scaling_by_hand():
    model = make("neighbor", 1, "all", "released")
    with torch.no_grad():
        model.aggregators[0].linear.weight.copy_(torch.eye(D))
        model.aggregators[0].linear.bias.zero_()
    u = model.user_embedding.weight[0]
    around = [(0, 4), (1, 5), (2, 1)]  # S(0)
    pi = torch.stack([(u * model.relation_embedding[r]).mean() for r, _ in around]).softmax(0)
    e = torch.stack([model.entity_embedding.weight[n] for _, n in around])
    expected = torch.tanh((pi[:, None] * e).mean(dim=0))
    torch.testing.assert_close(model.represent(u[None], torch.tensor([0]))[0], expected)


def test_a_score_does_not_depend_on_the_rest_of_the_batch():
    model = make("sum", 2, "all", "paper")
    users, items = map(torch.tensor, PAIRS)
    together = model.score(users, items)
    apart = [model.score(users[i : i + 1], items[i : i + 1]) for i in range(len(users))]
    torch.testing.assert_close(together, torch.cat(apart))


def test_loss_is_the_mean_cross_entropy():
    model = make("sum", 1, "all", "paper")
    users, items = torch.tensor([0, 1]), torch.tensor([0, 2])
    found = model.loss(PointwiseBatch(users, items, torch.tensor([1.0, 0.0]).double()))
    p = model.score(users, items).sigmoid().tolist()
    assert float(found.detach()) == pytest.approx(-(math.log(p[0]) + math.log(1 - p[1])) / 2)


def test_tables_are_xavier_uniform_over_the_whole_matrix():
    dataset = paper(small(), RandomSplit())
    model = KGCN.from_dataset(dataset, d=16, H=2, aggregator="concat")
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            assert (parameter == 0).all(), name
        else:
            bound = math.sqrt(6 / sum(parameter.shape))
            assert 0.9 * bound < parameter.abs().max() <= bound, name


def test_sampled_neighbours_come_from_the_graph_and_are_drawn_once():
    dataset = paper(small(), RandomSplit())
    torch.manual_seed(3)
    model = KGCN.from_dataset(dataset, K=2)
    assert torch.equal(model.indptr.diff().unique(), torch.tensor([2]))
    before = model.neighbors.clone()
    model.resample(generator(0, "neighbors", 1))
    assert torch.equal(model.neighbors, before)
    torch.manual_seed(3)
    torch.rand(5)  # other draws change nothing
    assert torch.equal(KGCN.from_dataset(dataset, K=2).neighbors, before)


def test_neighbours_are_resampled_in_every_epoch():
    dataset = paper(small(), RandomSplit())
    model = KGCN.from_dataset(dataset, K=2, neighbors="resampled")
    draws = []
    for epoch in (1, 2, 1):
        model.resample(generator(0, "neighbors", epoch))
        draws.append(model.neighbors.clone())
    assert not torch.equal(draws[0], draws[1])
    assert torch.equal(draws[0], draws[2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"K": 0}, r"K: found 0, expected an integer >= 1, or all"),
        ({"K": "some"}, r"K: found 'some', expected an integer >= 1, or all"),
        ({"H": 0}, r"H: found 0, expected an integer >= 1"),
        ({"d": -1}, r"d: found -1, expected an integer >= 1"),
        ({"scaling": "none"}, r"scaling: found 'none', expected paper or released"),
        ({"neighbors": "x"}, r"neighbors: found 'x', expected static or resampled"),
        ({"aggregator": "mean"}, r"aggregator: found 'mean', expected one of sum, concat"),
    ],
)
def test_settings_that_cannot_work(settings, message):
    with pytest.raises(ConfigError, match=message):
        KGCN.from_dataset(paper(small(), RandomSplit()), **settings)


def test_bytes_per_row_counts_the_receptive_field():
    model = make("sum", 2, "all", "paper")
    # Item 0 has neighbours 4, 5, 1 of 2, 2 and 1 relations; item 3
    # has none.
    nodes, reads = [1, 3], 5
    expected = 100 * (sum(nodes) + reads) + 24 * D * (2 * nodes[0] + nodes[1])
    found = model.bytes_per_row(torch.tensor([0, 3]))
    assert found.tolist() == [expected, 100 + 24 * D * 2]


def test_bytes_per_row_counts_an_entity_once_a_level():
    model = make("sum", 6, 4, "paper")  # walks of 4^5 on 7 entities
    per_level = [24 * D * (6 - h) + 100 for h in range(6)]
    most = sum(ENTITIES * level for level in per_level) + 100 * ENTITIES * 4
    assert float(model.bytes_per_row(torch.tensor([0]))) <= most
