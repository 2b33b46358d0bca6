"""The objectives against their formulas, number by number."""

import math

import pytest
import torch

from kgrec.models.objectives import Objective, bce, bpr, softmax

POSITIVE = [0.3, -1.2, 2.0]
NEGATIVE = [[0.1, 0.7], [-0.4, 1.5], [0.0, -2.0]]
LOG_Q = [[-1.0, 0.2], [0.5, -0.3], [math.inf, 0.1]]


def tensor(values: list) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_bce():
    expected = [math.log(1 + math.exp(-0.3)), math.log(1 + math.exp(-1.2))]
    loss = bce(tensor([0.3, -1.2]), tensor([1.0, 0.0]))
    assert float(loss) == pytest.approx(sum(expected) / 2, rel=1e-12)


def test_bpr_of_pairs_and_of_lists():
    terms = [
        -math.log(1 / (1 + math.exp(other - s)))
        for s, others in zip(POSITIVE, NEGATIVE, strict=True)
        for other in others
    ]
    loss = bpr(tensor(POSITIVE), tensor(NEGATIVE))
    assert float(loss) == pytest.approx(sum(terms) / 6, rel=1e-12)
    first = bpr(tensor(POSITIVE), tensor([row[0] for row in NEGATIVE]))
    assert float(first) == pytest.approx(sum(terms[::2]) / 3, rel=1e-12)


def literal(temperature: float, log_q: list[list[float]]) -> float:
    """Mean of -ln [exp(s/τ) / (exp(s/τ) + Σ exp(s_j/τ - log_q_j))]."""
    losses = []
    for s, others, corrections in zip(POSITIVE, NEGATIVE, log_q, strict=True):
        terms = [math.exp(x / temperature - c) for x, c in zip(others, corrections, strict=True)]
        own = math.exp(s / temperature)
        losses.append(-math.log(own / (own + sum(terms))))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_softmax(temperature):
    arguments = tensor(POSITIVE), tensor(NEGATIVE), tensor(LOG_Q)
    found = float(softmax(*arguments, temperature))
    assert found == pytest.approx(literal(temperature, LOG_Q), rel=1e-12)
    assert float(Objective("softmax", temperature)(*arguments)) == found
    without = [[math.inf if math.isinf(c) else 0.0 for c in row] for row in LOG_Q]
    plain = float(Objective("softmax", temperature, correction=False)(*arguments))
    assert plain == pytest.approx(literal(temperature, without), rel=1e-12)
    assert plain != found


def test_a_negative_that_does_not_count_has_no_gradient():
    negative = tensor(NEGATIVE).requires_grad_()
    positive = tensor(POSITIVE).requires_grad_()
    softmax(positive, negative, tensor([*LOG_Q[:2], [math.inf, math.inf]])).backward()
    assert torch.isfinite(negative.grad).all()
    assert (negative.grad[2] == 0).all()
    assert (negative.grad[:2] > 0).all()
    assert float(positive.grad[2]) == 0  # nothing to compare it with


def gradient(scores: torch.Tensor, drawn: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """Gradient of softmax in the scores of all items, for item 0 as the positive."""
    scores = scores.clone().requires_grad_()
    rows = len(drawn)
    softmax(scores[0].expand(rows), scores[drawn], log_q).backward()
    return scores.grad


@pytest.mark.parametrize("in_batch", [False, True])
def test_the_corrected_gradient_is_that_of_the_full_softmax(in_batch):
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(30, generator=draw, dtype=torch.float64)
    full = scores.softmax(0)
    full[0] -= 1  # of the cross-entropy, if item 0 is the positive
    q = torch.rand(30, generator=draw, dtype=torch.float64) ** 2 + 0.02
    if not in_batch:
        q[0] = 0  # a positive is not drawn
    q /= q.sum()

    def errors(n: int) -> tuple[float, float]:
        """Largest error of the mean gradient, corrected and not, with n negatives."""
        drawn = torch.multinomial(q, 1000 * n, replacement=True, generator=draw).view(1000, n)
        if in_batch:  # the rows leave the positive itself out
            log_q = (q.log()[drawn] - q.log()[0]).masked_fill(drawn == 0, math.inf)
        else:
            log_q = q.log()[drawn] + math.log(n)
        plain = torch.where(log_q.isinf(), log_q, 0.0)
        corrected, uncorrected = (gradient(scores, drawn, c) - full for c in (log_q, plain))
        return float(corrected.abs().max()), float(uncorrected.abs().max())

    few, many = errors(20), errors(1000)
    assert many[0] < 0.01 < few[0] < few[1]
    assert many[1] > 5 * many[0]
