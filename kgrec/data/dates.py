"""Dates and times in seconds since 1970."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from kgrec.errors import DataError

# The years 1 to 9999, in seconds since 1970.
DATES = (-62_135_596_800, 253_402_300_799)

_UNITS = {"ms": 1e3, "us": 1e6, "ns": 1e9}


def seconds(values: pl.Series) -> pl.Series:
    """Seconds since 1970 of numbers or dates; dates in strings begin with year-month-day."""
    if values.dtype == pl.String:
        numbers = plain_numbers(values)
        iso = values.str.contains(r"^\s*[0-9]{4}-[0-9]{2}-[0-9]{2}")
        if not iso.any():
            return numbers
        dates = values.set(~iso.fill_null(False), None).str.strip_chars()
        values = dates.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
    # By the integers behind dates: polars panics at a date outside its calendar.
    if values.dtype == pl.Date:
        return values.to_physical().cast(pl.Float64) * 86_400
    if isinstance(values.dtype, pl.Datetime):
        return values.to_physical().cast(pl.Float64) / _UNITS[values.dtype.time_unit]
    return plain_numbers(values)


def plain_numbers(values: pl.Series) -> pl.Series:
    """Values as Float64, null where a value is not a number."""
    if values.dtype == pl.String:
        values = values.str.strip_chars()
    return values.cast(pl.Float64, strict=False)


def expected_time(value: object, expected: str) -> str:
    """What a message says of a time that :func:`seconds` refused: numbers and dates do not mix."""
    number = isinstance(value, str) and plain_numbers(pl.Series([value])).is_finite()[0]
    return "a date as in other rows of the column, not seconds since 1970" if number else expected


def check_dates(path: Path, frame: pl.DataFrame) -> None:
    """Checks that polars can show every date of a table: it panics at one outside its calendar.

    Raises:
        DataError: a date is not of the years 1 to 9999, or a time not of one day.
    """
    for column in frame.iter_columns():
        for values in _without_nesting(column):
            if values.dtype == pl.Time:
                times, lowest, highest = values.to_physical() / 1e9, 0.0, 86_400.0
                found, expected = "a time {:,.0f} seconds from midnight", "one of the day"
            elif values.dtype in (pl.Date, pl.Datetime):
                (lowest, highest), times = DATES, seconds(values)
                found, expected = "a date {:,.0f} seconds from 1970", "one of the years 1 to 9999"
            else:
                continue
            wrong = (~times.is_between(lowest, highest)).fill_null(False)
            if wrong.any():
                row = "" if column.dtype.is_nested() else f" row {(wrong.arg_max() or 0) + 1}:"
                raise DataError(
                    f"{path}:{row} found {found.format(times.filter(wrong)[0])} in column "
                    f"{column.name}, expected {expected}"
                )


def _without_nesting(values: pl.Series) -> Iterator[pl.Series]:
    """A column, or the columns that its lists and structs consist of."""
    if isinstance(values.dtype, pl.Struct):
        for name in values.struct.fields:
            yield from _without_nesting(values.struct.field(name))
    elif isinstance(values.dtype, pl.List | pl.Array):
        yield from _without_nesting(values.explode())
    else:
        yield values
