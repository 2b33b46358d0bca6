"""Mutations of the files of a run folder, of a sweep and of a data folder, by their structure."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import yaml

# Values in place of every value of JSON and YAML files.
ODD: dict[str, Any] = {
    "null": None, "list": [], "mapping": {}, "true": True, "number": 7, "negative": -1,
    "huge": 1e308, "digits": 10**60, "half": 0.5, "text": "x", "empty": "", "path": "../../../etc",
    "absolute": "/etc/passwd", "zero byte": "a\0b", "line break": "a\nb", "markup": "<b>[red]$x_1",
    "formula": "=1+1", "long": "y" * 50_000, "nested": [[[[{"a": [1]}]]]],
    "environment": "${oc.env:KGREC_CANARY}", "code": {"_target_": "os.system", "command": "true"},
}  # fmt: skip
# Texts in place of a whole file.
DEEP = "[" * 100_000
JSON_TEXTS = {
    "empty file": "", "null": "null", "list": "[]", "number": "1", "deep": DEEP,
    "NaN": '{"a": NaN}',
    "digits": '{"a": ' + "9" * 5000 + "}", "surrogate": '{"a": "\\ud800"}', "cut": '{"a": [1, ',
}  # fmt: skip
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML_TEXTS = {
    "empty file": "", "null": "null", "list": "[]", "text": "hello", "deep": DEEP,
    "tab": "a:\t- b\n\t", "python tag": "a: !!python/object/apply:os.system ['true']",
    "laughs": LAUGHS, "circle": "a: &a [*a]",
    "binary": "a: !!binary aGVsbG8=", "twice": "seed: 1\nseed: 2", "cut": "a: {b: [",
}  # fmt: skip
CSV_TEXTS = {
    "empty file": "", "text": "hello", "no epoch": "a,b\n1,2\n", "ragged": "epoch,a\n1\n1,2,3\n",
    "texts": "epoch,train/loss,val/auc\nx,y,z\n", "quotes": 'epoch,"a\n1,2\n',
    "zero": "epoch,a\n\0,\0\n",
    "huge": "epoch,train/loss,val/auc\n99999999999999999999,1e400,nan\n1,inf,-inf\n2,0.5,0.5\n",
    "twice": "epoch,a,a\n1,2,3\n",
}  # fmt: skip
FEW = ("null", "list", "text", "huge", "path")


class Mutation(NamedTuple):
    """A change of one file.

    Attributes:
        file: the file.
        name: what is changed.
        make: function that makes the new content; None: the file is removed.
    """

    file: Path
    name: str
    make: Callable[[], bytes] | None

    def apply(self) -> None:
        """Changes the file."""
        if self.make is None:
            self.file.unlink()
        else:
            self.file.write_bytes(self.make())


def mutations(folder: Path, odd: Callable[[str], bool] = lambda _: True) -> Iterator[Mutation]:
    """Mutations of every file in a folder.

    Args:
        folder: folder of a finished run or of a sweep.
        odd: whether to use an odd value, by its name.
    """
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield Mutation(file, "removed", None)
        data = file.read_bytes()
        yield _fixed(file, "cut", data[: len(data) // 2])
        yield _fixed(file, "not UTF-8", b"\xff\xfe" + data[:50])
        if file.suffix == ".json":
            yield from _trees(file, json.loads(data), JSON_TEXTS, odd)
        elif file.suffix == ".yaml":
            yield from _trees(file, yaml.safe_load(data), YAML_TEXTS, odd)
        elif file.suffix == ".csv":
            yield from (_fixed(file, name, text.encode()) for name, text in CSV_TEXTS.items())
        elif file.suffix == ".parquet":
            yield from _tables(file)


def _fixed(file: Path, name: str, content: bytes) -> Mutation:
    return Mutation(file, name, lambda: content)


def _trees(
    file: Path, tree: Any, texts: dict[str, str], odd: Callable[[str], bool]
) -> Iterator[Mutation]:
    """Mutations of JSON and YAML; the changed tree is written in JSON, which is YAML, too."""
    for name, text in texts.items():
        yield _fixed(file, name, text.encode())
    for place in _places(tree):
        shown = ".".join(map(str, place))
        for name in ("no", *filter(odd, ODD)):
            yield Mutation(file, f"{name} {shown}", partial(_changed, tree, place, name))


def _changed(tree: Any, place: tuple[Any, ...], name: str) -> bytes:
    """The tree without a value, or with an odd one."""
    whole = parent = copy.deepcopy(tree)
    for key in place[:-1]:
        parent = parent[key]
    if name == "no":
        del parent[place[-1]]
    else:
        parent[place[-1]] = ODD[name]
    return json.dumps(whole).encode()


def _places(tree: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Keys to every value; of a list only its first value."""
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree[:1])
    for key, value in parts:
        yield (*before, key)
        if isinstance(value, dict | list):
            yield from _places(value, (*before, key))


def _tables(file: Path) -> Iterator[Mutation]:
    for name, changed in _changed_tables(pl.read_parquet(file)):
        yield Mutation(file, name, partial(_parquet, changed))


def _parquet(table: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    table.write_parquet(out)
    return out.getvalue()


def _changed_tables(table: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    yield "no rows", table.clear()
    yield "no columns", pl.DataFrame()
    yield "one row", table.head(1)
    yield "twice", pl.concat([table, table])
    for column in table.columns:
        own = pl.col(column)
        yield f"no {column}", table.drop(column)
        odd = {
            "null": pl.lit(None), "text": pl.lit("x"), "number": pl.lit(10**12),
            "NaN": pl.lit(float("nan")), "infinity": pl.lit(float("inf")),
            "list": pl.concat_list(own), "date": pl.lit("2020-01-01").str.to_date(),
            "negative": pl.lit(-1, pl.Int32), "binary": pl.lit(b"\xff"),
            "nulls": pl.lit(None, table[column].dtype),
        }  # fmt: skip
        for name, value in odd.items():
            yield f"{name} {column}", table.with_columns(value.alias(column))
