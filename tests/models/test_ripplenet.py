import math
import random

import pytest
import torch

from kgrec.data.batches import PointwiseBatch
from kgrec.data.interactions import Interactions
from kgrec.errors import ConfigError
from kgrec.models.ripple_sets import Triples, ripple_sets
from kgrec.models.ripplenet import UPDATES, RippleNet

TRIPLES = [(0, 0, 3), (1, 0, 3), (3, 1, 4), (4, 1, 0), (1, 1, 5), (5, 0, 2), (2, 2, 4)]
# (user, hop) to the triples in memory; user 2 has no ripple set
RIPPLES = [[[0, 4], [2, 5], [3, 3]], [[6, 6], [3, 3], [0, 0]], [[-1, -1]] * 3]


def model(H: int = 3, **settings) -> RippleNet:
    torch.manual_seed(0)
    made = RippleNet(3, 3, 6, 3, len(TRIPLES), d=4, H=H, memory=2, **settings).double()
    order = sorted(range(len(TRIPLES)), key=lambda k: TRIPLES[k][1])
    columns = torch.tensor(TRIPLES)[order].T
    for buffer, column in zip((made.heads, made.relations, made.tails), columns, strict=True):
        buffer.copy_(column)
    place = {old: new for new, old in enumerate(order)} | {-1: -1}
    found = [[[place[k] for k in hop] for hop in user[:H]] for user in RIPPLES]
    made.ripples.copy_(torch.tensor(found))
    return made


def literal(made: RippleNet, user: int, item: int) -> tuple[float, float]:
    """Eq. 4-7 and Σ_k mean σ(hᵀ R t), number by number."""
    E, R = made.entity_embedding.weight.tolist(), made.relation_matrices.tolist()
    W = None if made.transform is None else made.transform.weight.tolist()
    if RIPPLES[user][0][0] < 0:
        return 0.0, 0.0
    n = range(4)
    v, total, truth = E[item], [0.0] * 4, 0.0
    for hop in range(made.H):
        triples = [TRIPLES[k] for k in RIPPLES[user][hop]]
        logits = [sum(v[i] * R[r][i][j] * E[h][j] for i in n for j in n) for h, r, _ in triples]
        weights = [math.exp(x) / sum(map(math.exp, logits)) for x in logits]
        o = [sum(p * E[t][i] for p, (_, _, t) in zip(weights, triples, strict=True)) for i in n]
        total = [a + b for a, b in zip(total, o, strict=True)] if made.all_hops else o
        if made.update.startswith("plus"):
            o = [a + b for a, b in zip(v, o, strict=True)]
        v = o if W is None else [sum(W[i][j] * o[j] for j in n) for i in n]
        for h, r, t in triples:
            energy = sum(E[h][i] * R[r][i][j] * E[t][j] for i in n for j in n)
            truth += 1 / (1 + math.exp(-energy)) / len(triples)
    return sum(a * b for a, b in zip(total, v, strict=True)), truth


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("all_hops", [True, False])
@pytest.mark.parametrize("H", [1, 3])
def test_scores_and_loss_are_those_of_a_loop(H, update, all_hops, monkeypatch):
    monkeypatch.setattr("kgrec.models.recommender.BLOCK", 90)  # two users at a time
    made = model(H, update=update, all_hops=all_hops, kge_weight=0.3)
    pairs = [(user, item) for user in range(3) for item in range(3)]
    users, items = torch.tensor(pairs).T
    found = [literal(made, *pair) for pair in pairs]
    expected = torch.tensor([score for score, _ in found], dtype=torch.float64)
    close = {"rtol": 1e-9, "atol": 1e-15}
    torch.testing.assert_close(made.score(users, items).detach(), expected, **close)
    torch.testing.assert_close(made.score(users, items, made.encode()).detach(), expected, **close)
    everything = made.score_all(torch.arange(3), made.encode()).detach()
    torch.testing.assert_close(everything.flatten(), expected, **close)
    one = torch.tensor([0])  # fewer slots than triples: each triple of the step once
    torch.testing.assert_close(made.score(one, one).detach(), expected[:1], **close)

    labels = torch.tensor([1.0, 0, 1, 0, 0, 1, 1, 0, 1], dtype=torch.float64)
    loss = 0.0
    for (score, truth), label in zip(found, labels.tolist(), strict=True):
        loss += math.log1p(math.exp(-score if label else score)) - 0.3 * truth
    computed = made.loss(PointwiseBatch(users, items, labels)).detach()
    torch.testing.assert_close(computed, torch.tensor(loss / 9, dtype=torch.float64), **close)


def test_a_user_without_a_ripple_set_has_the_score_0():
    made = model()
    batch = PointwiseBatch(torch.tensor([2]), torch.tensor([1]), torch.ones(1).double())
    loss = made.loss(batch)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.log(2))
    assert all(p.grad is None or not p.grad.any() for p in made.parameters())


@pytest.mark.parametrize("memory", [2, 40])
def test_ripple_sets_follow_the_graph(memory):
    """Each hop starts where the last one ended, and takes distinct triples where it can."""
    draw = random.Random(0)
    heads = [draw.randrange(30) for _ in range(90)]
    tails = [draw.randrange(40) for _ in range(90)]  # 30 to 39 have no triple
    pairs = [(user, draw.randrange(32)) for user in range(12) for _ in range(user % 4)]
    pairs += [(12, 31)]  # an item without triples
    history = Interactions.from_pairs(*torch.tensor(sorted(set(pairs))).T, 14, 32)
    triples = Triples.of(torch.tensor(heads), torch.tensor(tails), 40)
    found = ripple_sets(history, triples, 3, memory, torch.Generator().manual_seed(0))
    assert found.shape == (14, 3, memory)
    repeated = 0
    for user in range(14):
        reached = [item for item in range(32) if (user, item) in set(pairs)]
        before: list[int] = [-1] * memory
        for hop in range(3):
            candidates = [k for entity in reached for k in range(90) if heads[k] == entity]
            drawn = found[user, hop].tolist()
            if not candidates:
                assert drawn == before
                repeated += hop > 0 and drawn[0] >= 0
            elif len(candidates) >= memory:
                left = list(candidates)
                for triple in drawn:
                    left.remove(triple)  # none more often than it is reached
            else:
                assert set(drawn) <= set(candidates)
            if drawn[0] >= 0:
                reached = [tails[k] for k in drawn]
            before = drawn
    assert repeated  # the case of a hop that reaches nothing was met


def test_every_triple_of_a_ripple_set_is_as_likely(monkeypatch):
    """Also where users are looked at in many blocks."""
    monkeypatch.setattr("kgrec.models.ripple_sets.BLOCK", 7)
    history = Interactions.from_pairs(torch.arange(3000), torch.zeros(3000).long(), 3000, 1)
    triples = Triples.of(torch.zeros(5).long(), torch.arange(5), 5)
    found = ripple_sets(history, triples, 1, 2, torch.Generator().manual_seed(0))
    share = torch.bincount(found.flatten().long(), minlength=5) / 6000
    assert (found[:, 0, 0] != found[:, 0, 1]).all()
    assert ((share - 0.2).abs() < 0.025).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"d": 0}, "d: found 0, expected an integer >= 1"),
        ({"memory": 0}, "memory: found 0, expected an integer >= 1"),
        ({"update": "add"}, "update: found 'add', expected one of replace, plus, "),
        ({"kge_weight": -1.0}, "kge_weight: found -1.0, expected a finite number >= 0"),
    ],
)
def test_settings_that_cannot_work(settings, message):
    with pytest.raises(ConfigError, match=message):
        RippleNet(3, 3, 6, 3, 7, **settings)
