"""YAML files that may come from a stranger, read within limits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DEEPEST = 100  # levels of lists and mappings
LARGEST = 200_000  # values of a YAML file, with what its aliases repeat


def read_yaml(path: Path) -> Any:
    """Content of a YAML file in UTF-8, as OmegaConf reads it.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is no YAML, too deep, or would become too large: an alias repeats
            what it names, so few lines can stand for more than the memory holds. Or it has an
            interpolation such as ``${oc.env:HOME}``, which could read the environment.
    """
    from omegaconf import OmegaConf

    text = path.read_text(encoding="utf-8")
    try:
        _check_size(text)
        content = OmegaConf.load(path)
        if found := next(_interpolations(OmegaConf.to_container(content, resolve=False)), None):
            raise ValueError(f"{found!r} is an interpolation; a backslash before ${{ makes it text")
        return OmegaConf.to_container(content, resolve=True)
    except Exception as error:  # of many kinds, from YAML and OmegaConf
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None


def _interpolations(value: Any) -> Iterator[str]:
    """Texts below a value in which OmegaConf would replace ``${...}``."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _interpolations(part)
    elif isinstance(value, str) and re.search(r"(?<!\\)(\\\\)*\$\{", value):
        yield value


def _check_size(text: str) -> None:
    """Raises ValueError where a YAML text is too deep or stands for too many values."""
    import yaml

    sizes: dict[str, int] = {}  # anchor to the number of values
    open_values: list[tuple[str | None, int]] = []  # anchor, and number of values before
    count = 0
    for event in yaml.parse(text, yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"the alias {event.anchor!r} is unknown or within itself")
            count += sizes[event.anchor]
        elif isinstance(event, yaml.CollectionStartEvent):
            open_values.append((event.anchor, count))
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_values.pop()
            if anchor is not None:
                sizes[anchor] = count - before
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        if len(open_values) > DEEPEST:
            raise ValueError(f"more than {DEEPEST} lists or mappings within each other")
        if count > LARGEST:
            raise ValueError(f"more than {LARGEST:,} values")
