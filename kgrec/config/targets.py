"""Checks of what a configuration calls: models, data sets, optimisers and others."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kgrec.errors import ConfigError, unknown_key
from kgrec.models.importing import import_object

# Groups whose file names a callable, and the arguments that the run itself passes to it.
TARGETS = {
    "dataset": (),
    "protocol": ("data", "split"),
    "split": (),
    "model": ("dataset",),
    "optimizer": ("params",),
    "trainer": (),
}


def check_targets(cfg: DictConfig) -> None:
    """Refuses callables that cannot be imported, and keys that they do not take.

    Raises:
        ConfigError: names the key, what was found and what is expected.
    """
    for group, passed in TARGETS.items():
        _check_arguments(group, OmegaConf.to_container(cfg[group], resolve=True), passed)
    for group in ("callbacks", "logger"):
        nodes: Any = OmegaConf.to_container(cfg[group], resolve=True)
        for name, node in nodes.items():
            if node is not None:
                _check_arguments(f"{group}.{name}", node, ())


def _check_arguments(group: str, node: Any, passed: tuple[str, ...]) -> None:
    if not isinstance(node, Mapping) or "_target_" not in node:
        folder = group.partition(".")[0]
        raise ConfigError(f"{group}: found no _target_, expected a file of conf/{folder}")
    try:
        parameters = inspect.signature(import_object(node["_target_"])).parameters
    except ConfigError as error:
        raise ConfigError(f"{group}._target_: {error}") from error
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    expected = [name for name in parameters if name not in passed]
    for key in node:
        if not str(key).startswith("_") and key not in expected:
            raise unknown_key(group, key, expected)
