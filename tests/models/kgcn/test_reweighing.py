"""Weights of relations: the literal equation, and what they must not change."""

import math

import pytest
import torch
from conftest import small
from kgcn_cases import AGGREGATORS, GRAPH, ITEMS, RELATIONS, USERS, D, make

from kgrec.data.draws import generator
from kgrec.data.interactions import Interactions
from kgrec.data.protocols import clean
from kgrec.data.splits import RandomSplit
from kgrec.errors import SettingError
from kgrec.models.kgcn import KGCN, all_items
from kgrec.models.kgnn_ls import KGNNLS

WITH_ATTENTION = [name for name in AGGREGATORS if name != "avg"]
W = torch.tensor([3.0, 0.25, 1.0], dtype=torch.float64)
NOBODY = torch.empty(0, dtype=torch.int64)


def make_kgnn_ls(aggregator, H, K, scaling):
    torch.manual_seed(0)
    around = GRAPH.neighborhood()
    if isinstance(K, int):
        around = around.sample(K, generator(0, "test"))
    settings = {"d": D, "H": H, "aggregator": aggregator, "scaling": scaling}
    model = KGNNLS(USERS, ITEMS, RELATIONS, *around, **settings).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.2, 0.7)
    return model


MAKE = {"kgcn": make, "kgnn_ls": make_kgnn_ls}


def literal(model, user, item, weights, removed=()):
    """ŷ by recursion over the tree of layers, without the path ``removed``.

    The weight of a neighbour is w(r) exp(π) / Σ w(r) exp(π), one number at a time.
    """
    u = model.user_embedding.weight[user]

    def edges(entity):
        start, stop = model.indptr[entity : entity + 2].tolist()
        around = list(
            zip(model.relations[start:stop].tolist(), model.neighbors[start:stop].tolist(),
                strict=True)
        )  # fmt: skip
        divisor = model.d if model.scaling == "released" else 1
        powers = [
            float(weights[r]) * math.exp(float(u @ model.relation_embedding[r]) / divisor)
            for r, _ in around
        ]
        total = sum(powers) * (len(around) if model.scaling == "released" else 1)
        return [(r, n, power / total) for (r, n), power in zip(around, powers, strict=True)]

    def vector(layer, path):
        entity = path[-1][1] if path else item
        if layer == 0:
            return model.entity_embedding.weight[entity]
        pooled = torch.zeros(model.d, dtype=torch.float64)
        for relation, neighbor, weight in edges(entity):
            longer = (*path, (relation, neighbor))
            if longer != removed:
                pooled = pooled + weight * vector(layer - 1, longer)
        return model.layers[layer - 1](vector(layer - 1, path)[None], pooled[None])[0]

    with torch.no_grad():
        return float(u @ vector(model.H, ()))


@pytest.mark.parametrize("scaling", ["paper", "released"])
@pytest.mark.parametrize("aggregator", WITH_ATTENTION)
@pytest.mark.parametrize(("H", "K"), [(1, 8), (1, "all"), (2, 8), (2, "all")])
@pytest.mark.parametrize("name", MAKE)
def test_scores_equal_the_literal_attention(name, H, K, aggregator, scaling, monkeypatch):
    trained = MAKE[name](aggregator, H, K, scaling)
    model = trained.reweighed(W)
    users, items = torch.arange(USERS), torch.arange(ITEMS)
    expected = torch.tensor(
        [[literal(trained, u, i, W) for i in range(ITEMS)] for u in range(USERS)],
        dtype=torch.float64,
    )
    tolerance = {"rtol": 1e-9, "atol": 1e-12}
    pairs = model.score(users.repeat_interleave(ITEMS), items.repeat(USERS))
    torch.testing.assert_close(pairs.view(USERS, ITEMS), expected, **tolerance)
    torch.testing.assert_close(model.score_all(users), expected, **tolerance)
    for cost in (0, 10**9):  # the first layer edge by edge; as a product
        monkeypatch.setattr(all_items, "EDGE_COST", cost)
        for encoded in (model.encode(), trained.encode()):
            torch.testing.assert_close(model.score_all(users, encoded), expected, **tolerance)
    assert not torch.allclose(trained.score_all(users), expected, **tolerance)


@pytest.mark.parametrize("scaling", ["paper", "released"])
@pytest.mark.parametrize("aggregator", WITH_ATTENTION)
@pytest.mark.parametrize(("H", "K"), [(1, 8), (1, "all"), (2, 2), (2, "all")])
@pytest.mark.parametrize("name", MAKE)
def test_shares_equal_the_tree_without_each_path(name, H, K, aggregator, scaling):
    trained = MAKE[name](aggregator, H, K, scaling)
    user, item = 1, 0
    reasons = trained.reweighed(W).explain(user, item, NOBODY)
    score = literal(trained, user, item, W)
    assert reasons.score == pytest.approx(score, abs=1e-9)
    assert {len(term.steps) for term in reasons.terms} == set(range(1, H + 1))
    start, stop = trained.indptr[:2].tolist()
    edges = list(zip(trained.relations[start:stop].tolist(), trained.neighbors[start:stop].tolist(),
                     strict=True))  # fmt: skip
    for term in reasons.terms:
        if len(set(edges)) == len(edges):  # a removed path is one node of the literal tree
            without = literal(trained, user, item, W, tuple(map(tuple, term.steps)))
            assert term.share == pytest.approx(score - without, abs=1e-9)
    plain = trained.explain(user, item, NOBODY)
    before = {term.steps: term.weight for term in plain.terms if len(term.steps) == 1}
    after = {term.steps: term.weight for term in reasons.terms if len(term.steps) == 1}
    products = {steps: float(W[steps[0].relation]) * before[steps] for steps in after}
    share = sum(after.values()) / sum(products.values())
    for steps, product in products.items():
        assert after[steps] == pytest.approx(product * share, rel=1e-9)
    torch.testing.assert_close(reasons.relation_scores, plain.relation_scores + W.log())


