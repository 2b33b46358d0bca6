"""Averages of the weights: their formulas, who uses them, and resuming."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import Finished, Train

from kgrec.training.averaging import RAW, WeightAveraging

EMA = ["averaging=ema", "averaging.decay=0.7", "monitor=val/recall@20", "optimizer.lr=0.05"]


def checkpoint(run: Finished, name: str) -> dict:
    return torch.load(run.folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


class Linear(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
        self.history: list[torch.Tensor] = []
        self.validated: list[torch.Tensor] = []

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.3)

    def training_step(self, batch, batch_idx):
        for row in batch:  # several steps in one call
            self.optimizers().zero_grad()
            ((self.weight - row) ** 2).sum().backward()
            self.optimizers().step()
            self.history.append(self.weight.detach().clone())

    def validation_step(self, batch, batch_idx):
        self.validated.append(self.weight.detach().clone())


def fitted(callback: WeightAveraging, epochs: int = 2, folder: Any = None) -> Linear:
    """Trains for some epochs; with a folder, from its checkpoint if it has one."""
    rows = torch.randn(3, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    module = Linear()
    trainer = pl.Trainer(
        max_epochs=epochs, callbacks=[callback], accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    loader = torch.utils.data.DataLoader(rows, batch_size=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # few workers, few batches
        last = folder / "last.ckpt" if folder else None
        before = str(last) if last and last.exists() else None
        trainer.fit(module, loader, loader, ckpt_path=before, weights_only=True)
        if last:
            trainer.save_checkpoint(last)
    return module


def test_a_moving_average_is_that_of_its_formula():
    module = fitted(WeightAveraging(decay=0.6))
    average = module.history[0]
    expected = []
    for t, weight in enumerate(module.history):
        if t:
            beta = min(0.6, (1 + t) / (10 + t))
            average = beta * average + (1 - beta) * weight
        if t in (11, 23):
            expected.append(average)
    torch.testing.assert_close(module.validated[-6], expected[0])
    torch.testing.assert_close(module.validated[-1], expected[1])
    torch.testing.assert_close(module.weight.detach(), expected[1])
    assert not torch.allclose(module.history[11], expected[0])


@pytest.mark.parametrize("settings", [{"decay": 0.6}, {"start": 1}, {"start": 2}])
def test_a_resumed_training_has_the_same_average(settings, tmp_path):
    whole = fitted(WeightAveraging(**settings), 4)
    fitted(WeightAveraging(**settings), 2, tmp_path)
    resumed = fitted(WeightAveraging(**settings), 4, tmp_path)
    assert len(resumed.history) == len(whole.history) / 2 == 24
    assert torch.equal(resumed.history[-1], whole.history[-1])
    assert torch.equal(resumed.weight, whole.weight)
    assert not torch.equal(whole.weight, whole.history[-1])


def test_a_mean_begins_at_its_epoch():
    module = fitted(WeightAveraging(start=1))
    torch.testing.assert_close(module.validated[-6], module.history[11])  # not yet averaged
    mean = torch.stack(module.history[12:]).mean(dim=0)
    torch.testing.assert_close(module.validated[-1], mean)
    torch.testing.assert_close(module.weight.detach(), mean)


def test_validation_checkpoint_and_test_use_the_average(train: Train):
    run = train(*EMA)
    assert run.code == 0, run.out
    best = checkpoint(run, "best")
    state = next(v for k, v in best["callbacks"].items() if k.startswith("BestCheckpoint"))
    # The test reads the state dict of the best checkpoint and validates it again.
    assert run.metrics["val/recall@20"] == pytest.approx(float(state["best_model_score"]), abs=1e-9)
    raw, averaged = best[RAW], best["state_dict"]
    assert raw.keys() <= averaged.keys()
    assert all(not torch.equal(raw[name], averaged[name]) for name in raw)


@pytest.mark.slow
def test_the_average_does_not_depend_on_the_steps_of_a_call(train: Train):
    one = train(*EMA, "steps_per_call=1", folder="one")
    three = train(*EMA, "steps_per_call=3", folder="three")
    first, second = (checkpoint(run, "last")["state_dict"] for run in (one, three))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [EMA, ["averaging=swa", "averaging.start=1"]])
def test_resuming_gives_the_same_average_bit_for_bit(settings, train: Train):
    whole = train(*settings, "epochs=3", folder="whole")
    half = train(*settings, "epochs=2", folder="half")
    last = f"ckpt_path={half.folder}/checkpoints/last.ckpt"
    resumed = train(*settings, "epochs=3", last, folder="resumed")
    assert (whole.code, half.code, resumed.code) == (0, 0, 0), resumed.out
    for part in ("state_dict", RAW):
        one, other = checkpoint(whole, "last")[part], checkpoint(resumed, "last")[part]
        assert {name for name in one if not torch.equal(one[name], other[name])} == set()
    assert whole.metrics["test/auc"] == resumed.metrics["test/auc"]


@pytest.mark.slow
def test_training_is_the_same_with_an_average(train: Train):
    plain, averaged = train(folder="plain"), train("averaging=ema", folder="averaged")
    raw = checkpoint(averaged, "last")[RAW]
    state = checkpoint(plain, "last")["state_dict"]
    assert all(torch.equal(raw[name], state[name]) for name in raw)


@pytest.mark.slow
def test_a_mean_that_never_begins_is_said(train: Train):
    run = train("averaging=swa", "averaging.start=5")
    assert run.code == 0
    assert "averaging.start: found 5" in run.out
    assert RAW not in checkpoint(run, "last")
