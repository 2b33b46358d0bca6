"""Ranking layer by layer equals scoring pair by pair."""

import pytest
import torch
from conftest import small
from kgcn_cases import AGGREGATORS, GRAPH, ITEMS, USERS, D, make
from torch import Tensor

from kgrec.data.protocols import paper
from kgrec.data.splits import RandomSplit
from kgrec.models.kgcn import KGCN, all_items, ranking
from kgrec.models.kgcn.aggregators import Aggregator, Neighbor, Sum
from kgrec.models.recommender import Recommender


def pairwise(model: KGCN, users: Tensor) -> Tensor:
    return Recommender.score_all(model, users)


@pytest.mark.parametrize("scaling", ["paper", "released"])
@pytest.mark.parametrize("K", [1, 4, "all"])
@pytest.mark.parametrize("H", [1, 2, 3])
@pytest.mark.parametrize("aggregator", AGGREGATORS)
@pytest.mark.parametrize("edge_cost", [0, 10**9])  # the first layer edge by edge; as a product
def test_it_equals_scoring_pairs(aggregator, H, K, scaling, edge_cost, monkeypatch):
    monkeypatch.setattr(all_items, "EDGE_COST", edge_cost)
    model = make(aggregator, H, K, scaling)
    users = torch.tensor([2, 0, 1, 0])
    with torch.no_grad():
        expected = pairwise(model, users)
        torch.testing.assert_close(model.score_all(users), expected, rtol=1e-9, atol=1e-12)
        single = model.float().score_all(users)
    torch.testing.assert_close(single, expected.float(), rtol=1e-4, atol=1e-5)


class Twice(Sum):
    """A subclass of Sum with another forward, of which W is no linear part."""

    def forward(self, own: Tensor, pooled: Tensor) -> Tensor:
        return self.activation(2 * self.linear(own * pooled))


class Bent(Aggregator):
    """An aggregator with another activation and another join."""

    def __init__(self, d, activation):
        super().__init__(d, torch.nn.functional.softplus)

    def forward(self, own: Tensor, pooled: Tensor) -> Tensor:
        return self.activation(self.linear(own - pooled))


class WithoutBias(Sum):
    """A subclass of Sum whose linear layer has no bias."""

    def __init__(self, d, activation):
        super().__init__(d, activation)
        self.linear = torch.nn.Linear(d, d, bias=False)


class Perceptron(Sum):
    """A subclass of Sum whose ``linear`` is not linear."""

    def __init__(self, d, activation):
        super().__init__(d, activation)
        layers = torch.nn.Linear(d, d), torch.nn.ReLU(), torch.nn.Linear(d, d)
        self.linear = torch.nn.Sequential(*layers)


class OtherActivation(Sum):
    """A subclass of Sum whose activation depends on the whole vector."""

    def __init__(self, d, activation):
        super().__init__(d, lambda x: x.softmax(dim=-1))


class SoftmaxOfColumns(Sum):
    """A subclass of Sum that names the dimension of (n, d) by its number."""

    def forward(self, own: Tensor, pooled: Tensor) -> Tensor:
        return self.activation(self.linear((own + pooled).softmax(dim=1)))


class ShareOfRow(Aggregator):
    """An aggregator that sums over dimension 1 and concatenates along it."""

    def __init__(self, d, activation):
        super().__init__(d, activation, inputs=2 * d)

    def forward(self, own: Tensor, pooled: Tensor) -> Tensor:
        shares = pooled / pooled.square().sum(1, keepdim=True).add(1)
        return self.activation(self.linear(torch.cat([own, shares], dim=1)))


class Normalized(Sum):
    """A subclass of Sum with batch normalisation, which takes two dimensions."""

    def __init__(self, d, activation):
        super().__init__(d, activation)
        self.norm = torch.nn.BatchNorm1d(d)

    def forward(self, own: Tensor, pooled: Tensor) -> Tensor:
        return self.activation(self.norm(self.linear(own * pooled)))


class OnlyMatrices(Neighbor):
    """A subclass of Neighbor that refuses anything but (n, d)."""

    def forward(self, own: Tensor, pooled: Tensor) -> Tensor:
        assert own.ndim == pooled.ndim == 2
        assert own.shape == pooled.shape
        return super().forward(own, pooled)


OWN = [
    Twice, Bent, WithoutBias, Perceptron, OtherActivation, SoftmaxOfColumns, ShareOfRow, Normalized,
    OnlyMatrices,
]  # fmt: skip


@pytest.mark.parametrize("H", [1, 2, 3])
@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("edge_cost", [0, 10**9])
def test_aggregators_of_the_users_own(own, H, edge_cost, monkeypatch):
    monkeypatch.setattr(all_items, "EDGE_COST", edge_cost)
    model = make(f"{__name__}.{own.__name__}", H, "all", "paper").eval()
    users = torch.arange(USERS)
    with torch.no_grad():
        torch.testing.assert_close(model.score_all(users), pairwise(model, users))