@pytest.mark.parametrize("aggregator", WITH_ATTENTION)
@pytest.mark.parametrize(("H", "K"), [(1, 8), (1, "all"), (2, 8), (2, "all")])
@pytest.mark.parametrize("name", MAKE)
def test_a_multiplier_of_one_changes_no_bit(name, H, K, aggregator):
    trained = MAKE[name](aggregator, H, K, "paper").float()
    model = trained.reweighed(torch.ones(RELATIONS))
    users, items = torch.tensor([0, 1, 2, 0]), torch.tensor([0, 1, 2, 3])
    assert torch.equal(model.score(users, items), trained.score(users, items))
    assert torch.equal(model.score_all(users), trained.score_all(users))
    encoded = trained.encode()
    assert torch.equal(model.score_all(users, encoded), trained.score_all(users, encoded))
    ours, theirs = (m.explain(1, 0, NOBODY) for m in (model, trained))
    assert ours.terms == theirs.terms
    assert torch.equal(ours.relation_scores, theirs.relation_scores)


def test_only_ratios_of_multipliers_matter_and_they_multiply():
    trained, users = make("sum", 2, "all", "paper"), torch.arange(USERS)
    once = trained.reweighed(W).score_all(users)
    torch.testing.assert_close(trained.reweighed(7 * W).score_all(users), once)
    twice = trained.reweighed(W).reweighed(W)
    torch.testing.assert_close(twice.score_all(users), trained.reweighed(W * W).score_all(users))


@pytest.mark.parametrize(("H", "K"), [(1, 8), (1, "all"), (2, "all")])
def test_multipliers_of_any_size_are_exact(H, K):
    trained, users = make("sum", H, K, "paper"), torch.arange(USERS)
    extreme = torch.tensor([1e30, 1e-30, 1.0], dtype=torch.float64)
    expected = torch.tensor(
        [[literal(trained, u, i, extreme) for i in range(ITEMS)] for u in range(USERS)],
        dtype=torch.float64,
    )
    model = trained.reweighed(extreme)
    torch.testing.assert_close(model.score_all(users, model.encode()), expected)
    assert torch.isfinite(trained.float().reweighed(extreme).score_all(users)).all()


def test_the_trained_model_stays_as_it_is_and_shares_its_tensors():
    trained = make("sum", 1, "all", "paper")
    scores, state = trained.score_all(torch.arange(USERS)), trained.state_dict()
    model = trained.reweighed(W)
    assert model.state_dict().keys() == state.keys()
    for name, tensor in model.state_dict().items():
        assert tensor.data_ptr() == state[name].data_ptr()
    assert trained.log_weights is None
    assert torch.equal(trained.score_all(torch.arange(USERS)), scores)
    assert not model.trainable


@pytest.mark.parametrize("kind", [KGCN, KGNNLS])
def test_new_users_are_folded_in_with_the_attention_of_the_training(kind):
    dataset = clean(small(), RandomSplit())
    torch.manual_seed(0)
    trained = kind.from_dataset(dataset, d=4, K="all").eval()
    history = Interactions.from_pairs(
        torch.tensor([0, 0, 1]), torch.tensor([3, 5, 2]), 2, dataset.num_items
    )
    weights = torch.linspace(0.2, 5, dataset.num_relations)
    first, then = (
        trained.fold_in(history).reweighed(weights),
        trained.reweighed(weights).fold_in(history),
    )
    assert torch.equal(first.user_embedding.weight, then.user_embedding.weight)
    users = torch.arange(2)
    assert torch.equal(first.score_all(users), then.score_all(users))
    assert not torch.equal(then.score_all(users), trained.fold_in(history).score_all(users))


@pytest.mark.parametrize(
    "weights",
    [[1.0, 2.0], [1.0, 0.0, 1.0], [1.0, -2.0, 1.0], [1.0, math.nan, 1.0], [1.0, math.inf, 1.0]],
)
def test_weights_that_cannot_be(weights):
    with pytest.raises(SettingError, match="expected 3 finite numbers above 0"):
        make("sum", 1, "all", "paper").reweighed(torch.tensor(weights))


def test_an_aggregator_without_attention_refuses():
    model = make("avg", 1, "all", "paper")
    assert not model.weighs_relations
    with pytest.raises(SettingError, match=r"found Avg, .* expected an aggregator with attention"):
        model.reweighed(W)
