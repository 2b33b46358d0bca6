"""Clipping of dense and sparse gradients."""

import pytest
import torch
from torch import nn

from kgrec.training.updates import UpdateRule, clip_by_norm, clip_by_value


def layers(sparse: bool) -> nn.ModuleList:
    """A table of which a row is read twice, a dense layer, and a parameter without a gradient."""
    torch.manual_seed(0)
    model = nn.ModuleList([nn.Embedding(6, 2, sparse=sparse), nn.Linear(2, 1), nn.Linear(2, 2)])
    rows = model[0](torch.tensor([1, 3, 3]))
    (model[1](rows).sum() * 5).backward()
    return model


def gradients(model: nn.Module) -> list[torch.Tensor]:
    return [p.grad.to_dense() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("largest", [0.5, 1e6])
def test_clipping_by_norm_is_that_of_torch(sparse, largest):
    model, reference = layers(sparse), layers(sparse=False)
    norm = clip_by_norm(model.parameters(), largest)
    expected = nn.utils.clip_grad_norm_(reference.parameters(), largest)
    torch.testing.assert_close(norm, expected)
    torch.testing.assert_close(gradients(model), gradients(reference))


@pytest.mark.parametrize("sparse", [True, False])
def test_clipping_by_value_is_that_of_torch(sparse):
    model, reference = layers(sparse), layers(sparse=False)
    clip_by_value(model.parameters(), 1.0)
    nn.utils.clip_grad_value_(reference.parameters(), 1.0)
    torch.testing.assert_close(gradients(model), gradients(reference))
    assert max(float(g.abs().max()) for g in gradients(model)) == 1


def test_without_a_limit_nothing_is_clipped():
    model = layers(sparse=True)
    before = gradients(model)
    for rule in (UpdateRule(), UpdateRule(gradient_clip_val=0)):
        rule.clip(model.parameters())
    torch.testing.assert_close(gradients(model), before)


def test_without_gradients_there_is_nothing_to_clip():
    assert clip_by_norm(nn.Linear(2, 2).parameters(), 1.0) == 0


def test_the_rule_chooses_norm_or_value():
    by_norm, by_value = layers(sparse=False), layers(sparse=False)
    UpdateRule(gradient_clip_val=0.5).clip(by_norm.parameters())
    UpdateRule(gradient_clip_val=0.5, gradient_clip_algorithm="value").clip(by_value.parameters())
    norms = [
        float(torch.cat([g.flatten() for g in gradients(m)]).norm()) for m in (by_norm, by_value)
    ]
    assert norms[0] == pytest.approx(0.5, rel=1e-4)
    assert norms[1] > 0.5
