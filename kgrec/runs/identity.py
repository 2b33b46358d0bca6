"""The identity of a run: which settings change its results, resume it, or name its system.

One table answers three questions about a setting:

- results: may the metrics of a run depend on it? A sweep does not take over a job's folder with
  another value.
- resume: may it change when a run resumes from its checkpoint?
- system: does it tell one system from another? Runs that agree in all such settings are one
  system; they differ only by their seeds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from kgrec.errors import CheckpointError
from kgrec.runs.folder import RunFolder


class Role(NamedTuple):
    """The role of a setting in the identity of a run.

    Attributes:
        results: whether metrics may depend on the setting.
        resume: whether the setting may change when a run resumes.
        system: whether the setting tells one system from another.
    """

    results: bool
    resume: bool
    system: bool


# A setting that the table does not name is taken to change results, so it must not differ.
DEFAULT = Role(results=True, resume=False, system=True)
SEED = Role(results=True, resume=False, system=False)
PLACE = Role(results=False, resume=True, system=False)  # where and how it runs
LENGTH = Role(results=True, resume=True, system=True)  # how long it trains, what is evaluated
ROUNDING = Role(results=True, resume=False, system=False)  # the order of sums
CHUNKS = Role(results=True, resume=True, system=False)

# The longest entry that is the setting or a group around it counts.
TABLE = {
    "seed": SEED,
    "dataset.seed": SEED,
    "paths": PLACE,
    "logger": PLACE,
    "ckpt_path": PLACE,
    "resume": PLACE,
    "sweep": PLACE,
    "cores": PLACE,
    "threads": PLACE,
    "dataset.root": Role(results=True, resume=True, system=False),  # a data set may be moved
    "dataset.data_dir": PLACE,
    "dataset.cache": PLACE,
    "dataset.table1": Role(results=False, resume=True, system=True),
    "dataset.sources": Role(results=True, resume=True, system=True),
    "model.cache": PLACE,
    "trainer.accelerator": PLACE,
    "trainer.devices": PLACE,
    "trainer.num_nodes": PLACE,
    "trainer.strategy": PLACE,
    "trainer.log_every_n_steps": PLACE,
    "trainer.enable_model_summary": PLACE,
    "trainer.num_sanity_val_steps": PLACE,
    "trainer.profiler": PLACE,
    "trainer.detect_anomaly": PLACE,
    "trainer.inference_mode": PLACE,
    "trainer.benchmark": PLACE,
    "trainer.max_epochs": LENGTH,
    "trainer.min_epochs": LENGTH,
    "trainer.max_steps": LENGTH,
    "trainer.min_steps": LENGTH,
    "trainer.max_time": LENGTH,
    "epochs": LENGTH,
    "patience": LENGTH,
    "settings": LENGTH,  # a name; the values behind it are compared one by one
    "ranking": LENGTH,
    "memory_budget": ROUNDING,
    "steps_per_call": CHUNKS,
    "eval_batch_size": CHUNKS,
    # Callbacks that the user adds may do anything: the default role.
    "callbacks.best": LENGTH,
    "callbacks.best.dirpath": PLACE,
    "callbacks.best.resume_from": PLACE,
    "callbacks.early_stopping": LENGTH,
    "callbacks.last": PLACE,
    "callbacks.status": PLACE,
    "callbacks.norms": PLACE,
    "callbacks.epoch_log": PLACE,
    "callbacks.progress": PLACE,
}

# Settings that came later, with the value by which earlier runs worked. With it, a run of today and
# an earlier run, whose files lack the setting, are the same.
NEUTRAL = {"loss.name": "own", "averaging.name": "none"}


def role(key: str) -> Role:
    """The role of a setting such as ``model.K``."""
    while key:
        if key in TABLE:
            return TABLE[key]
        key = key.rpartition(".")[0]
    return DEFAULT


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"model": {"K": 8}}`` to ``{"model.K": 8}``, without settings that are neutral."""
    settings: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            settings |= flat(value, f"{prefix}{key}.")
        elif f"{prefix}{key}" not in NEUTRAL or NEUTRAL[f"{prefix}{key}"] != value:
            settings[f"{prefix}{key}"] = value
    return settings


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """All settings of a configuration, flat and plain."""
    plain: Any = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    return flat(plain)


def result_settings(cfg: DictConfig) -> dict[str, Any]:
    """Settings that the results of a run may depend on, flat."""
    return {key: value for key, value in resolved(cfg).items() if role(key).results}


