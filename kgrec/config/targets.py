"""Checks of what a configuration calls: models, data sets, optimisers and others.

The user's own configuration is trusted and may call anything. The configuration in a run folder is
not, because the folder may come from a stranger.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kgrec.config.location import conf_dir
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


# Arguments of callbacks and loggers that name a folder to write into.
WRITTEN = ("dirpath", "folder", "save_dir", "run_dir", "default_root_dir")


def check_foreign(cfg: DictConfig, run: Path, trust: Iterable[str] = ()) -> None:
    """Refuses what the configuration of a stranger's run must not do.

    It may call only what a file in kgrec's own conf/ calls, and write only into the run folder.
    (Not all of a package: ``torch`` alone has functions that load and run code.)

    Args:
        cfg: configuration of a run folder.
        run: folder of the new run.
        trust: dotted paths of the user's own packages, modules or classes that it may call, too.

    Raises:
        ConfigError: names the key, what was found and what is expected.
    """
    trusted = tuple(trust)
    for key, value in _nodes(OmegaConf.to_container(cfg, resolve=True)):
        name = key.rpartition(".")[2]
        if name == "_target_" and not (
            isinstance(value, str)
            and (
                value in own_targets()
                or any(value == path or value.startswith(f"{path}.") for path in trusted)
            )
        ):
            raise ConfigError(
                f"{key}: found {value!r}, expected what conf/ of kgrec names; the configuration of "
                "a run calls nothing else unless its package is trusted (trust=…, --trust)"
            )
        if name in WRITTEN and not (
            isinstance(value, str | None) and (value is None or _is_inside(value, run))
        ):
            raise ConfigError(f"{key}: found {value!r}, expected a folder in {run}")


@functools.cache
def own_targets() -> frozenset[str]:
    """All that the files of conf/ call, and the aggregators of KGCN by their paths."""
    from kgrec.models.kgcn.aggregators import AGGREGATORS

    texts = [path.read_text(encoding="utf-8") for path in conf_dir().rglob("*.yaml")]
    names = {name for text in texts for name in re.findall(r"_target_: *([\w.]+)", text)}
    return frozenset(names | {f"{a.__module__}.{a.__name__}" for a in AGGREGATORS.values()})


def _nodes(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in a tree, with its key."""
    parts = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
    for name, value in parts:
        where = f"{key}.{name}" if key else str(name)
        yield where, value
        if isinstance(value, Mapping | list):
            yield from _nodes(value, where)


def _is_inside(path: str, folder: Path) -> bool:
    return Path(path).expanduser().absolute().resolve().is_relative_to(folder.resolve())
