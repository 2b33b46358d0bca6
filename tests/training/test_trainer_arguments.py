"""Every argument of Lightning's Trainer works, or is refused with a hint."""

import inspect
import math
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from conftest import ROOT, Train

from kgrec.errors import ConfigError
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
    ("max_time", {"seconds": 0}, "a time above 0"),
    ("max_time", "00:00:00:00", "a time above 0"),
    ("max_time", {}, "a time above 0"),
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
