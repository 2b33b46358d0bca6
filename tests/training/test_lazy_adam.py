"""LazyAdam compared with its equations and with Adam."""

import math

import pytest
import torch
from torch import nn

from kgrec.training.lazy_adam import LazyAdam

LR, L2, BETA1, BETA2, EPS = 0.05, 0.1, 0.9, 0.999, 1e-8


def literal(table: list[list[float]], steps: list[list[int]]) -> list[list[float]]:
    """Adam with coupled λ on the rows of each step; the gradient of a read is (row + 1, …)."""
    d = len(table[0])
    m, v = ([[0.0] * d for _ in table] for _ in range(2))
    for t, rows in enumerate(steps, start=1):
        for row in sorted(set(rows)):
            for j in range(d):
                g = rows.count(row) * (row + 1) * (j + 1) + L2 * table[row][j]
                m[row][j] = BETA1 * m[row][j] + (1 - BETA1) * g
                v[row][j] = BETA2 * v[row][j] + (1 - BETA2) * g * g
                root = math.sqrt(v[row][j] / (1 - BETA2**t))
                table[row][j] -= LR * (m[row][j] / (1 - BETA1**t)) / (root + EPS)
    return table


def train(model: nn.Embedding, steps: list[list[int]], optimizer: torch.optim.Optimizer) -> None:
    d = model.weight.shape[1]
    for rows in steps:
        optimizer.zero_grad()
        index = torch.tensor(rows)
        scale = (index + 1.0)[:, None] * torch.arange(1.0, d + 1)
        (model(index) * scale).sum().backward()
        optimizer.step()


STEPS = [[0, 1, 1], [3], [1, 4, 0, 4], [2, 2]]


def table(sparse: bool) -> nn.Embedding:
    torch.manual_seed(0)
    return nn.Embedding(6, 2, sparse=sparse).double()


def test_it_equals_the_equations():
    model = table(sparse=True)
    expected = literal(model.weight.tolist(), STEPS)
    train(model, STEPS, LazyAdam(model.parameters(), lr=LR, weight_decay=L2))
    torch.testing.assert_close(model.weight.data, torch.tensor(expected, dtype=torch.float64))


def test_if_every_step_reads_all_rows_it_equals_adam():
    lazy, dense = table(sparse=True), table(sparse=False)
    steps = [[0, 1, 2, 3, 4, 5, 5], [5, 4, 3, 2, 1, 0]] * 4
    train(lazy, steps, LazyAdam(lazy.parameters(), lr=LR, weight_decay=L2))
    train(dense, steps, torch.optim.Adam(dense.parameters(), lr=LR, weight_decay=L2))
    torch.testing.assert_close(lazy.weight, dense.weight)


def test_rows_that_no_step_reads_do_not_change():
    model = table(sparse=True)
    before = model.weight.detach().clone()
    optimizer = LazyAdam(model.parameters(), lr=LR, weight_decay=L2)
    train(model, STEPS, optimizer)
    assert torch.equal(model.weight[5], before[5])
    assert (optimizer.state[model.weight]["exp_avg"][5] == 0).all()
    assert not torch.equal(model.weight[4], before[4])


def test_tables_and_dense_weights_share_one_optimiser():
    tall, flat = table(sparse=True), nn.Linear(2, 1).double()
    twin = nn.Linear(2, 1).double()
    twin.load_state_dict(flat.state_dict())
    lazy = LazyAdam([*tall.parameters(), *flat.parameters()], lr=LR, weight_decay=L2)
    adam = torch.optim.Adam(twin.parameters(), lr=LR, weight_decay=L2)
    for _ in range(3):
        x = tall(torch.tensor([0, 1])).detach()
        for optimizer, layer in ((lazy, flat), (adam, twin)):
            optimizer.zero_grad()
            layer(x).square().sum().backward()
        tall(torch.tensor([0, 1])).sum().backward()
        lazy.step()
        adam.step()
        assert tall.weight.grad is not None  # gradients are still there for the norms
    torch.testing.assert_close(flat.weight, twin.weight)


def test_a_restored_state_continues_the_same_steps():
    whole, half = table(sparse=True), table(sparse=True)
    train(whole, STEPS, LazyAdam(whole.parameters(), lr=LR, weight_decay=L2))
    first = LazyAdam(half.parameters(), lr=LR, weight_decay=L2)
    train(half, STEPS[:2], first)
    second = LazyAdam(half.parameters(), lr=LR, weight_decay=L2)
    second.load_state_dict(first.state_dict())
    train(half, STEPS[2:], second)
    assert torch.equal(whole.weight, half.weight)


def test_a_closure_is_called():
    model = table(sparse=True)
    optimizer = LazyAdam(model.parameters(), lr=LR)
    before = model.weight[1].detach().sum()

    def closure() -> torch.Tensor:
        loss = model(torch.tensor([1])).sum()
        loss.backward()
        return loss

    assert float(optimizer.step(closure).detach()) == pytest.approx(float(before))
