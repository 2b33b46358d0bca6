import pytest
import torch

from kgrec.errors import ConfigError
from kgrec.models.kgcn.aggregators import AGGREGATORS, Aggregator, make_aggregator
from kgrec.models.recipes import rebuild


class Gated(Aggregator):
    """An aggregator of the user's own, with an argument of its own."""

    def __init__(self, d, activation, gate=0.5):
        super().__init__(d, activation)
        self.gate = gate

    def forward(self, own, pooled):
        return self.activation(self.linear(self.gate * own + (1 - self.gate) * pooled))


class NoAggregator(torch.nn.Module):
    pass


HERE = f"{__name__}"


@pytest.mark.parametrize("name", AGGREGATORS)
def test_shapes(name):
    found = make_aggregator(name, 5, torch.tanh)
    assert found(torch.randn(7, 5), torch.randn(7, 5)).shape == (7, 5)


def test_only_avg_has_no_attention():
    assert [name for name, kind in AGGREGATORS.items() if not kind.attention] == ["avg"]


def test_a_class_of_the_users_own_by_path_and_with_arguments():
    assert isinstance(make_aggregator(f"{HERE}.Gated", 5, torch.relu), Gated)
    found = make_aggregator({"_target_": f"{HERE}.Gated", "gate": 0.9}, 5, torch.relu)
    assert found.gate == 0.9


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mean", "found 'mean', expected one of sum, concat, neighbor, avg"),
        ("no.such.Thing", "aggregator: found the path 'no.such.Thing', expected an import"),
        (f"{HERE}.NoAggregator", "NoAggregator', expected a subclass of kgrec"),
        ({"_target_": f"{HERE}.Gated", "gait": 1}, "does not take {'gait': 1}"),
        ({"gate": 1}, "found None, expected one of"),
    ],
)
def test_an_unknown_aggregator_is_refused(spec, message):
    with pytest.raises(ConfigError, match=message):
        make_aggregator(spec, 5, torch.relu)


def test_from_the_command_line_and_back_from_the_checkpoint(train):
    from kgrec.runs.checkpoints import load_recommender

    run = train(f"model.aggregator._target_={HERE}.Gated", small=True)
    assert run.code == 1  # a name cannot be turned into a mapping key by key
    run = train(f"model.aggregator={{_target_: {HERE}.Gated, gate: 0.7}}")
    assert run.code == 0, run.err
    checkpoint = run.folder / "checkpoints" / "best.ckpt"
    model = load_recommender(checkpoint, trust=[HERE])
    assert isinstance(model.aggregators[0], Gated)
    assert model.aggregators[0].gate == 0.7
    run = train(f"model.aggregator={HERE}.Gated", folder="other")
    assert run.code == 0, run.err
    assert isinstance(rebuild(model.recipe(), model.state_dict(), [HERE]).aggregators[0], Gated)
