"""Every argument of Lightning's Trainer works, or is refused with a hint."""

import inspect
import math
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from conftest import ROOT, Finished, Train

from kgrec.errors import ConfigError
from kgrec.training.callbacks import EpochLog
from kgrec.training.trainer_arguments import (
    APPLIED,
    PASSED,
    REFUSED,
    applied,
    check_arguments,
    passed_on,
)

QUICK = ["ranking=none", "batch_size=64"]

# A value with which a run must end well, for every argument that is not refused.
WORKING = {
    "accelerator": "cpu",
    "strategy": "auto",
    "devices": 1,
    "num_nodes": 1,
    "precision": "bf16-mixed",
    "max_epochs": 2,  # as epochs
    "min_epochs": 2,
    "max_steps": 3,
    "min_steps": 3,
    "max_time": "00:00:10:00",
    "limit_train_batches": 2,
    "check_val_every_n_epoch": 2,
    "num_sanity_val_steps": 1,
    "enable_model_summary": "true",
    "deterministic": "true",
    "benchmark": "true",
    "inference_mode": "false",
    "profiler": "simple",
    "detect_anomaly": "true",
    "sync_batchnorm": "true",
    "accumulate_grad_batches": 2,
    "gradient_clip_val": 0.1,
    "gradient_clip_algorithm": "value",
    "log_every_n_steps": 2,
}

REFUSED_VALUES: dict[str, Any] = {
    "fast_dev_run": True,
    "limit_val_batches": 0,
    "limit_test_batches": 0.5,
    "limit_predict_batches": 1,
    "overfit_batches": 3,
    "val_check_interval": 0.5,
    "reload_dataloaders_every_n_epochs": 1,
    "use_distributed_sampler": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_autolog_hparams": False,
    "barebones": True,
    "logger": True,
    "callbacks": [],
    "plugins": [],
    "default_root_dir": "x",
    "model_registry": "x",
}


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


def test_every_argument_of_lightning_is_in_one_table():
    names = [name for name in inspect.signature(pl.Trainer).parameters if name != "self"]
    assert sorted([*PASSED, *APPLIED, *REFUSED]) == sorted(names)
    assert set(WORKING) == {*PASSED, *APPLIED}
    assert set(REFUSED_VALUES) == set(REFUSED)


def test_every_argument_that_works_can_be_set_without_a_plus():
    conf = yaml.safe_load((ROOT / "conf" / "trainer" / "default.yaml").read_text())
    assert {key for key in conf if not key.startswith("_")} == {*PASSED, *APPLIED}


@pytest.mark.parametrize("key", WORKING)
def test_an_argument_works(key, train: Train):
    more = ["trainer.gradient_clip_val=0.1"] if key == "gradient_clip_algorithm" else []
    run = train(*QUICK, *more, f"trainer.{key}={WORKING[key]}")
    assert run.code == 0, run.out + run.err
    assert "Traceback" not in run.out + run.err
    assert all(math.isfinite(value) for value in run.metrics.values())
    assert 0.3 < run.metrics["test/auc"] < 1


@pytest.mark.parametrize("key", REFUSED)
def test_an_argument_is_refused(key):
    value = REFUSED_VALUES[key]
    with pytest.raises(
        ConfigError, match=f"trainer.{key}: found {value!r}, expected ".replace("[", "\\[")
    ):
        check_arguments({key: value}, epochs=2)
    for value in REFUSED[key][0]:
        check_arguments({key: value}, epochs=2)
        assert passed_on({key: value}) == {}


@pytest.mark.parametrize("plus", ["", "+"])
def test_a_refused_argument_gets_one_line(plus, train: Train):
    run = train(f"{plus}trainer.fast_dev_run=true")
    assert run.code == 1
    (line,) = (run.out + run.err).splitlines()
    assert line.startswith("error: trainer.fast_dev_run: found ")
    assert line.endswith("for a quick try use epochs=1 trainer.limit_train_batches=1")


WRONG = [
    ("precision", "16-mixed", "32-true or bf16-mixed"),
    ("precision", 64, "32-true or bf16-mixed"),
    ("strategy", "fsdp", "trainer=ddp"),
    ("max_epochs", 3, "set epochs=3"),
    ("max_steps", 0, "an integer >= 1"),
    ("max_time", "5 minutes", "DD:HH:MM:SS"),
    ("max_time", {"fortnights": 1}, "DD:HH:MM:SS"),
    ("limit_train_batches", 0, "a number of steps, or a share"),
    ("limit_train_batches", 1.5, "a number of steps, or a share"),
    ("accumulate_grad_batches", {0: 2}, "an integer >= 1"),
    ("gradient_clip_val", -1, "a number >= 0"),
    ("gradient_clip_val", True, "a number >= 0"),
    ("gradient_clip_algorithm", "max", "norm or value"),
    ("check_val_every_n_epoch", 3, "at most epochs"),
    ("check_val_every_n_epoch", 0, "an integer >= 1"),
    ("log_every_n_steps", 0, "an integer >= 1"),
    ("profiler", "fast", "simple or advanced"),
    ("deterministic", "yes", "true, false or warn"),
    ("detect_anomaly", 1, "true or false"),
]


@pytest.mark.parametrize(("key", "value", "expected"), WRONG)
def test_a_wrong_value_is_refused(key, value, expected):
    with pytest.raises(ConfigError, match=f"trainer.{key}: found .*{expected}"):
        check_arguments({key: value}, epochs=2)


def test_arguments_that_do_not_go_together_are_refused():
    with pytest.raises(ConfigError, match="min_epochs: found a value in addition to max_steps"):
        check_arguments({"min_epochs": 1, "max_steps": 5}, epochs=2)
    with pytest.raises(ConfigError, match=r"found no trainer\.gradient_clip_val"):
        check_arguments({"gradient_clip_algorithm": "norm"}, epochs=2)


def test_null_is_the_default_of_lightning():
    assert passed_on(dict.fromkeys(PASSED)) == {}
    assert applied(dict.fromkeys(APPLIED)) == {}


# ------------------------------------------------------------------ effects


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
