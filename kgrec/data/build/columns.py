"""A user's table: its columns, and ids and numbers of single columns."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from kgrec.data.build.plan import shown_path
from kgrec.data.csv_files import header_fields, line_of, read_csv
from kgrec.data.dates import expected_time, seconds
from kgrec.data.formats.named_columns import written_as_floats
from kgrec.data.parquet_files import read_parquet
from kgrec.data.text_files import (
    SEPARATORS,
    header_line,
    repeated_header,
    require_file,
    second_header,
)
from kgrec.errors import DataError, one_of, quoted

log = logging.getLogger(__name__)

LARGE = 1 << 24  # bytes of a file that takes so long that reading it is announced
_THOUSANDS = r"^[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]*)?$"
SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")


class UserTable:
    """One file, CSV, TSV or Parquet; cells of text files are strings.

    Args:
        path: the file.
        names: names of the columns of a file without a header; None: the first line has them.
        shown: the file in reports; None: its name.
        frame: the columns of a file in another format, which was read already.

    Attributes:
        path: the file.
        name: the file in reports.
        frame: all its columns.
        used: names of the columns that were read.
        separator: character between two fields; empty for Parquet.

    Raises:
        DataError: the file is missing, empty, malformed or not UTF-8.
    """

    def __init__(
        self,
        path: Path,
        names: Sequence[str] | None = None,
        shown: str | None = None,
        frame: pl.DataFrame | None = None,
    ) -> None:
        self.path, self.header, self.name = path, names is None, shown or path.name
        self.used: set[str] = set()
        self.separator = ""
        if frame is not None:
            self.frame = frame
            return
        if not path.is_file():
            if os.path.lexists(path):
                require_file(path, "a table")
            there = sorted(p.name for p in path.parent.glob("*") if p.suffix in SUFFIXES)
            raise DataError(f"{path}: found no such file, expected "
                            f"{one_of(there, path.name) if there else 'a table'}")  # fmt: skip
        if path.suffix not in SUFFIXES:
            raise DataError(
                f"{path}: found a file of the kind {path.suffix!r}, expected CSV, TSV or Parquet "
                f"({', '.join(SUFFIXES)})"
            )
        if path.suffix == ".parquet":
            self.frame = _parquet(path)
            return
        _, text = header_line(path)
        self.separator = max(SEPARATORS, key=lambda s: len(header_fields(text, s)))
        fields = header_fields(text, self.separator)
        if len(fields) == 1:
            raise DataError(
                f"{path}: found one column, {text[:60]!r}, expected several, separated by a comma, "
                "a tab, ; or |"
            )
        if names is not None and len(fields) != len(names):
            raise DataError(f"{path}: found {len(fields)} columns, expected {', '.join(names)}")
        self.frame = read_csv(path, self.separator, None if names is None else list(names))
        if names is None:
            row = repeated_header(self.frame, {c: c for c in self.frame.columns})
            if row is not None:
                raise second_header(path, line_of(path, self.separator, True, row))

    def row(self, index: int) -> str:
        """File and line of a row, for messages."""
        if not self.separator:
            return f"{self.path}: row {index + 1}"
        return f"{self.path}:{line_of(self.path, self.separator, self.header, index)}"

    def column(self, name: str, key: str) -> pl.Series:
        """A column by its name.

        Args:
            name: name of the column.
            key: the key of build.yaml that names it, for the message.

        Raises:
            DataError: the table has no such column.
        """
        if name not in self.frame.columns:
            raise DataError(
                f"{self.path}: found no column {name} ({key}), expected "
                f"{one_of(self.frame.columns, name)}"
            )
        self.used.add(name)
        return self.frame[name]

    def ids(self, name: str, key: str) -> pl.Series:
        """A column of ids as strings without outer blanks; null where a cell is blank.

        Raises:
            DataError: the column is missing, or has values that are no ids.
        """
        values = self.column(name, key)
        kind = values.dtype
        if isinstance(kind, pl.Decimal) and kind.scale:
            values = values.cast(pl.Float64)
        if values.dtype.is_float():
            wrong = values.is_not_null() & ~((values == values.round()) & (values.abs() < 2**53))
            if wrong.any():
                index = int(wrong.arg_max() or 0)
                raise DataError(f"{self.row(index)}: found {values[index]} as {name} ({key}), "
                                "expected a whole number or a text")  # fmt: skip
            values = values.cast(pl.Int64)
        elif not has_texts(kind) or kind.is_temporal() or kind == pl.Boolean:
            raise DataError(f"{self.path}: found the type {kind} in column {name} ({key}), "
                            "expected whole numbers or texts")  # fmt: skip
        return clean_ids(values.cast(pl.String)).alias(key.rpartition(".")[2])

    def texts(self, name: str, key: str) -> pl.Series:
        """A column as strings.

        Raises:
            DataError: the column is missing, or has a type whose values are no texts.
        """
        values = self.column(name, key)
        if not has_texts(values.dtype):
            raise DataError(f"{self.path}: found the type {values.dtype} in column {name} ({key}), "
                            "expected texts")  # fmt: skip
        return values.cast(pl.String)

    def numbers(self, name: str, key: str, times: bool = False) -> pl.Series:
        """A column of finite numbers, null where a cell is blank.

        Args:
            name: name of the column.
            key: the key of build.yaml that names it.
            times: whether dates are accepted too; they become seconds since 1970.

        Raises:
            DataError: the column is missing, or a cell is no number.
        """
        values = self.column(name, key)
        expected = "a date such as 2024-01-31, or seconds since 1970" if times else "a number"
        if values.dtype in (pl.Categorical, pl.Enum):
            values = values.cast(pl.String)
        kind = values.dtype
        dates = isinstance(kind, pl.Date | pl.Datetime)
        if not has_texts(kind) or (kind.is_temporal() and not (times and dates)):
            raise DataError(f"{self.path}: found the type {kind} in column {name} ({key}), "
                            f"expected {expected}")  # fmt: skip
        numbers = seconds(values) if times else parse_numbers(values)
        blank = values.is_null()
        if values.dtype == pl.String:
            blank = (values.str.strip_chars() == "").fill_null(True)
        wrong = ~blank & ~numbers.is_finite().fill_null(False)
        if wrong.any():
            index = int(wrong.arg_max() or 0)
            expected = expected_time(values[index], expected) if times else expected
            raise DataError(f"{self.row(index)}: found {quoted(values[index])} as {name} ({key}), "
                            f"expected {expected}")  # fmt: skip
        return numbers.alias(key.rpartition(".")[2])


class Tables:
    """The tables of a plan, each read once.

    Args:
        plan: build.yaml; reports show the tables as it writes them.

    Attributes:
        opened: path to table.
    """

    def __init__(self, plan: Path) -> None:
        self.plan = plan
        self.opened: dict[Path, UserTable] = {}

    def open(self, path: Path, names: Sequence[str] | None = None) -> UserTable:
        """A table, read now if it was not read before."""
        if path not in self.opened:
            if path.is_file() and path.stat().st_size > LARGE:
                log.info("reading %s", path)
            self.opened[path] = UserTable(path, names, shown_path(path, self.plan))
        return self.opened[path]

    def summary(self) -> dict[str, dict[str, Any]]:
        """For each table, its number of rows and the columns that were not read."""
        return {
            table.name: {
                "rows": table.frame.height,
                "columns_not_used": [c for c in table.frame.columns if c not in table.used],
            }
            for table in self.opened.values()
        }


def has_texts(kind: pl.DataType | pl.datatypes.DataTypeClass) -> bool:
    """Whether polars turns every value of a type into a text: not lists, bytes and durations."""
    return not kind.is_nested() and kind not in (pl.Binary, pl.Duration, pl.Object)


def clean_ids(ids: pl.Series) -> pl.Series:
    """Ids without outer blanks, null where blank; 42.0 is 42 where all are written like that."""
    ids = ids.str.strip_chars()
    ids = ids.set(ids == "", None)
    return ids.str.strip_suffix(".0") if written_as_floats(ids.drop_nulls()) else ids


def parse_numbers(values: pl.Series) -> pl.Series:
    """Values as Float64, null where a value is no number; blanks and currency signs are ignored.

    Commas are thousands separators where they are that in all numbers of the column: 1,234.50.
    """
    if values.dtype == pl.String:
        values = values.str.replace_all(r"[\s€$£¥]", "")
        plain = values.str.replace_all(",", "")
        with_commas = values.str.contains(",") & plain.cast(pl.Float64, strict=False).is_not_null()
        if values.filter(with_commas).str.contains(_THOUSANDS).all():
            values = values.zip_with(~with_commas.fill_null(False), plain)
    numbers = values.cast(pl.Float64, strict=False)
    return numbers.set(~numbers.is_finite().fill_null(True), None)


def _parquet(path: Path) -> pl.DataFrame:
    frame = read_parquet(path)
    if frame.is_empty():
        raise DataError(f"{path}: found no rows, expected rows")
    return frame
