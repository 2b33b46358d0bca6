import math

import pytest
import torch

from kgrec.data.batches import PairwiseBatch
from kgrec.errors import ConfigError
from kgrec.models.lightgcn import LightGCN

EDGES = [(0, 0), (0, 2), (1, 2), (2, 0), (2, 1), (2, 2)]  # user 3 and item 3 have none


def model(H: int = 2) -> LightGCN:
    torch.manual_seed(0)
    users, items = torch.tensor(EDGES).T
    return LightGCN(4, 4, users, items, d=3, H=H).double()


def literal(made: LightGCN) -> list[list[float]]:
    """Eq. 3 and 4, node by node; users first."""
    start = made.embedding.tolist()
    near: dict[int, list[int]] = {node: [] for node in range(8)}
    for user, item in EDGES:
        near[user].append(4 + item)
        near[4 + item].append(user)
    layers = [start]
    for _ in range(made.H):
        layers.append(
            [
                [
                    sum(
                        layers[-1][other][k] / math.sqrt(len(near[node]) * len(near[other]))
                        for other in near[node]
                    )
                    for k in range(3)
                ]
                for node in range(8)
            ]
        )
    return [[sum(z[n][k] for z in layers) / len(layers) for k in range(3)] for n in range(8)]


@pytest.mark.parametrize("H", [1, 2, 3])
def test_propagation_is_that_of_a_loop(H):
    made = model(H)
    expected = torch.tensor(literal(made), dtype=torch.float64)
    torch.testing.assert_close(made.encode().detach(), expected, rtol=1e-9, atol=1e-15)
    users, items = torch.tensor([0, 3, 2]), torch.tensor([3, 2, 0])
    scores = (expected[users] * expected[4 + items]).sum(-1)
    torch.testing.assert_close(made.score(users, items).detach(), scores, rtol=1e-9, atol=1e-15)
    batch = PairwiseBatch(users, items, items.flip(0))
    other = (expected[users] * expected[4 + items.flip(0)]).sum(-1)
    loss = -torch.log(torch.sigmoid(scores - other)).mean()
    torch.testing.assert_close(made.loss(batch).detach(), loss, rtol=1e-9, atol=0)


def test_gradients_are_those_of_finite_differences():
    made = model()
    batch = PairwiseBatch(torch.tensor([0, 2]), torch.tensor([2, 1]), torch.tensor([3, 3]))

    def loss(table: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(made, {"embedding": table}, (batch,), strict=False)

    made.forward = made.loss  # type: ignore[method-assign]
    assert torch.autograd.gradcheck(loss, made.embedding.detach().requires_grad_())


def test_the_adjacency_follows_the_buffers():
    made, other = model(), model()
    assert torch.equal(made.encode(), other.encode())
    other.load_state_dict({**made.state_dict(), "items": made.items.flip(0)})
    assert not torch.equal(made.encode(), other.encode())


@pytest.mark.parametrize("key", ["d", "H"])
def test_settings_that_cannot_work(key):
    users, items = torch.tensor(EDGES).T
    with pytest.raises(ConfigError, match=f"{key}: found 0, expected an integer >= 1"):
        LightGCN(4, 4, users, items, **{key: 0})
