import math

import pytest
import torch

from kgrec.data.batches import TripleBatch
from kgrec.models.kge import TransE, Translation, TransR

BATCH = TripleBatch(
    *torch.tensor([[0, 3, 1, 0], [1, 0, 2, 1], [2, 0, 4, 1], [0, 4, 1, 0], [3, 0, 0, 4]])
)


def model(kind: type[Translation]) -> Translation:
    torch.manual_seed(0)
    made = TransE(5, 3, 4) if kind is TransE else TransR(5, 3, 4, 2)
    for parameter in made.double().requires_grad_(False).parameters():
        torch.nn.init.normal_(parameter)
    return made


def literal(made: Translation, h: int, r: int, t: int) -> float:
    entities, relation = made.entity_embedding.weight.tolist(), made.relation_embedding.weight[r]
    ends = []
    for vector in (entities[h], entities[t]):
        if isinstance(made, TransR):
            M = made.matrices[r].tolist()
            ends.append([sum(vector[i] * M[i][j] for i in range(4)) for j in range(2)])
        else:
            ends.append(vector)
    translation = zip(ends[0], relation.tolist(), ends[1], strict=True)
    return -sum((x + y - z) ** 2 for x, y, z in translation)


@pytest.mark.parametrize("kind", [TransE, TransR])
def test_scores_and_losses_are_those_of_a_loop(kind):
    made = model(kind)
    h, r, t, other_h, other_t = (column.tolist() for column in BATCH)
    true = [literal(made, *triple) for triple in zip(h, r, t, strict=True)]
    false = [literal(made, *triple) for triple in zip(other_h, r, other_t, strict=True)]
    expected = torch.tensor(true, dtype=torch.float64)
    found = made.score(BATCH.heads, BATCH.relations, BATCH.tails)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    pairs = list(zip(true, false, strict=True))
    margin = sum(max(0.0, 3 - a + b) for a, b in pairs) / 4
    assert float(made.loss(BATCH, margin=3)) == pytest.approx(margin, rel=1e-9)
    logistic = sum(-math.log(1 / (1 + math.exp(b - a))) for a, b in pairs) / 4
    assert float(made.loss(BATCH)) == pytest.approx(logistic, rel=1e-9)


def test_scores_of_every_entity_are_those_of_triples():
    made = model(TransE)
    assert isinstance(made, TransE)
    h, r, t = BATCH[:3]
    every = torch.arange(5)
    for row in range(4):
        same = r[row].expand(5)
        tails, heads = made.score_tails(h, r)[row], made.score_heads(t, r)[row]
        torch.testing.assert_close(tails, made.score(h[row].expand(5), same, every))
        torch.testing.assert_close(heads, made.score(every, same, t[row].expand(5)))


def test_transr_begins_as_transe():
    """Its matrices begin as the identity, as Lin et al. have it."""
    made = TransR(5, 3, 4, 4)
    vectors = torch.randn(4, 4)
    assert torch.equal(made.project(vectors, BATCH.relations), vectors)


def test_entities_of_transe_have_the_length_1():
    made = TransE(5, 3, 4)
    made.entity_embedding.weight.data.mul_(3)
    made.normalize(torch.tensor([1, 4, 1]))
    lengths = made.entity_embedding.weight.norm(dim=1)
    torch.testing.assert_close(lengths, torch.tensor([3.0, 1, 3, 3, 1]))
