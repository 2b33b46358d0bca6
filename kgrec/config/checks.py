"""Checks of keys and values of a configuration; nothing heavy is imported for them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kgrec.config.devices import SHARDED, min_rows, num_devices, num_nodes, world_size
from kgrec.config.location import options
from kgrec.config.sizes import parse_bytes
from kgrec.errors import ConfigError, listed, shortened, unknown_key
from kgrec.training.trainer_arguments import COUNTED, check_arguments

TOP_LEVEL_KEYS = (
    "seed", "monitor", "epochs", "patience", "batch_size", "eval_batch_size", "memory_budget",
    "steps_per_call", "threads", "cores", "ckpt_path", "resume", "sweep", "dataset", "protocol",
    "split", "negatives", "loss", "averaging", "ranking", "model", "settings", "optimizer",
    "trainer", "callbacks", "logger", "paths",
)  # fmt: skip

# Groups that the run reads key by key.
KEYS = {
    "negatives": ("name", "ratio", "power", "items"),
    "loss": ("name", "temperature", "correction"),
    "averaging": ("name", "decay", "start"),
    "ranking": ("name", "ks", "validation"),
    "paths": ("data", "cache", "logs", "run"),
}

LOSSES = ("own", "bce", "bpr", "softmax")
AVERAGES = ("none", "ema", "swa")
RANKINGS = ("full", "released", "none")
# Copies from kgrec.evaluation.ranking, whose import would take seconds; a test compares the two.
RANKING_METRICS = ("recall", "precision", "ndcg", "mrr", "map", "hit")

# Whole numbers: the least allowed value, and whether null is allowed.
WHOLE_NUMBERS = {
    "epochs": (1, False),
    "patience": (1, True),
    "batch_size": (1, False),
    "eval_batch_size": (1, True),
    "steps_per_call": (1, True),
    "cores": (1, True),
}
LARGEST = 2**63 - 1  # of a whole number, which torch keeps in 64 bits
MOST_THREADS = 1024  # with many more, OpenMP ends the process


def check(cfg: DictConfig) -> None:
    """Refuses unknown keys and values that cannot work.

    The arguments of models, data sets and other callables are checked by
    :func:`kgrec.config.targets.check_targets`.

    Raises:
        ConfigError: names the key, what was found and what is expected.
    """
    _check_keys(cfg)
    for key, (least, nullable) in WHOLE_NUMBERS.items():
        value = cfg[key]
        if value is None and nullable:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            expected = f"an integer >= {least}" + (", or null" if nullable else "")
            raise ConfigError(f"{key}: found {value!r}, expected {expected}")
        if value > LARGEST:
            raise ConfigError(f"{key}: found {value}, expected at most {LARGEST}")
    threads = cfg.threads
    if threads not in (None, "auto") and (type(threads) is not int or threads < 1):
        raise ConfigError(f"threads: found {threads!r}, expected an integer >= 1, auto, or null")
    for key in ("threads", "cores"):
        if isinstance(cfg[key], int) and cfg[key] > MOST_THREADS:
            raise ConfigError(f"{key}: found {cfg[key]}, expected at most {MOST_THREADS}")
    if cfg.resume not in (None, "auto"):
        raise ConfigError(f"resume: found {cfg.resume!r}, expected auto, or null")
    if cfg.resume is not None and cfg.ckpt_path is not None:
        raise ConfigError(
            f"resume: found {cfg.resume} and ckpt_path={cfg.ckpt_path}, expected one of the two"
        )
    parse_bytes(cfg.memory_budget)
    _check_numbers(cfg)
    _check_loss(cfg)
    _check_averaging(cfg)
    _check_trainer(cfg)
    _check_ranking(cfg)


def check_words(words: Iterable[str]) -> None:
    """Refuses words for which Hydra raises errors of its own code, such as a group set to a number.

    Args:
        words: overrides as typed.

    Raises:
        ConfigError: a group is set to something that is no name, or there is no key.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Sweep
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    for word in words:
        try:
            override = parser.parse_override(word)
        except HydraException:  # Hydra explains it
            continue
        except ValueError as error:  # such as a number of 5,000 digits
            raise ConfigError(f"{shortened(word)}: {error}, expected key=value") from None
        group, value = str(override.key_or_group), override.value()
        if not group:
            raise ConfigError(f"{word}: found no key, expected key=value")
        named = isinstance(value, str | list | Sweep) or (value is None and override.is_delete())
        if not named and re.fullmatch(r"\w{1,80}(/\w{1,80})*", group) and (names := options(group)):
            given = "null" if value is None else word.partition("=")[2]
            raise ConfigError(f"{group}: found {given}, expected one of {listed(names)}")


def _check_keys(cfg: DictConfig) -> None:
    for key in map(str, cfg):
        if key not in TOP_LEVEL_KEYS:
            raise unknown_key("", key, TOP_LEVEL_KEYS)
    for group, keys in KEYS.items():
        for key in map(str, cfg[group]):
            if key not in keys:
                raise unknown_key(group, key, keys)


def _check_numbers(cfg: DictConfig) -> None:
    """Numbers that a library would refuse too late, and in its own words."""
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
        if not math.isfinite(value):
            raise ConfigError(f"{key}: found {value!r}, expected a finite number")
        if value < 0 and key.startswith("optimizer"):
            raise ConfigError(f"{key}: found {value!r}, expected at least 0")