def double(module, inputs, output):
    return 2 * output


def halve_inputs(module, inputs):
    return tuple(x / 2 for x in inputs)


def with_weight_norm(aggregator):
    torch.nn.utils.parametrizations.weight_norm(aggregator.linear)
    aggregator.linear.parametrizations.weight.original0.mul_(2)  # the norms


CHANGES = {
    "forward hook of linear": lambda a: a.linear.register_forward_hook(double),
    "forward pre-hook of linear": lambda a: a.linear.register_forward_pre_hook(halve_inputs),
    "forward hook": lambda a: a.register_forward_hook(double),
    "weight norm": with_weight_norm,
    "spectral norm": lambda a: torch.nn.utils.parametrizations.spectral_norm(a.linear),
    "forward of the instance": lambda a: setattr(a, "forward", lambda own, pooled: own * pooled),
}


@pytest.mark.parametrize("H", [1, 2])
@pytest.mark.parametrize("aggregator", AGGREGATORS)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("edge_cost", [0, 10**9])
def test_a_changed_aggregator_ranks_as_it_scores(H, aggregator, change, edge_cost, monkeypatch):
    monkeypatch.setattr(all_items, "EDGE_COST", edge_cost)
    model, users = make(aggregator, H, "all", "paper").eval(), torch.arange(USERS)
    with torch.no_grad():
        before = model.score_all(users)
        for layer in model.layers:
            CHANGES[change](layer)
        model.eval()
        after = model.score_all(users)
        assert not torch.allclose(after, before)
        torch.testing.assert_close(after, pairwise(model, users))


@pytest.mark.parametrize("H", [1, 2])
def test_users_whose_relation_scores_lie_far_apart_are_exact(H):
    model = make("sum", H, "all", "paper").float()
    with torch.no_grad():
        model.user_embedding.weight[1] *= 300  # exp(u·r) of some relations underflows
        spread = model.user_relation_scores(model.user_embedding.weight)
        assert (spread.amax(1) - spread.amin(1) > all_items.WIDEST_SPREAD).tolist()[1]
        found = model.score_all(torch.arange(USERS))
        torch.testing.assert_close(found, pairwise(model, torch.arange(USERS)))
    assert torch.isfinite(found).all()


def test_pairs_of_such_users_are_scored_in_blocks_that_fit_in_memory(monkeypatch):
    model = make("sum", 2, "all", "paper").float()
    needed = float(model.bytes_per_row(torch.arange(model.num_items)).sum())
    monkeypatch.setattr(ranking, "FEW_BYTES", needed / 3)
    sizes, score = [], type(model).score

    def noting(self, users, items, encoded=None):
        sizes.append(len(items))
        return score(self, users, items, encoded)

    with torch.no_grad():
        model.user_embedding.weight[1] *= 300
        expected = pairwise(model, torch.arange(USERS))
        monkeypatch.setattr(type(model), "score", noting)
        torch.testing.assert_close(model.score_all(torch.arange(USERS)), expected)
    assert len(sizes) >= 3
    assert sum(sizes) == model.num_items


@pytest.mark.parametrize("H", [1, 2, 3])
@pytest.mark.parametrize("kept", [0, 2**30])
@pytest.mark.parametrize("edge_cost", [0, 10**9])
def test_blocks_of_any_size_give_the_same(H, kept, edge_cost, monkeypatch):
    dataset = paper(small(), RandomSplit())
    torch.manual_seed(0)
    model = KGCN.from_dataset(dataset, K=3, H=H, d=8)
    users = torch.arange(dataset.num_users)
    whole = pairwise(model, users)
    monkeypatch.setattr(all_items, "EDGE_COST", edge_cost)
    monkeypatch.setattr(all_items, "LARGEST_PRODUCT", kept)
    monkeypatch.setattr(all_items, "USERS", {"cpu": 7})
    monkeypatch.setattr(all_items, "BLOCK_FLOATS", {"cpu": 7 * 8 * 5})
    monkeypatch.setattr(all_items, "LAYER_BYTES", {"cpu": 2**14})
    torch.testing.assert_close(model.score_all(users), whole)


def test_each_entity_is_computed_once_a_layer():
    model = make("sum", 2, "all", "paper")
    first, last = model.encode().all_items.layers
    assert last.entities.tolist() == list(range(ITEMS))
    assert first.entities.tolist() == [0, 1, 2, 3, 4, 5]  # 6 is two hops from nowhere
    assert first.m == int(GRAPH.neighborhood().degrees[first.entities].sum())
    assert model.encode().all_items.first.own.shape == (6, D)


def test_tensors_for_ranking_are_computed_when_first_read():
    encoded = make("sum", 1, "all", "paper").encode()
    assert "all_items" not in vars(encoded)
    assert encoded.all_items is encoded.all_items