def resume_settings(cfg: DictConfig) -> dict[str, Any]:
    """Settings that a run must keep when it resumes, flat."""
    return {key: value for key, value in resolved(cfg).items() if not role(key).resume}


def system_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that name the system of a run, flat.

    A setting of a callback that only repeats a setting of the top level, such as ``patience``, is
    left out.

    Args:
        config: resolved configuration, as the run folder keeps it.
    """

    def repeats(key: str, value: Any) -> bool:
        name = key.rpartition(".")[2]
        return key.startswith("callbacks.") and name in config and config[name] == value

    return {
        key: value
        for key, value in flat(config).items()
        if role(key).system and not repeats(key, value)
    }


def data_digest(dataset: Mapping[str, Any]) -> str:
    """Hash of the raw files of a run's data; data of the same name may have different files.

    Args:
        dataset: facts on the data set, as the run folder keeps them.
    """
    files = json.dumps(dataset.get("files") or {}, sort_keys=True)
    return hashlib.sha256(files.encode()).hexdigest()[:12]


def difference(file: Path, settings: Mapping[str, Any], resumes: bool = False) -> str | None:
    """The first setting in which a configuration file differs, or None.

    Args:
        file: config.yaml of a run folder.
        settings: :func:`result_settings` of the job to run, or its :func:`resume_settings`.
        resumes: whether settings that may change when a run resumes are left out, not those that
            change no result.

    Raises:
        DataError: the file is damaged.
    """
    if not file.is_file():
        return None
    config = RunFolder(file.parent).config()
    earlier = {
        key: value
        for key, value in flat(config).items()
        if (not role(key).resume if resumes else role(key).results)
    }
    # Other settings, such as callbacks.best.monitor, take over the monitor.
    monitors = earlier.get("monitor"), settings.get("monitor")
    for key in _typed_first(earlier, settings):
        before, now = earlier.get(key), settings.get(key)
        if before != now and not ((before, now) == monitors and _fitted(*monitors)):
            return f"found {key} {before!r} in {file}, expected {now!r}"
    return None


def _fitted(before: Any, now: Any) -> bool:
    """Whether a run's monitor is the same ranking metric with the cut-off of a small catalogue."""
    (metric, at, k), (same, _, most) = (str(value).partition("@") for value in (before, now))
    return bool(at) and metric == same and k.isdigit() and most.isdigit() and int(k) < int(most)


def check_resume(checkpoint: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Checks that a run may resume from a checkpoint.

    Args:
        checkpoint: content of a checkpoint file.
        expected: identity of the module that resumes (``RecommenderModule.identity``): data set,
            settings and recipe of the model.

    Raises:
        CheckpointError: the checkpoint is of another data set, model or setting; the message
            names the first difference.
    """
    if "kgrec" not in checkpoint:
        raise CheckpointError(
            "ckpt_path: found a checkpoint that kgrec did not write, expected one of kgrec"
        )
    identity = checkpoint["kgrec"]
    saved_settings, settings = identity["settings"], expected["settings"]
    # Settings come first because they name what the user typed.
    for key in _typed_first(saved_settings, settings):
        if saved_settings.get(key) != settings.get(key):
            raise CheckpointError(
                f"ckpt_path: found {key} {_value(saved_settings, key)} in the checkpoint, expected "
                f"{_value(settings, key)}: a run resumes with the settings that it began with"
            )
    for key, value in expected["dataset"].items():
        if identity["dataset"].get(key) != value:
            raise CheckpointError(
                "ckpt_path: found a checkpoint of another data set "
                f"({key} {identity['dataset'].get(key)!r}), expected {key} {value!r}"
            )
    if (found := identity["recipe"]["class"]) != (wanted := expected["recipe"]["class"]):
        raise CheckpointError(f"ckpt_path: found a checkpoint of {found}, expected {wanted}")
    arguments = identity["recipe"]["arguments"]
    for key, value in expected["recipe"]["arguments"].items():
        # A checkpoint of an older version lacks arguments that came later.
        if key in arguments and arguments[key] != value:
            raise CheckpointError(
                f"ckpt_path: found a checkpoint with model.{key} {arguments.get(key)!r}, expected "
                f"{value!r}"
            )


def _typed_first(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Keys of both, first those of the top level, which others, such as dataset.seed, follow."""
    return sorted(one.keys() | other.keys(), key=lambda key: (key.count("."), key))


def _value(settings: Mapping[str, Any], key: str) -> str:
    return repr(settings[key]) if key in settings else "not set"