def _check_loss(cfg: DictConfig) -> None:
    loss = cfg.loss
    if loss.name not in LOSSES:
        raise ConfigError(f"loss.name: found {loss.name!r}, expected one of {listed(LOSSES)}")
    temperature, correction = loss.get("temperature", 1.0), loss.get("correction", True)
    if type(temperature) not in (int, float) or not 0 < temperature < math.inf:
        raise ConfigError(f"loss.temperature: found {temperature!r}, expected a number above 0")
    if not isinstance(correction, bool):
        raise ConfigError(f"loss.correction: found {correction!r}, expected true or false")


def _check_averaging(cfg: DictConfig) -> None:
    name, decay, start = (cfg.averaging.get(key) for key in KEYS["averaging"])
    if name not in AVERAGES:
        raise ConfigError(f"averaging.name: found {name!r}, expected one of {listed(AVERAGES)}")
    if name == "ema" and (type(decay) is not float or not 0 < decay < 1):
        raise ConfigError(f"averaging.decay: found {decay!r}, expected a number between 0 and 1")
    if name == "swa" and (type(start) is not int or start < 0):
        raise ConfigError(f"averaging.start: found {start!r}, expected an integer >= 0")


def _check_trainer(cfg: DictConfig) -> None:
    if world_size(cfg) > 1:
        _check_distributed(cfg)
    if min_rows(cfg) is not None and cfg.averaging.name != "none":
        raise ConfigError(
            f"averaging: found {cfg.averaging.name}, expected none: an average would double the "
            "memory of the shared tables, and is not implemented for them"
        )
    if cfg.callbacks.get("best") is None:
        raise ConfigError(
            "callbacks.best: found null, expected the callback that keeps the best checkpoint, "
            "which is the tested model"
        )
    check_arguments(OmegaConf.to_container(cfg.trainer, resolve=True), cfg.epochs)  # type: ignore[arg-type]
    counted = [key for key in COUNTED if cfg.trainer.get(key) not in (None, -1)]
    if counted and cfg.steps_per_call not in (None, 1):
        raise ConfigError(
            f"steps_per_call: found {cfg.steps_per_call}, expected 1, or null, with "
            f"trainer.{counted[0]}, which counts calls"
        )


def _check_distributed(cfg: DictConfig) -> None:
    """Checks the settings of training one model on several devices."""
    count = world_size(cfg)
    strategy = cfg.trainer.get("strategy")
    target = strategy.get("_target_") if OmegaConf.is_dict(strategy) else strategy
    if target not in ("kgrec.training.distributed.DDP", SHARDED):
        raise ConfigError(
            f"trainer.devices: found {count} devices with trainer.strategy={target}, "
            "expected 1 device, or trainer=ddp or trainer=sharded"
        )
    if cfg.steps_per_call not in (None, 1):
        raise ConfigError(
            f"steps_per_call: found {cfg.steps_per_call}, expected 1, or null, on several devices"
        )
    if cfg.batch_size < count:
        raise ConfigError(
            f"batch_size: found {cfg.batch_size}, expected at least {count}: one row per device"
        )


def _check_ranking(cfg: DictConfig) -> None:
    """Settings of the ranking, and the metric by which the epoch is chosen."""
    name, ks = cfg.ranking.name, cfg.ranking.ks
    if name not in RANKINGS:
        raise ConfigError(f"ranking.name: found {name!r}, expected one of {listed(RANKINGS)}")
    if not isinstance(cfg.ranking.validation, bool):
        raise ConfigError(
            f"ranking.validation: found {cfg.ranking.validation!r}, expected true or false"
        )
    if name == "none":
        ks = []
    else:
        check_ks(ks := OmegaConf.to_container(ks) if OmegaConf.is_list(ks) else ks)
    expected = ["val/auc", "val/f1_val_threshold"]
    if "clean" in cfg.protocol._target_:
        expected.append("val/matched/auc")
    expected += [f"val/{metric}@{k}" for metric in RANKING_METRICS for k in ks]
    if cfg.monitor not in expected:
        few = ", ".join(expected if len(expected) < 8 else [*expected[:6], "…"])
        raise ConfigError(
            f"monitor: found {cfg.monitor!r}, expected a validation metric for which higher is "
            f"better ({few}); an epoch is never chosen on the test"
        )
    always = [metric for metric in expected if "@" not in metric]
    for name, known in (("best", []), ("early_stopping", always)):
        value = OmegaConf.select(cfg, f"callbacks.{name}.monitor")
        if value not in (None, cfg.monitor, *known):
            raise ConfigError(
                f"callbacks.{name}.monitor: found {value!r}, expected {cfg.monitor!r}, the metric "
                "that monitor=… sets"
            )


def check_ks(ks: Any) -> None:
    """Checks cut-offs of ranking metrics.

    Raises:
        ConfigError: the cut-offs are not a list of distinct positive integers.
    """
    positive = isinstance(ks, list | tuple) and all(type(k) is int and k >= 1 for k in ks)
    if not positive or not 0 < len(set(ks)) == len(ks):
        raise ConfigError(
            f"ranking.ks: found {ks!r}, expected distinct integers >= 1, such as [10,20]"
        )


def check_start(cfg: DictConfig) -> None:
    """Checks that as many processes as the run needs were started, or can be.

    Raises:
        ConfigError: a setting was not applied, or cannot be.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from kgrec.training import distributed

    hydra = HydraConfig.get()
    distributed.check_start(
        num_devices(cfg),
        num_nodes(cfg),
        multirun=hydra.mode == RunMode.MULTIRUN,
        folder_given=any(word.startswith("hydra.run.dir=") for word in hydra.overrides.hydra),
    )
