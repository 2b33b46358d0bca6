"""Mutations of JSON and YAML: values of other types, keys, nesting, and bombs."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any

import yaml

from fuzzing.mutations.values import plain, text

_BOMB = "\n".join(
    ["a: &a [x, x, x, x, x, x, x, x, x]"]
    + [f"{n}: &{n} [{', '.join(9 * [f'*{chr(ord(n) - 1)}'])}]" for n in "bcdefghi"]
)
# What only the text of a file can say.
_TRICKS = (
    _BOMB, "a: &a [*a]", "<<: *x", "!!python/object/apply:os.system [ls]", "? [a, b]\n: c",
    "a: b\na: c", "- x\n-", "\t- x", "--- 1\n--- 2", "%YAML 9.9\n---", "!!binary x", "a: !!set {b}",
    "0o17: 1", "2020-01-01: 1", "1: 2\n'1': 3", "a: 2020-01-01", "a: 1:30", "~: ~", "{a: {a: {a",
    "[" * 3000, '{"a":' * 3000, "a: |\n  x", "a: ${a}", "a: ${b}\nb: ${a}", "a: ${oc.env:HOME}",
    "NaN", "Infinity", "1e999", '{"a": NaN}', '"\\ud800"', "null", "[]", "{}", "0", '""',
)  # fmt: skip

Change = Callable[[Any, Random], Any]


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every container and key below a value."""
    places: list[tuple[Any, Any]] = []
    keys: Any = value if isinstance(value, dict) else range(len(value))
    for key in keys:
        places.append((value, key))
        if isinstance(value[key], dict | list):
            places += _places(value[key])
    return places


def change(value: Any, luck: Random) -> Any:
    """A plain value with one change somewhere; the value itself is changed too."""
    places = _places(value) if isinstance(value, dict | list) else []
    if not places:
        return plain(luck)
    container, key = luck.choice(places)
    action = luck.randrange(9)
    if action < 3:
        container[key] = plain(luck)
    elif action == 3:
        del container[key]
    elif action == 4:
        _rename(container, key, text(luck))
    elif action == 5:  # a value from another place
        other, name = luck.choice(places)
        container[key] = copy.deepcopy(other[name]) if _has(other, name) else None
    elif action == 6:
        container[key] = luck.choice(([container[key]], {"x": container[key]}))
    elif action == 7:
        container[key] = _nested(container[key], luck.choice((2, 30, 400)))
    elif isinstance(container, dict):
        container[text(luck)] = plain(luck)
    else:
        container.extend([copy.deepcopy(container[key])] * luck.choice((1, 2, 300)))
    return value


def _has(container: Any, key: Any) -> bool:
    return key in container if isinstance(container, dict) else key < len(container)


def _rename(container: Any, key: Any, name: str) -> None:
    if isinstance(container, dict):
        container[name] = container.pop(key)
    else:
        container.insert(0, container.pop(key))


def _nested(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value


def as_json(data: bytes, luck: Random) -> bytes:
    """Changes values of a JSON file."""
    try:
        value = json.loads(data)
        for _ in range(luck.choice((1, 1, 2, 4))):
            value = change(value, luck)
        return json.dumps(value, ensure_ascii=luck.random() < 0.5).encode(errors="surrogatepass")
    except (ValueError, RecursionError):
        return trick(data, luck)


def as_lines(data: bytes, luck: Random) -> bytes:
    """Changes one of the JSON objects, each on its line."""
    lines = data.split(b"\n")
    place = luck.randrange(len(lines))
    lines[place] = as_json(lines[place], luck)
    return b"\n".join(lines)


def as_yaml(data: bytes, luck: Random) -> bytes:
    """Changes values of a YAML file."""
    if b"&" in data:  # an anchor may stand for a bomb
        return trick(data, luck)
    try:
        value = yaml.load(data, yaml.CSafeLoader)
        for _ in range(luck.choice((1, 1, 2, 4))):
            value = change(value, luck)
        written: bytes = yaml.dump(value, Dumper=yaml.CSafeDumper, encoding="utf-8",
                                   allow_unicode=True)  # fmt: skip
        return written
    except (ValueError, yaml.YAMLError, RecursionError, AttributeError, TypeError):
        return trick(data, luck)


def trick(data: bytes, luck: Random) -> bytes:
    """Adds or inserts text that only some parsers understand."""
    new = luck.choice(_TRICKS).encode()
    lines = data.split(b"\n")
    place = luck.randrange(len(lines) + 1)
    return luck.choice((new, b"\n".join([*lines[:place], new, *lines[place:]])))
