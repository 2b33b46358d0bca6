"""Reads the files of run folders, whoever wrote them: checked, within limits, never executed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgrec.errors import DataError
from kgrec.runs import schema

if TYPE_CHECKING:
    import polars as pl

MOST_BYTES = 2**24  # of a JSON file
MOST_YAML = 2**18  # bytes of config.yaml, which is slow to read
LONGEST_REASON = 300  # characters of an error that a message repeats


def read_json(path: Path, kind: Any) -> Any:
    """Content of a JSON file that a run or a sweep wrote.

    Args:
        path: the file.
        kind: what it must hold, see :mod:`kgrec.runs.schema`.

    Raises:
        DataError: the file is missing, damaged, or of another kind.
    """
    try:
        content = json.loads(_text(path, MOST_BYTES), parse_constant=_no_number)
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, error) from error
    schema.check(path, content, kind)
    return content


def read_config(path: Path) -> dict[str, Any]:
    """The resolved configuration of a run.

    Raises:
        DataError: the file is missing, damaged, or not resolved.
    """
    from kgrec.data.yaml_files import read_yaml

    try:
        _text(path, MOST_YAML)
        content = read_yaml(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    schema.check(path, content, schema.CONFIG)
    schema.check(path, content, schema.Resolved)
    return dict(content)


def _text(path: Path, most_bytes: int) -> str:
    with path.open("rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise ValueError(f"it has more than {most_bytes} bytes")
    return data.decode("utf-8")


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def numbers(curves: pl.DataFrame) -> pl.DataFrame:
    """Finite numbers of the curves; any other text counts as absent."""
    import polars as pl

    columns = pl.all().str.strip_chars().cast(pl.Float64, strict=False)
    finite = curves.select(pl.when(columns.abs() <= schema.LARGEST).then(columns))
    return finite.with_columns(pl.col("^epoch$").cast(pl.Int64, strict=False))


def read_table(path: Path, columns: Mapping[str, str]) -> pl.DataFrame:
    """A table that a run wrote.

    Args:
        path: Parquet file.
        columns: kinds of columns that it must have, see :data:`kgrec.runs.schema.ROWS`.

    Raises:
        DataError: the file is missing or damaged, or a column is missing or of another kind.
    """
    from kgrec.data.parquet_files import read_parquet

    if not path.is_file():
        raise DataError(f"{path}: found no such file, expected a table of a finished run")
    table = read_parquet(path)
    schema.check_table(path, table, columns)
    return table


def _unreadable(path: Path, reason: object) -> DataError:
    words = " ".join(str(reason).split())[:LONGEST_REASON]
    return DataError(f"{path}: found no readable file, expected that of a finished run ({words})")
