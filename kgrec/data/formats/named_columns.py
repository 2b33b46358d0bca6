"""One table whose columns go by names: those that people usually give them, or the user's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from kgrec.data.csv_files import SEPARATORS, header_fields, line_of, read_csv
from kgrec.data.raw_tables import Counts
from kgrec.data.text_files import first_line
from kgrec.errors import DataError

# Columns by the names that people give them, written small and without anything but letters.
NAMES = {
    "user": ("user", "userid", "uid"),
    "item": ("item", "itemid", "iid", "movieid", "bookid", "artistid", "isbn", "asin"),
    "rating": ("rating", "stars", "score", "weight"),
    "timestamp": ("timestamp", "time", "ts", "date", "datetime"),
    "label": ("label",),
    "split": ("split", "part"),
    "head": ("head", "headid", "h", "subject"),
    "relation": ("relation", "relationid", "r", "predicate"),
    "tail": ("tail", "tailid", "t", "object"),
    "entity": ("entity", "entityid"),
    "name": ("name", "title", "itemname", "movietitle"),
}


class Table:
    """One file: its columns by our names, and how to tell the line of a row.

    Args:
        path: of the file.
        wanted: our names of the columns, and whether they must be there.
        given: the file's own names of some.
        headless: the file has no header; its columns are what is wanted, in this order.
        beside: the file stands beside the interactions, and may call items otherwise.
    """

    def __init__(
        self,
        path: Path,
        wanted: Mapping[str, bool],
        given: Mapping[str, str],
        headless: bool = False,
        beside: bool = False,
    ) -> None:
        self.path, self.header = path, not headless
        if beside:
            given = {name: column for name, column in given.items() if name != "item"} | (
                {"item": given["item"]} if given.get("item") in _fields(path) else {}
            )
        self.separator = ""
        if path.suffix == ".parquet":
            try:
                self.frame = pl.read_parquet(path, glob=False)
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
                raise DataError(f"{path}: {error}; expected a whole Parquet file") from None
            if self.frame.is_empty():
                raise DataError(f"{path}: found no rows, expected rows")
        else:
            self.separator = self._separator(wanted, given, headless)
            self.frame = read_csv(path, self.separator, list(wanted) if headless else None)
        self.columns = _choose(path, self.frame.columns, wanted, given)
        self.unused = [c for c in self.frame.columns if c not in self.columns.values()]

    def _separator(
        self, wanted: Mapping[str, bool], given: Mapping[str, str], headless: bool
    ) -> str:
        """The separator with which the header names the most of what is wanted."""
        _, text = first_line(self.path)

        def known(separator: str) -> int:
            fields = header_fields(text, separator)
            if headless:
                return len(fields) == len(wanted)
            return sum(bool(matches(fields, name, given)) for name in wanted)

        return max(SEPARATORS, key=known)

    def row(self, index: int) -> str:
        """Where a row stands, for messages."""
        if not self.separator:
            return f"{self.path}: row {index + 1}"
        return f"{self.path}:{line_of(self.path, self.separator, self.header, index)}"

    def first(self, wrong: pl.Series) -> str:
        """Where the first row stands for which ``wrong`` holds."""
        return self.row(int(wrong.arg_max() or 0))

    def values(self, name: str, expected: str, *others: type[pl.DataType]) -> pl.Series:
        """A column of strings or numbers, categories as strings, or of one of other types."""
        values = self.frame[self.columns[name]]
        kind = values.dtype
        if kind == pl.Categorical or isinstance(kind, pl.Enum):
            return values.cast(pl.String)
        if not (kind == pl.String or kind.is_float() or kind.is_integer() or kind in others):
            raise DataError(
                f"{self.path}: found the type {kind} in column {self.columns[name]}, expected "
                f"{expected}"
            )
        return values

    def ids(self, name: str, counts: Counts) -> pl.Series:
        """A column of ids as strings."""
        values = self.values(name, f"whole numbers or strings ({name})")
        if values.dtype.is_float():
            whole = (values == values.round()) & (values.abs() < 2**53)
            wrong = values.is_not_null() & ~whole.fill_null(False)
            if wrong.any():
                raise DataError(
                    f"{self.first(wrong)}: found {values.filter(wrong)[0]} as {name}, "
                    "expected a whole number or a string"
                )
            values = values.cast(pl.Int64)
        values = values.cast(pl.String)
        empty = (values.str.strip_chars() == "").fill_null(True)
        if empty.any():
            raise DataError(f"{self.first(empty)}: found '', expected a value for {name}")
        if written_as_floats(values):
            values = values.str.strip_suffix(".0")
            where = f"column {self.columns[name]} of {self.path.name}"
            counts.append((f"ids in {where} written as 42.0, read as 42", len(values)))
        return values.alias(name)

    def numbers(self, name: str) -> pl.Series:
        """A column of finite numbers; times may be dates too."""
        expected = "numbers or dates" if name == "timestamp" else "numbers"
        dates = (pl.Date, pl.Datetime) if name == "timestamp" else ()
        values = self.values(name, f"{expected} ({name})", pl.Boolean, pl.Decimal, *dates)
        found = _seconds(values) if name == "timestamp" else _numbers(values)
        wrong = (~found.is_finite()).fill_null(True)
        if wrong.any():
            was = values.filter(wrong)[0]
            raise DataError(f"{self.first(wrong)}: found {was!r}, expected {expected} ({name})")
        return found.alias(name)

    def chosen(self, name: str, values: Mapping[str, int], expected: str) -> pl.Series:
        """A column of names out of a few, as numbers."""
        column = self.values(name, expected, pl.Boolean).cast(pl.String)
        small = column.str.strip_chars().str.to_lowercase()
        found = small.replace_strict(values, default=None, return_dtype=pl.Int8)
        wrong = found.is_null()
        if wrong.any():
            was = column.filter(wrong)[0]
            raise DataError(f"{self.first(wrong)}: found {was!r}, expected {expected}")
        return found.alias(name)


def written_as_floats(ids: pl.Series) -> bool:
    """Whether all are like 42.0, which pandas makes of 42 where a column has gaps."""
    return ids.str.contains(r"^(?:0|-?[1-9][0-9]*)\.0$").all()


def _numbers(values: pl.Series) -> pl.Series:
    """Null where a value is no number."""
    if values.dtype == pl.String:
        values = values.str.strip_chars()
    return values.cast(pl.Float64, strict=False)


def _seconds(values: pl.Series) -> pl.Series:
    """Seconds since 1970 of numbers, or of dates; dates in strings begin with year-month-day."""
    if values.dtype == pl.String:
        numbers = _numbers(values)
        iso = values.str.contains(r"^\s*[0-9]{4}-[0-9]{2}-[0-9]{2}")
        if not iso.any():
            return numbers
        dates = values.set(~iso.fill_null(False), None).str.strip_chars()
        values = dates.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
    if values.dtype.is_temporal():
        return values.cast(pl.Datetime("us")).dt.timestamp("us") / 1e6
    return _numbers(values)


def _plain(column: str) -> str:
    """``userId``, ``User-ID`` and ``user_id:token`` are all ``userid``."""
    return re.sub("[^a-z]", "", column.split(":", maxsplit=1)[0].lower())


def _fields(path: Path) -> list[str]:
    """Every name that the header of a table may be read as."""
    if path.suffix == ".parquet":
        try:
            return list(pl.read_parquet_schema(path))
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
            return []  # which reading it will explain
    _, text = first_line(path)
    return [field for separator in SEPARATORS for field in header_fields(text, separator)]


def matches(fields: list[str], name: str, given: Mapping[str, str]) -> list[str]:
    """The fields of a header that may be meant by our name, or by the user's own."""
    if name in given:
        return [field for field in fields if field == given[name]]
    return [field for field in fields if _plain(field) in NAMES[name]]


def _choose(
    path: Path, fields: list[str], wanted: Mapping[str, bool], given: Mapping[str, str]
) -> dict[str, str]:
    """Our name to the file's, for every column that is there."""
    chosen = {}
    for name, required in wanted.items():
        found = matches(fields, name, given)
        if len(found) > 1:
            raise DataError(
                f"{path}: found the columns {', '.join(found)}, expected one for {name}; say which "
                f"with dataset.columns.{name}="
            )
        if found:
            chosen[name] = found[0]
        elif required or name in given:
            expected = given.get(name) or " or ".join(NAMES[name][:2])
            raise DataError(
                f"{path}: found the columns {', '.join(fields)}, expected one for {name} "
                f"({expected}); say which with dataset.columns.{name}="
            )
    for name, column in chosen.items():
        other = next(n for n, c in chosen.items() if c == column)
        if other != name:
            raise DataError(f"{path}: found column {column} for {other} and for {name}, expected "
                            "one for each")  # fmt: skip
    return chosen
