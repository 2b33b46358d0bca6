"""What the files of a run folder and of a sweep hold, and a check of what was read.

A folder may come from a stranger, or be damaged. Each file is checked where it is read, so that
code below may rely on its keys and types.

A kind is a type; a list ``[kind]``; a mapping ``{"*": kind}`` of any keys; a mapping of keys to
kinds, in which ``key?`` may be absent or null and further plain keys are allowed; or a tuple of
kinds, one of which must fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from kgrec.errors import DataError


class Name(str):
    """Kind of a short printable text without line breaks, that may become a part of a path."""


class Text(str):
    """Kind of a text that UTF-8 can encode."""


class Plain:
    """Kind of any nesting of plain values."""


class Resolved(Plain):
    """Kind of plain values without interpolations, which could read the environment."""


LONGEST_NAME, LONGEST_TEXT = 200, 20_000  # characters
LARGEST = 1e100  # of a number; sums and squares of such numbers are finite
DEEPEST = 20  # nesting of plain values
MOST_VALUES = 200_000  # plain values of one file

METRICS = {"*": float}
DATASET = {
    "name": Name, "protocol": Name, "fingerprint": Name, "files?": {"*": Text},
    "counts?": {"*": int}, "published_counts?": {"*": int},
}  # fmt: skip
ENVIRONMENT = {
    "kind?": Name, "started?": Name, "command?": [Text], "overrides?": [Text],
    "choices?": {"*": (Name, None)}, "git_commit?": Name, "refit_of?": Text,
}  # fmt: skip
CONFIG = {
    "seed": int, "model": {"_target_": Name}, "negatives": {"name": Name},
    "ranking?": {"name?": Name, "ks?": [int]}, "paths": {"run": Text},
}  # fmt: skip
ABOUT = {
    "version": int, "model": Name, "dataset": Name, "monitor": Name, "seed": int, "kgrec?": Name,
    "refit_of?": Text,
}  # fmt: skip
SLICES = [
    {"model": Name, "by": Name, "positives": Name, "rows": int, "*": (float, None, Name)},
]  # fmt: skip
SAMPLES = [
    {
        "user": Text, "liked": [Text], "train_positives?": int, "test_positives?": int,
        "recommended": [{"item": Text, "name?": Text, "hit?": bool}],
    }
]  # fmt: skip
STATUS = {
    "state?": Name, "error?": Text, "monitor?": Name, "updated?": Name, "device?": Name,
    "seconds?": float, "before?": float, "best?": float, "value?": float, "epoch?": int,
    "epochs?": int, "trial?": int, "process?": {"host?": Name, "pid?": int},
}  # fmt: skip
SWEEP = {
    "words": [Text], "keys": [Text], "monitor": Name, "commands?": [[Text]],
    "shared?": {"*": Text}, "started?": Name, "finished?": Name, "planned?": int,
    "jobs": [{"name": Name, "overrides": [Text], "varied": {"*": Text}}],
}  # fmt: skip

# Tables: column to kind; "*": all others.
ROWS = {"user": "text", "item": "text", "label": "integer", "score": "number"}
USERS = {
    "user": "text", "train_positives": "integer", "test_positives": "integer", "*": "number",
}  # fmt: skip
SEEN = {"user": "integer", "item": "integer", "part": "integer"}
TRIPLES = {"head": "integer", "relation": "integer", "tail": "integer"}


def check_table(file: Path, table: pl.DataFrame, columns: Mapping[str, str]) -> None:
    """Refuses a table that lacks a column, or has nulls or values of another kind in one.

    Raises:
        DataError: names the file, the column, what was found and what is expected.
    """
    if missing := [name for name in columns if name != "*" and name not in table.columns]:
        raise DataError(f"{file}: found no column {missing[0]}, expected one")
    for name in table.columns:
        kind = columns.get(name) or columns.get("*")
        column = table[name]
        fits = {
            "text": column.dtype == pl.String,
            "integer": column.dtype.is_integer(),
            "number": column.dtype.is_numeric(),
            None: True,
        }
        if not fits[kind]:
            raise DataError(
                f"{file}: found column {name[:80]!a} of {column.dtype}, expected {kind}s"
            )
        if kind is not None and column.null_count():
            raise DataError(f"{file}: found nulls in column {name[:80]!a}, expected {kind}s")
        if kind == "number" and column.dtype.is_float() and not column.is_finite().all():
            raise DataError(f"{file}: found NaN or infinity in column {name[:80]!a}")


def check(file: Path, content: Any, kind: Any) -> None:
    """Refuses a content that is not of a kind.

    Raises:
        DataError: names the file, the key, what was found and what is expected.
    """
    _check(file, content, kind, "", [MOST_VALUES])


def _check(file: Path, value: Any, kind: Any, key: str, left: list[int]) -> None:
    left[0] -= 1
    if left[0] < 0:
        raise DataError(f"{file}: found more than {MOST_VALUES} values, expected fewer")
    if isinstance(kind, tuple):
        if all(_mismatch(value, each) is not None for each in kind):
            raise _wrong(file, key, value, str(_mismatch(value, kind[0])))
    elif isinstance(kind, list):
        if not isinstance(value, list):
            raise _wrong(file, key, value, "a list")
        for number, part in enumerate(value):
            _check(file, part, kind[0], f"{key}[{number}]", left)
    elif isinstance(kind, Mapping):
        _check_mapping(file, value, kind, key, left)
    elif kind in (Plain, Resolved):
        _check_plain(file, value, kind, key, left, DEEPEST)
    elif (expected := _mismatch(value, kind)) is not None:
        raise _wrong(file, key, value, expected)


def _check_mapping(
    file: Path, value: Any, kind: Mapping[str, Any], key: str, left: list[int]
) -> None:
    if not isinstance(value, dict):
        raise _wrong(file, key, value, "keys with values")
    for name in kind:
        if not name.endswith(("?", "*")) and name not in value:
            raise DataError(f"{file}: found no {_inside(key, name)}, expected one")
    others = kind.get("*", Plain)
    for name, part in value.items():
        if _mismatch(name, Text) is not None or len(name) > LONGEST_NAME:
            raise _wrong(file, key, name, "keys that are short texts")
        where = _inside(key, name)
        if name in kind:
            _check(file, part, kind[name], where, left)
        elif f"{name}?" not in kind:
            _check(file, part, others, where, left)
        elif part is not None:
            _check(file, part, kind[f"{name}?"], where, left)


def _check_plain(
    file: Path, value: Any, kind: type, key: str, left: list[int], levels: int
) -> None:
    left[0] -= 1
    if levels < 0 or left[0] < 0:
        raise DataError(f"{file}: found {key[:80]} nested too deeply, expected plain values")
    if isinstance(value, dict):
        for name, part in value.items():
            if _mismatch(name, Text) is not None:
                raise _wrong(file, key, name, "keys that are texts")
            _check_plain(file, part, kind, _inside(key, name), left, levels - 1)
    elif isinstance(value, list):
        for part in value:
            _check_plain(file, part, kind, key, left, levels - 1)
    elif isinstance(value, str):
        if (expected := _mismatch(value, Text)) is not None:
            raise _wrong(file, key, value, expected)
        if kind is Resolved and "${" in value:
            raise _wrong(file, key, value, "a resolved value, which reads no environment")
    elif not (value is None or isinstance(value, bool | float) or _is_int(value)):
        raise _wrong(file, key, value, "a plain value")


def _mismatch(value: Any, kind: Any) -> str | None:
    """What is expected in place of a value; None: the value is of the kind."""
    if kind in (Name, Text):
        return _text_mismatch(value, kind)
    fits, expected = {
        None: (value is None, "nothing"),
        bool: (isinstance(value, bool), "true or false"),
        int: (_is_int(value), "an integer"),
        float: (_is_int(value) or _is_finite(value), "a finite number"),
    }[kind]
    return None if fits else expected


def _text_mismatch(value: Any, kind: type) -> str | None:
    if not isinstance(value, str):
        return "a text"
    if kind is Name and not (value.isprintable() and len(value) <= LONGEST_NAME):
        return f"a printable text of at most {LONGEST_NAME} characters"
    if len(value) > LONGEST_TEXT:
        return f"at most {LONGEST_TEXT} characters"
    return None if _encodes(value) else "a text in UTF-8"


def _is_finite(value: Any) -> bool:
    return type(value) is float and -LARGEST <= value <= LARGEST  # not so for NaN


def _is_int(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return "\0" not in text


def _inside(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _wrong(file: Path, key: str, value: Any, expected: str) -> DataError:
    shown = f"a {type(value).__name__}" if isinstance(value, dict | list) else repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}…"
    where = f"{key[:LONGEST_NAME]!a}"[1:-1] + " " if key else ""
    return DataError(f"{file}: found {where}{shown}, expected {expected}")
