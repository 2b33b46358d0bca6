import pytest
import torch
from torch.nn.functional import binary_cross_entropy

from kgrec.data.batches import PointwiseBatch
from kgrec.errors import ConfigError
from kgrec.models.ncf import NCF


def literal(model: NCF, user: int, item: int) -> float:
    """Eq. 9, 10 and 12, number by number."""
    own = {name: tensor.tolist() for name, tensor in model.state_dict().items()}
    hidden = own["user_inputs.weight"][user] + own["item_inputs.weight"][item]
    for layer in ["first", *(f"further.{k}" for k in range(len(model.further)))]:
        W, b = own[f"{layer}.weight"], own[f"{layer}.bias"]
        sums = [sum(w * x for w, x in zip(row, hidden, strict=True)) for row in W]
        hidden = [max(0.0, total + bias) for total, bias in zip(sums, b, strict=True)]
    p, q = own["user_factors.weight"][user], own["item_factors.weight"][item]
    fused = [a * b for a, b in zip(p, q, strict=True)] + hidden
    (h,), (c,) = own["output.weight"], own["output.bias"]
    return sum(a * b for a, b in zip(h, fused, strict=True)) + c


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_scores_and_loss_are_those_of_a_loop(num_layers, monkeypatch):
    monkeypatch.setattr("kgrec.models.recommender.BLOCK", 50)  # several blocks of users
    torch.manual_seed(0)
    model = NCF(num_users=5, num_items=4, d=2, num_layers=num_layers).double()
    model.requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    widths = [layer.out_features for layer in [model.first, *model.further]]
    assert widths == [8, 4, 2][3 - num_layers :]
    pairs = [(user, item) for user in range(5) for item in range(4)]
    users, items = torch.tensor(pairs).T
    expected = torch.tensor([literal(model, *pair) for pair in pairs], dtype=torch.float64)
    close = {"rtol": 1e-9, "atol": 1e-12}
    torch.testing.assert_close(model.score(users, items), expected, **close)
    torch.testing.assert_close(model.score(users, items, model.encode()), expected, **close)
    torch.testing.assert_close(model.score_all(torch.arange(5)).flatten(), expected, **close)
    labels = torch.tensor([1.0, 0, 0, 1] * 5, dtype=torch.float64)
    loss = binary_cross_entropy(torch.sigmoid(expected), labels)
    torch.testing.assert_close(model.loss(PointwiseBatch(users, items, labels)), loss)


@pytest.mark.parametrize("key", ["d", "num_layers"])
def test_settings_that_cannot_work(key):
    with pytest.raises(ConfigError, match=f"{key}: found 0, expected an integer >= 1"):
        NCF(3, 4, **{key: 0})
