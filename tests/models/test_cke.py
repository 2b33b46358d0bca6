import math

import pytest
import torch

from kgrec.data.batches import PairwiseBatch, TripleBatch
from kgrec.errors import ConfigError
from kgrec.models.cke import CKE

PAIRS = PairwiseBatch(*torch.tensor([[0, 2, 1], [1, 0, 3], [2, 3, 0]]))
TRIPLES = TripleBatch(*torch.tensor([[0, 5, 1], [1, 0, 1], [4, 1, 5], [2, 5, 1], [4, 3, 0]]))


def model(**settings) -> CKE:
    torch.manual_seed(0)
    made = CKE(3, 4, 6, 2, d=3, **settings).double().requires_grad_(False)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


def literal_score(made: CKE, user: int, item: int) -> float:
    u, eta = made.user_embedding.weight[user], made.item_embedding.weight[item]
    v = made.kge.entity_embedding.weight[item]
    return sum(float(u[k]) * (float(eta[k]) + float(v[k])) for k in range(3))


def literal_triple(made: CKE, h: int, r: int, t: int) -> float:
    v, M = made.kge.entity_embedding.weight.tolist(), made.kge.matrices[r].tolist()
    seen = [[sum(v[e][i] * M[i][j] for i in range(3)) for j in range(3)] for e in (h, t)]
    relation = made.kge.relation_embedding.weight[r].tolist()
    return -sum((x + y - z) ** 2 for x, y, z in zip(seen[0], relation, seen[1], strict=True))


def of_pair(better: float, worse: float) -> float:
    return -math.log(1 / (1 + math.exp(worse - better)))


@pytest.mark.parametrize("kg_weight", [0.1, 2])
def test_scores_and_loss_are_those_of_a_loop(kg_weight):
    made = model(kg_weight=kg_weight)
    pairs = [(user, item) for user in range(3) for item in range(4)]
    users, items = torch.tensor(pairs).T
    expected = torch.tensor([literal_score(made, *pair) for pair in pairs], dtype=torch.float64)
    close = {"rtol": 1e-9, "atol": 1e-12}
    torch.testing.assert_close(made.score(users, items), expected, **close)
    torch.testing.assert_close(made.score(users, items, made.encode()), expected, **close)
    torch.testing.assert_close(made.score_all(torch.arange(3)).flatten(), expected, **close)
    loss = 0.0
    for user, better, worse in zip(*(column.tolist() for column in PAIRS), strict=True):
        loss += of_pair(literal_score(made, user, better), literal_score(made, user, worse)) / 3
    for h, r, t, other_h, other_t in zip(*(column.tolist() for column in TRIPLES), strict=True):
        true, corrupted = literal_triple(made, h, r, t), literal_triple(made, other_h, r, other_t)
        loss += kg_weight * of_pair(true, corrupted) / 3
    assert float(made.loss(PAIRS, TRIPLES)) == pytest.approx(loss, rel=1e-9)


def test_the_graph_by_itself_moves_entities():
    made = model().requires_grad_(True)
    made.loss(PAIRS._replace(positives=PAIRS.negatives), TRIPLES).backward()
    moved = made.kge.entity_embedding.weight.grad.abs().sum(dim=1) > 0
    assert moved.tolist() == [True] * 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d": 0}, r"d: found 0, expected an integer >= 1"),
        ({"kg_weight": -1}, r"kg_weight: found -1, expected a finite number >= 0"),
        ({"kg_weight": "x"}, r"kg_weight: found 'x', expected a finite number >= 0"),
    ],
)
def test_settings_that_cannot_work(change, message):
    with pytest.raises(ConfigError, match=message):
        CKE(3, 4, 6, 2, **change)
