"""Arguments of Lightning's Trainer: what a run passes on, applies by itself, or refuses.

Every argument is in exactly one of the three tables; a test compares them with Lightning's own
list. A value of null is Lightning's default.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from kgrec.errors import ConfigError

# Lightning takes them.
PASSED = (
    "accelerator", "strategy", "devices", "num_nodes", "precision", "max_epochs", "min_epochs",
    "max_steps", "min_steps", "max_time", "limit_train_batches", "check_val_every_n_epoch",
    "num_sanity_val_steps", "enable_model_summary", "deterministic", "benchmark", "inference_mode",
    "profiler", "detect_anomaly", "sync_batchnorm",
)  # fmt: skip

# Of these, those that count calls of training_step.
COUNTED = ("limit_train_batches", "max_steps", "min_steps")

# Optimisation is manual, so our own training step applies them.
APPLIED = (
    "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "log_every_n_steps",
)  # fmt: skip

# Refused: the values that ask for nothing, and what to do instead.
REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "fast_dev_run": (
        (False, 0),
        "false: it keeps no checkpoint to test; for a quick try use epochs=1 "
        "trainer.limit_train_batches=1",
    ),
    "limit_val_batches": (
        (1.0,),
        "1.0: the best epoch is chosen on the whole validation split; to validate less often use "
        "trainer.check_val_every_n_epoch",
    ),
    "limit_test_batches": ((1.0,), "1.0: the test takes the whole test split"),
    "limit_predict_batches": ((1.0,), "1.0: a run predicts nothing"),
    "overfit_batches": (
        (0, 0.0),
        "0: every epoch shuffles its rows anew; to train on fewer rows use "
        "trainer.limit_train_batches",
    ),
    "val_check_interval": (
        (1.0,),
        "1.0: validation follows a whole epoch; for shorter epochs use trainer.limit_train_batches",
    ),
    "reload_dataloaders_every_n_epochs": (
        (0,),
        "0: training rows are drawn anew in every epoch (negatives=resampled)",
    ),
    "use_distributed_sampler": ((True,), "true: the data module shares out the rows by itself"),
    "enable_checkpointing": ((True,), "true: the best checkpoint is what is tested"),
    "enable_progress_bar": ((True,), "true; without a bar: callbacks.progress=null"),
    "enable_autolog_hparams": ((True,), "true: a run always logs its settings"),
    "barebones": ((False,), "false: a run needs its loggers, callbacks and checkpoints"),
    "logger": ((), "null; loggers are the group logger, such as logger=csv"),
    "callbacks": ((), "null; callbacks are the group callbacks (+callbacks.mine._target_=…)"),
    "plugins": ((), "null; precision and several devices are trainer.precision and trainer=ddp"),
    "default_root_dir": ((), "null; the run folder is hydra.run.dir"),
    "model_registry": ((), "null; to keep checkpoints at W&B use logger.wandb.log_checkpoint=true"),
}


def check_arguments(trainer: Mapping[str, Any], epochs: int) -> None:
    """Checks the values of the group ``trainer`` before anything is built.

    Args:
        trainer: plain content of the group.
        epochs: most epochs of the run.

    Raises:
        ConfigError: a value that cannot work; the message says what to use instead.
    """
    for key, value in trainer.items():
        if value is None or key.startswith("_"):
            continue
        if key in REFUSED and not _is_one_of(value, REFUSED[key][0]):
            raise ConfigError(refusal(key, value))
        if key in VALUES:
            accepts, expected = VALUES[key]
            if not accepts(value):
                raise ConfigError(f"trainer.{key}: found {value!r}, expected {expected}")
    if (most := trainer.get("max_epochs")) not in (None, epochs):
        raise ConfigError(f"trainer.max_epochs: found {most}, expected {epochs}: set epochs={most}")
    every = trainer.get("check_val_every_n_epoch") or 1
    if every > epochs:
        raise ConfigError(
            f"trainer.check_val_every_n_epoch: found {every}, expected at most epochs ({epochs})"
        )
    if trainer.get("max_steps") not in (None, -1):
        for least in ("min_epochs", "min_steps"):
            if trainer.get(least) is not None:
                raise ConfigError(
                    f"trainer.{least}: found a value in addition to max_steps, expected null"
                )
    if trainer.get("gradient_clip_algorithm") and not trainer.get("gradient_clip_val"):
        raise ConfigError(
            "trainer.gradient_clip_algorithm: found no trainer.gradient_clip_val, expected a number"
        )


def refusal(key: str, value: Any) -> str:
    """The reason why a run refuses an argument, and the setting to use instead."""
    return f"trainer.{key}: found {value!r}, expected {REFUSED[key][1]}"


def passed_on(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for Lightning's Trainer, except null, refused and applied-here arguments."""
    settings = {
        key: value
        for key, value in trainer.items()
        if value is not None and key not in APPLIED and key not in REFUSED
    }
    if settings.get("precision") == "bf16":  # Lightning's older name, of which it warns
        settings["precision"] = "bf16-mixed"
    return settings


