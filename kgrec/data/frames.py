"""Frames of polars or pandas, and mappings of columns, as frames of polars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from kgrec.errors import DataError

DEEPEST = 8  # levels of lists in a cell


def is_frame(value: Any) -> bool:
    """Whether a value is a frame of polars or pandas."""
    return isinstance(value, pl.DataFrame | pl.LazyFrame) or (
        hasattr(value, "columns") and hasattr(value, "iloc")
    )


def as_frame(name: str, frame: Any) -> pl.DataFrame:
    """A frame of polars or pandas, or a mapping of columns, as a frame of polars.

    Raises:
        DataError: it is none of these, or empty.
    """
    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect()
    table = frame if isinstance(frame, pl.DataFrame) else _converted(name, frame)
    if table.is_empty():
        raise DataError(f"{name}: found no rows, expected rows")
    if odd := [column for column, kind in table.schema.items() if kind == pl.Object]:
        raise DataError(
            f"{name}: found values of a type that no table has in column {odd[0]} (the first is "
            f"{table[odd[0]][0]!r}), expected numbers, texts, dates or lists"
        )
    return table


def _converted(name: str, frame: Any) -> pl.DataFrame:
    """A frame of pandas, or a mapping of columns, as a frame of polars."""
    if not is_frame(frame) and not isinstance(frame, Mapping):
        raise DataError(
            f"{name}: found a {type(frame).__name__}, expected a frame of polars or pandas"
        )
    columns = [*frame.columns] if is_frame(frame) else [*frame.keys()]
    names = [str(column) for column in columns]
    if repeated := next((n for i, n in enumerate(names) if n in names[:i]), None):
        raise DataError(f"{name}: found the column {repeated} twice, expected each column once")
    try:
        cells = {str(column): [_plain(value) for value in frame[column]] for column in columns}
        for column, values in cells.items():
            if any(_too_deep(value) for value in values):
                raise DataError(
                    f"{name}: found lists more than {DEEPEST} levels deep in column {column}, "
                    "expected numbers, texts, dates or lists"
                )
        return pl.DataFrame(cells, strict=False)
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{name}: found columns that are no table ({error})") from error


def _too_deep(value: Any, levels: int = DEEPEST) -> bool:
    """Whether lists are within each other, more than some levels deep: polars takes ever longer."""
    if not isinstance(value, list | tuple):
        return False
    return levels == 0 or any(_too_deep(part, levels - 1) for part in value)


def _plain(value: Any) -> Any:
    """A cell as a plain value; None for the NaN, NaT and NA of pandas."""
    if hasattr(value, "tolist"):  # an array or a number of numpy
        value = value.tolist()
    if isinstance(value, list | tuple | str):
        return value
    try:
        return None if value != value else value  # noqa: PLR0124
    except TypeError:  # NA of pandas is neither equal nor unequal to itself
        return None
