"""What arguments of Lightning's Trainer change in a run."""

from typing import Any

import pytest
import torch
from conftest import ROOT, Finished, Train

from kgrec.training.callbacks import EpochLog

pytestmark = pytest.mark.slow

QUICK = ["ranking=none", "batch_size=64"]


@pytest.fixture(autouse=True)
def _as_before():
    """Deterministic algorithms and the search for nan are settings of the process."""
    yield
    torch.use_deterministic_algorithms(False)
    torch.autograd.set_detect_anomaly(False)


def last(run: Finished) -> dict[str, Any]:
    return torch.load(run.folder / "checkpoints" / "last.ckpt", weights_only=True)


def weights(run: Finished) -> dict[str, torch.Tensor]:
    return last(run)["state_dict"]


def curve(run: Finished, name: str) -> list[float]:
    """Values that the CSV logger has of one metric."""
    header, *rows = (run.folder / "curves" / "version_0" / "metrics.csv").read_text().splitlines()
    column = header.split(",").index(name)
    return [float(value) for row in rows if (value := row.split(",")[column])]


@pytest.mark.parametrize("optimizer", ["adam", "lazy_adam"])
def test_accumulated_batches_are_one_larger_batch(optimizer, train: Train):
    settings = ["ranking=none", "epochs=1", f"optimizer={optimizer}"]
    small = train(
        *settings, "batch_size=32", "trainer.accumulate_grad_batches=2",
        "trainer.limit_train_batches=8", folder="small",
    )  # fmt: skip
    large = train(*settings, "batch_size=64", "trainer.limit_train_batches=4", folder="large")
    assert last(small)["global_step"] == last(large)["global_step"] == 4
    for name, expected in weights(large).items():
        torch.testing.assert_close(weights(small)[name], expected, rtol=1e-3, atol=1e-4)
    assert curve(small, "train/loss")[0] == pytest.approx(curve(large, "train/loss")[0], abs=1e-3)


def test_the_last_batches_of_an_epoch_update_as_well(train: Train):
    run = train(
        *QUICK, "epochs=1", "trainer.accumulate_grad_batches=3", "trainer.limit_train_batches=7"
    )
    assert last(run)["global_step"] == 3


@pytest.mark.parametrize("optimizer", ["adam", "lazy_adam"])
def test_accumulation_does_not_depend_on_steps_per_call(optimizer, train: Train):
    settings = [*QUICK, "trainer.accumulate_grad_batches=2", f"optimizer={optimizer}"]
    one = train(*settings, "steps_per_call=1", folder="one")
    five = train(*settings, "steps_per_call=5", folder="five")
    assert last(one)["global_step"] == last(five)["global_step"]
    assert all(torch.equal(weights(one)[name], w) for name, w in weights(five).items())


def test_clipped_gradients_move_weights_less(train: Train):
    sgd = ["optimizer._target_=torch.optim.SGD", "optimizer.lr=1", "optimizer.weight_decay=0"]
    settings = [*QUICK, *sgd, "trainer.max_steps=4"]
    start = train(*settings, "trainer.gradient_clip_val=1e-12", folder="start")
    clipped = train(*settings, "trainer.gradient_clip_val=0.001", folder="clipped")
    free = train(*settings, folder="free")

    def distance(run: Finished) -> float:
        moves = [w - weights(start)[n] for n, w in weights(run).items() if w.is_floating_point()]
        return float(torch.stack([move.norm() for move in moves]).norm())

    assert 0 < distance(clipped) <= 4 * 0.001 * 1.01 < distance(free)


def test_mixed_precision_keeps_weights_and_scores_in_float32(train: Train, monkeypatch):
    from kgrec.training.metrics import CTRMetrics

    scored = set()
    update = CTRMetrics.update

    def spy(self: CTRMetrics, scores: torch.Tensor, labels: torch.Tensor) -> None:
        scored.add(scores.dtype)
        update(self, scores, labels)

    monkeypatch.setattr(CTRMetrics, "update", spy)
    full = train(*QUICK, folder="full")
    mixed = train(*QUICK, "trainer.precision=bf16-mixed", folder="mixed")
    assert scored == {torch.float32}
    floats = {w.dtype for w in weights(mixed).values() if w.is_floating_point()}
    assert floats <= {torch.float32, torch.float64}
    assert any(not torch.equal(weights(full)[name], w) for name, w in weights(mixed).items())
    assert mixed.metrics["test/auc"] == pytest.approx(full.metrics["test/auc"], abs=0.02)


def test_mixed_precision_reads_new_weights_in_every_step_of_a_call(train: Train):
    # Autocast could keep low-precision copies of weights for the whole call.
    settings = [*QUICK, "trainer.precision=bf16-mixed", "optimizer.lr=0.05"]
    one = train(*settings, "steps_per_call=1", folder="one")
    five = train(*settings, "steps_per_call=5", folder="five")
    assert all(torch.equal(weights(one)[name], w) for name, w in weights(five).items())


MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("optimizer", ["adam", "lazy_adam"])
def test_every_model_trains_in_mixed_precision(model, optimizer, train: Train):
    settings = [*QUICK, f"model={model}", f"optimizer={optimizer}"]
    full = train(*settings, folder="full")
    mixed = train(*settings, "trainer.precision=bf16-mixed", folder="mixed")
    assert mixed.code == 0, mixed.out
    assert mixed.metrics["test/auc"] == pytest.approx(full.metrics["test/auc"], abs=0.02)


def test_most_steps_end_within_an_epoch_with_a_validation(train: Train):
    run = train(*QUICK, "epochs=9", "trainer.max_steps=5")
    assert run.code == 0, run.out + run.err
    assert last(run)["global_step"] == 5
    assert len(curve(run, "val/auc")) == len(curve(run, "train/loss")) == 1
    assert "train/loss nan" not in run.out


def test_a_run_that_most_steps_ended_resumes_with_more(train: Train):
    whole = train(*QUICK, "epochs=1", folder="whole")
    part = train(*QUICK, "epochs=3", "trainer.max_steps=5", folder="part")
    resumed = train(
        *QUICK, "epochs=3", f"ckpt_path={part.folder}/checkpoints/last.ckpt", folder="resumed"
    )
    assert resumed.code == 0, resumed.out + resumed.err
    # The epoch that was cut short counts as one.
    assert last(resumed)["global_step"] == 5 + 2 * last(whole)["global_step"]


def test_most_time_ends_with_a_validation(train: Train):
    run = train(*QUICK, "epochs=5000", "patience=null", "trainer.max_time=00:00:00:01")
    assert run.code == 0, run.out + run.err
    epochs = run.metrics["train/epochs"]
    assert 0 < epochs < 5000
    assert len(curve(run, "val/auc")) == len(curve(run, "train/loss")) == epochs


def test_a_training_without_a_validation_is_an_error(train: Train):
    run = train(*QUICK, "trainer.max_steps=5", "trainer.check_val_every_n_epoch=2")
    assert run.code == 1
    assert "error: trainer: found a training that ended before its first validation" in run.out


def test_fewest_epochs_outlast_patience(train: Train):
    settings = [*QUICK, "optimizer.lr=0.1", "optimizer.weight_decay=0", "epochs=15", "patience=1"]
    assert train(*settings, folder="short").metrics["train/epochs"] < 12
    assert train(*settings, "trainer.min_epochs=12").metrics["train/epochs"] == 12


def test_the_loss_of_every_nth_step_is_logged_on_request(train: Train):
    run = train(*QUICK, "epochs=1", "trainer.log_every_n_steps=3", "trainer.limit_train_batches=7")
    losses = curve(run, "train/step_loss")
    assert len(losses) == 2
    assert all(0.3 < loss < 1.5 for loss in losses)
    header = (train(*QUICK, folder="other").folder / "curves/version_0/metrics.csv").read_text()
    assert "train/step_loss" not in header


def epoch_lines(run: Finished) -> list[str]:
    return [line for line in run.out.splitlines() if line.startswith("epoch ")]


def test_an_epoch_without_validation_has_its_own_time(train: Train, monkeypatch):
    logs: list[EpochLog] = []
    begin = EpochLog.on_fit_start

    def keep(self: EpochLog, *arguments: Any) -> None:
        logs.append(self)
        begin(self, *arguments)

    monkeypatch.setattr(EpochLog, "on_fit_start", keep)
    run = train(*QUICK, "epochs=4", "trainer.check_val_every_n_epoch=2")
    (log,) = logs
    assert len(set(log.seconds)) == 4
    assert ["val/auc" in line for line in epoch_lines(run)] == [False, True, False, True]
    assert last(run)["epoch"] == 3


def test_the_last_checkpoint_is_of_the_last_epoch_also_without_validation(train: Train):
    run = train(*QUICK, "epochs=3", "trainer.check_val_every_n_epoch=2")
    assert last(run)["epoch"] == 2


def test_a_sanity_check_changes_nothing(train: Train):
    plain = train(*QUICK, folder="plain")
    checked = train(*QUICK, "trainer.num_sanity_val_steps=2", folder="checked")
    assert len(epoch_lines(checked)) == 2
    same = [k for k in plain.metrics if "seconds" not in k and "memory" not in k]
    assert {k: plain.metrics[k] for k in same} == {k: checked.metrics[k] for k in same}


def test_speed_counts_the_rows_that_were_trained_on(train: Train):
    run = train(*QUICK, "epochs=1", "trainer.limit_train_batches=2")
    (seconds,), (speed,) = (
        curve(run, f"speed/{name}") for name in ("seconds_per_epoch", "rows_per_second")
    )
    assert speed * seconds == pytest.approx(2 * 64, rel=1e-3)


@pytest.mark.parametrize("profiler", ["simple", "advanced"])
def test_a_profile_is_in_the_run_folder(profiler, train: Train):
    run = train(*QUICK, f"trainer.profiler={profiler}", "epochs=1")
    assert run.code == 0, run.out + run.err
    assert "training_step" in (run.folder / "fit-profile.txt").read_text()