def profiler(name: str, folder: str) -> dict[str, Any]:
    """Hydra's node for a profiler of Lightning that writes ``fit-profile.txt`` to a folder."""
    target = f"pytorch_lightning.profilers.{name.capitalize()}Profiler"
    return {"_target_": target, "dirpath": folder, "filename": "profile"}


def applied(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that the training step applies by itself, unless null."""
    return {key: trainer[key] for key in APPLIED if trainer.get(key) is not None}


def _is_one_of(value: Any, allowed: tuple[Any, ...]) -> bool:
    """Whether a value is allowed; 1 is one batch, which is not 1.0, and neither is true."""
    return any(type(value) is type(other) and value == other for other in allowed)


def _whole(least: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and value >= least


def _is_time(value: Any) -> bool:
    if isinstance(value, Mapping):
        units = {"weeks", "days", "hours", "minutes", "seconds"}
        numbers = [number for number in value.values() if type(number) in (int, float)]
        return set(value) <= units and len(numbers) == len(value) and sum(numbers) > 0
    return (
        isinstance(value, str)
        and re.fullmatch(r"\d+:\d\d:\d\d:\d\d", value) is not None
        and bool(value.strip("0:"))
    )


def _is_part(value: Any) -> bool:
    if type(value) is float:
        return 0 < value <= 1
    return type(value) is int and value >= 1


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


_BOOL = (_is_bool, "true or false")
_PRECISIONS = ("32", "32-true", "bf16", "bf16-mixed")

# What Lightning would refuse late or in words of its own: the check, and what is expected.
VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "strategy": (
        lambda value: value == "auto" or isinstance(value, Mapping),
        "auto, or trainer=ddp for several devices",
    ),
    "precision": (
        lambda value: str(value) in _PRECISIONS,
        "32-true or bf16-mixed (float16 overflows without scaled losses, and weights stay float32)",
    ),
    "min_epochs": (_whole(1), "an integer >= 1"),
    "max_steps": (lambda value: value == -1 or _whole(1)(value), "an integer >= 1, or -1"),
    "min_steps": (_whole(1), "an integer >= 1"),
    "max_time": (
        _is_time,
        "a time above 0: DD:HH:MM:SS in quotes, or such as {hours: 2, minutes: 30}; null: no limit",
    ),
    "limit_train_batches": (_is_part, "a number of steps, or a share such as 0.5"),
    "check_val_every_n_epoch": (_whole(1), "an integer >= 1"),
    "num_sanity_val_steps": (lambda value: value == -1 or _whole(0)(value), "an integer >= -1"),
    "log_every_n_steps": (_whole(1), "an integer >= 1"),
    "accumulate_grad_batches": (_whole(1), "an integer >= 1"),
    "gradient_clip_val": (
        lambda value: type(value) in (int, float) and value >= 0,
        "a number >= 0",
    ),
    "gradient_clip_algorithm": (lambda value: value in ("norm", "value"), "norm or value"),
    "deterministic": (lambda value: _is_bool(value) or value == "warn", "true, false or warn"),
    "profiler": (
        lambda value: value in ("simple", "advanced") or isinstance(value, Mapping),
        "simple or advanced, or a _target_ (such as PyTorchProfiler)",
    ),
    "benchmark": _BOOL,
    "inference_mode": _BOOL,
    "detect_anomaly": _BOOL,
    "enable_model_summary": _BOOL,
    "sync_batchnorm": _BOOL,
}
