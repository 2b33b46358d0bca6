"""LightCKG against a literal re-implementation of its equations, node by node."""

import math

import pytest
import torch

from kgrec.data.batches import PointwiseBatch
from kgrec.data.interactions import Interactions
from kgrec.errors import SettingError
from kgrec.models.lightckg import LightCKG

USERS, ITEMS, ENTITIES, RELATIONS = 4, 4, 7, 2
POSITIVES = [(0, 0), (0, 2), (1, 2), (2, 0), (2, 1), (2, 2)]  # user 3 and item 3 have none
TRIPLES = [(0, 0, 4), (2, 0, 4), (2, 1, 4), (3, 1, 5), (5, 0, 0)]  # entity 6 has none


def double(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def model(H: int = 2, **settings) -> LightCKG:
    torch.manual_seed(0)
    columns = [
        [u for u, _ in POSITIVES] + [USERS + h for h, _, _ in TRIPLES],
        [RELATIONS] * len(POSITIVES) + [r for _, r, _ in TRIPLES],
        [USERS + i for _, i in POSITIVES] + [USERS + t for _, _, t in TRIPLES],
    ]
    made = LightCKG(
        USERS, ITEMS, ENTITIES, RELATIONS, *map(torch.tensor, columns), d=3, H=H, **settings
    ).double()
    if made.item_bias is not None:
        with torch.no_grad():
            made.item_bias.copy_(double([0.1, -0.2, 0.3, 0.4]))
            made.popularity_weight.fill_(0.7)
    return made


def literal(made: LightCKG, multipliers=(1.0, 1.0)) -> list[list[list[float]]]:
    """E⁽⁰⁾ … E⁽ᴴ⁾ of every node."""
    w, s = made.kg_weight, made.own_weight
    edges = [(u, USERS + i, 1.0, 1.0) for u, i in POSITIVES]
    edges += [(USERS + h, USERS + t, w, multipliers[r]) for h, r, t in TRIPLES if w]
    sums = [s] * (USERS + ENTITIES)
    for a, b, weight, _ in edges:
        sums[a] += weight
        sums[b] += weight
    layers = [made.embedding.tolist()]
    for _ in range(made.H):
        last, new = layers[-1], [[0.0] * 3 for _ in sums]
        for node, total in enumerate(sums):
            if total:
                for k in range(3):
                    new[node][k] += s / total * last[node][k]
        for a, b, weight, factor in edges:
            entry = factor * weight / math.sqrt(sums[a] * sums[b])
            for k in range(3):
                new[a][k] += entry * last[b][k]
                new[b][k] += entry * last[a][k]
        layers.append(new)
    return layers


def means(layers) -> torch.Tensor:
    return torch.tensor(layers, dtype=torch.float64).mean(dim=0)


def biases(made: LightCKG) -> list[float]:
    """γ p_v + c_v."""
    counts = [sum(i == v for _, i in POSITIVES) for v in range(ITEMS)]
    seen = [math.log(n) for n in counts if n]
    p = [math.log(n) - sum(seen) / len(seen) if n else 0.0 for n in counts]
    return [0.7 * a + b for a, b in zip(p, [0.1, -0.2, 0.3, 0.4], strict=True)]


SETTINGS = [
    {},
    {"H": 3, "own_weight": 1.5},
    {"H": 1, "kg_weight": 0.0},
    {"H": 2, "kg_weight": 2.0, "own_weight": 0.5},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_scores_are_those_of_a_loop(settings):
    made = model(**settings)
    e, b = means(literal(made)), biases(made)
    users, items = torch.tensor([0, 3, 2, 1]), torch.tensor([3, 2, 0, 1])
    expected = (e[users] * e[USERS + items]).sum(dim=1) + double(b)[items]
    torch.testing.assert_close(made.score(users, items).detach(), expected, rtol=1e-9, atol=1e-14)
    labels = double([1.0, 0.0, 0.0, 1.0])
    loss = -(labels * torch.sigmoid(expected).log() + (1 - labels) * torch.sigmoid(-expected).log())
    given = made.loss(PointwiseBatch(users, items, labels)).detach()
    torch.testing.assert_close(given, loss.mean(), rtol=1e-9, atol=0)


def test_without_an_item_bias_the_score_is_the_inner_product():
    made = model(item_bias=False)
    e = means(literal(made))
    users, items = torch.tensor([0, 3]), torch.tensor([3, 2])
    expected = (e[users] * e[USERS + items]).sum(dim=1)
    torch.testing.assert_close(made.score(users, items).detach(), expected, rtol=1e-9, atol=1e-14)


def test_gradients_are_those_of_finite_differences():
    made = model(H=3, own_weight=1.0)
    users, items = torch.tensor([0, 2]), torch.tensor([2, 3])
    parameters = list(made.parameters())
    made.score(users, items).sum().backward()
    for parameter in parameters:
        at = tuple(n // 2 for n in parameter.shape)
        values = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                parameter[at] += step
                values.append(float(made.score(users, items).sum()))
                parameter[at] -= step
        difference = (values[0] - values[1]) / 2e-6
        assert float(parameter.grad[at]) == pytest.approx(difference, abs=1e-7)


def test_weights_of_relations_multiply_edges():
    made = model(own_weight=1.0)
    twin = made.reweighed(torch.tensor([1.0, 1.0]))
    users, items = torch.tensor([0, 1]), torch.tensor([3, 1])
    torch.testing.assert_close(twin.score(users, items), made.score(users, items).detach())
    twin = made.reweighed(torch.tensor([2.0, 0.5]))
    e = means(literal(made, multipliers=(2.0, 0.5)))
    expected = (e[users] * e[USERS + items]).sum(dim=1)
    expected += double(biases(made))[items]
    torch.testing.assert_close(twin.score(users, items), expected, rtol=1e-6, atol=1e-9)
    again = twin.reweighed(torch.tensor([0.5, 2.0])).score(users, items)
    torch.testing.assert_close(again, made.score(users, items).detach(), rtol=1e-6, atol=1e-9)
    for wrong in ([1.0], [1.0, 0.0], [1.0, math.inf]):
        with pytest.raises(SettingError, match="expected 2 finite numbers above 0"):
            made.reweighed(torch.tensor(wrong))


@pytest.mark.parametrize("settings", SETTINGS)
def test_shares_are_differences_of_scores(settings):
    """Each share equals the score minus that of a loop in which the node skips one neighbour."""
    made = model(**settings)
    user, item = 2, 2
    layers, b = literal(made), biases(made)
    e = means(layers)
    w, s = made.kg_weight, made.own_weight
    sums = [s] * (USERS + ENTITIES)
    edges = [(u, USERS + i, 1.0, ("item", i)) for u, i in POSITIVES]
    edges += [(USERS + h, USERS + t, w, ("step", r)) for h, r, t in TRIPLES if w]
    for a, c, weight, _ in edges:
        sums[a] += weight
        sums[c] += weight

    def without(node: int, skipped) -> torch.Tensor:
        """e of the node, whose own layers do not read one neighbour; None: all are read."""
        own = [double(layers[0][node])]
        for layer in layers[:-1]:
            new = s / sums[node] * own[-1]
            for a, c, weight, kind in edges:
                for x, y in ((a, c), (c, a)):
                    if x == node and (y, kind) != skipped:
                        entry = weight / math.sqrt(sums[x] * sums[y])
                        new = new + entry * double(layer[y])
            own.append(new)
        return torch.stack(own).mean(dim=0)

    assert without(user, None).tolist() == pytest.approx(e[user].tolist())
    reasons = made.explain(user, item, torch.tensor([0, 1]))
    score = float(e[user] @ e[USERS + item]) + b[item]
    assert reasons.score == pytest.approx(score)
    assert reasons.parts["item"] == pytest.approx(b[item])
    assert len(reasons.terms) == 2 + 2
    for term in reasons.terms:
        if term.item is not None:
            skipped = USERS + term.item, ("item", term.item)
            expected = score - float(without(user, skipped) @ e[USERS + item]) - b[item]
        else:
            (step,) = term.steps
            skipped = USERS + step.entity, ("step", step.relation)
            expected = score - float(without(USERS + item, skipped) @ e[user]) - b[item]
        assert term.share == pytest.approx(expected, abs=1e-12)


def test_a_new_user_is_a_user_with_no_own_vector():
    """As in a graph to which the user's edges lead, but from which no node reads them."""
    made = model(H=2, own_weight=0.5)
    history = Interactions.from_pairs(torch.tensor([0, 0]), torch.tensor([0, 3]), 1, ITEMS)
    folded = made.fold_in(history)
    layers, s = literal(made), made.own_weight
    sums = [s] * (USERS + ENTITIES)
    for u, i in POSITIVES:
        sums[u] += 1
        sums[USERS + i] += 1
    for h, _, t in TRIPLES:
        sums[USERS + h] += made.kg_weight
        sums[USERS + t] += made.kg_weight
    new = [torch.zeros(3).double()]
    for layer in layers[:-1]:
        vector = s / (2 + s) * new[-1]
        for i in (0, 3):
            entry = 1 / math.sqrt((2 + s) * (sums[USERS + i] + 1))
            vector = vector + entry * double(layer[USERS + i])
        new.append(vector)
    u, e = torch.stack(new).mean(dim=0), means(layers)
    expected = e[USERS : USERS + ITEMS] @ u + double(biases(made))
    scores = folded.score_all(torch.tensor([0]))[0]
    torch.testing.assert_close(scores, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "settings",
    [{"H": 0}, {"d": 0}, {"kg_weight": -1.0}, {"own_weight": math.nan}, {"item_bias": "no"}],
)
def test_settings_that_cannot_work_are_refused(settings):
    columns = [torch.tensor([0]), torch.tensor([0]), torch.tensor([1])]
    with pytest.raises(SettingError, match=next(iter(settings))):
        LightCKG(1, 1, 1, 0, *columns, **settings)
