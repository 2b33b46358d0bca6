"""Reader of JSON lines: one object per line, of which some fields are read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import polars as pl

from kgrec.data.text_files import malformed, read_lines

Cell = str | int | float | None


def read_json_lines(path: Path, fields: Sequence[str]) -> pl.DataFrame:
    """Reads those of the fields that occur; a column is of numbers where all its cells are.

    Raises:
        DataError: the file is missing, empty or not UTF-8, or a line is no JSON object, or a field
            is neither text nor a number; the message has the number of the line.
    """
    lines = read_lines(path)
    cells: dict[str, list[Cell]] = {field: [] for field in fields}
    for line, text in lines.iter_rows():
        try:
            content = json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise malformed(path, line, text, "one JSON object per line")
        for field, column in cells.items():
            value = content.get(field)
            if isinstance(value, bool | dict | list):
                raise malformed(path, line, str(value), f"a text or a number ({field})")
            column.append(value)
    occurring = {name: column for name, column in cells.items() if set(column) != {None}}
    return pl.DataFrame([_series(name, column) for name, column in occurring.items()])


def _series(name: str, cells: list[Cell]) -> pl.Series:
    kinds = {type(cell) for cell in cells if cell is not None}
    if str in kinds or any(isinstance(cell, int) and abs(cell) >= 2**63 for cell in cells):
        texts = [cell if cell is None else _text(str(cell)) for cell in cells]
        return pl.Series(name, texts, dtype=pl.String)
    return pl.Series(name, cells, dtype=pl.Float64 if float in kinds else pl.Int64)


def _text(text: str) -> str:
    """The text without lone surrogates, which UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
