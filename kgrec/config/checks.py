"""Checks of a configuration before anything is built from it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from kgrec.config.devices import num_devices, num_nodes, world_size
from kgrec.errors import ConfigError, listed
from kgrec.evaluation.full_ranking import check_ks
from kgrec.evaluation.ranking import METRICS
from kgrec.models.importing import import_object
from kgrec.training import distributed
from kgrec.training.memory import parse_bytes

TOP_LEVEL_KEYS = (
    "seed", "monitor", "epochs", "patience", "batch_size", "eval_batch_size", "memory_budget",
    "steps_per_call", "threads", "cores", "ckpt_path", "sweep", "dataset", "protocol", "split",
    "negatives", "ranking", "model", "settings", "optimizer", "trainer", "callbacks", "logger",
    "paths",
)  # fmt: skip

# Groups whose file names a callable, and the arguments that the run itself passes to it.
TARGETS = {
    "dataset": (),
    "protocol": ("data", "split"),
    "split": (),
    "model": ("dataset",),
    "optimizer": ("params",),
    "trainer": (),
}
# Groups that the run reads key by key.
KEYS = {
    "negatives": ("name", "ratio"),
    "ranking": ("name", "ks", "validation"),
    "paths": ("data", "cache", "logs", "run"),
}

RANKINGS = ("full", "released", "none")

# Whole numbers, the least they may be, and whether null is fine too.
WHOLE_NUMBERS = {
    "epochs": (1, False),
    "patience": (1, True),
    "batch_size": (1, False),
    "eval_batch_size": (1, True),
    "steps_per_call": (1, True),
    "cores": (1, True),
}


def check(cfg: DictConfig) -> None:
    """Refuses keys that nothing would read and numbers that cannot work.

    Raises:
        ConfigError: names the key, what was found and what is expected.
    """
    unknown = sorted(set(map(str, cfg)) - set(TOP_LEVEL_KEYS))
    if unknown:
        raise ConfigError(
            f"{unknown[0]}: found an unknown key, expected one of {listed(TOP_LEVEL_KEYS)}"
        )
    for key, (least, nullable) in WHOLE_NUMBERS.items():
        value = cfg[key]
        if value is None and nullable:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            expected = f"an integer >= {least}" + (", or null" if nullable else "")
            raise ConfigError(f"{key}: found {value!r}, expected {expected}")
    threads = cfg.threads
    if threads not in (None, "auto") and (type(threads) is not int or threads < 1):
        raise ConfigError(f"threads: found {threads!r}, expected an integer >= 1, auto, or null")
    _check_values(cfg)
    for group, keys in KEYS.items():
        unknown = sorted(set(map(str, cfg[group])) - set(keys))
        if unknown:
            raise ConfigError(
                f"{group}.{unknown[0]}: found an unknown key, expected one of {listed(keys)}"
            )
    _check_ranking(cfg)
    for group, passed in TARGETS.items():
        _check_arguments(group, OmegaConf.to_container(cfg[group], resolve=True), passed)


def _check_values(cfg: DictConfig) -> None:
    """Values that only a library would complain about, in its own words and too late."""
    parse_bytes(cfg.memory_budget)
    for key in ("seed", "dataset.seed"):
        value = OmegaConf.select(cfg, key)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
            raise ConfigError(f"{key}: found {value!r}, expected an integer from 0 to 2³² - 1")
    for key in ("optimizer.lr", "optimizer.weight_decay", "dataset.min_rating"):
        value = OmegaConf.select(cfg, key)
        group, _, name = key.partition(".")
        if name not in cfg[group] or (value is None and name == "min_rating"):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{key}: found {value!r}, expected a number")
        if value < 0 and key.startswith("optimizer"):
            raise ConfigError(f"{key}: found {value!r}, expected at least 0")
    if world_size(cfg) > 1:
        _check_distributed(cfg)
    if cfg.trainer.get("fast_dev_run") or cfg.callbacks.get("best") is None:
        raise ConfigError(
            "trainer.fast_dev_run, callbacks.best: found settings that keep no checkpoint, "
            "expected one, which is what is tested"
        )
    every = cfg.trainer.get("check_val_every_n_epoch") or 1
    if every > cfg.epochs:
        raise ConfigError(
            f"trainer.check_val_every_n_epoch: found {every}, "
            f"expected at most epochs ({cfg.epochs})"
        )


def check_start(cfg: DictConfig) -> None:
    """Checks that the processes of this run have been, or can be, started.

    Raises:
        ConfigError: they have not, or cannot.
    """
    about = HydraConfig.get()
    distributed.check_start(
        num_devices(cfg),
        num_nodes(cfg),
        cfg.trainer.accelerator,
        multirun=about.mode == RunMode.MULTIRUN,
        folder_given=any(word.startswith("hydra.run.dir=") for word in about.overrides.hydra),
    )


def _check_distributed(cfg: DictConfig) -> None:
    """Several devices train one model in one way alone."""
    count = world_size(cfg)
    strategy = cfg.trainer.get("strategy")
    target = strategy.get("_target_") if OmegaConf.is_dict(strategy) else strategy
    if target != "kgrec.training.distributed.DDP":
        raise ConfigError(
            f"trainer.devices: found {count} devices with trainer.strategy={target}, "
            "expected 1 device, or trainer=ddp"
        )
    if cfg.steps_per_call not in (None, 1):
        found = f"found {cfg.steps_per_call}"
        raise ConfigError(f"steps_per_call: {found}, expected 1, or null, on several devices")
    if cfg.batch_size < count:
        raise ConfigError(
            f"batch_size: found {cfg.batch_size}, expected at least {count}: a row a device"
        )


def _check_ranking(cfg: DictConfig) -> None:
    """What is ranked, and the figure by which the epoch is chosen."""
    name, ks = cfg.ranking.name, cfg.ranking.ks
    if name not in RANKINGS:
        raise ConfigError(f"ranking.name: found {name!r}, expected one of {listed(RANKINGS)}")
    if not isinstance(cfg.ranking.validation, bool):
        found = f"found {cfg.ranking.validation!r}, expected true or false"
        raise ConfigError(f"ranking.validation: {found}")
    if name == "none":
        ks = []
    else:
        check_ks(ks := OmegaConf.to_container(ks) if OmegaConf.is_list(ks) else ks)
    expected = ["val/auc", "val/f1_val_threshold"]
    if "clean" in cfg.protocol._target_:
        expected.append("val/matched/auc")
    expected += [f"val/{metric}@{k}" for metric in METRICS for k in ks]
    if cfg.monitor not in expected:
        few = ", ".join(expected if len(expected) < 8 else [*expected[:6], "…"])
        raise ConfigError(
            f"monitor: found {cfg.monitor!r}, expected a figure of the validation where higher is "
            f"better ({few}); an epoch is never chosen on the test"
        )


def _check_arguments(group: str, node: Any, passed: tuple[str, ...]) -> None:
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise ConfigError(f"{group}: found no _target_, expected a file of conf/{group}")
    try:
        known = inspect.signature(import_object(node["_target_"])).parameters
    except ConfigError as error:
        raise ConfigError(f"{group}._target_: {error}") from error
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return
    expected = [name for name in known if name not in passed]
    for key in node:
        if not str(key).startswith("_") and key not in expected:
            raise ConfigError(
                f"{group}.{key}: found an unknown key, expected one of {listed(expected)}"
            )
