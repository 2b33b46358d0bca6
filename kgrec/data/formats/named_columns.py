"""One table with named columns: CSV, TSV or Parquet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from kgrec.data.csv_files import header_fields, line_of, read_csv
from kgrec.data.dates import expected_time, plain_numbers, seconds
from kgrec.data.formats.headers import NAMES, all_fields, matches
from kgrec.data.parquet_files import read_parquet
from kgrec.data.raw_tables import Counts, strip_blanks
from kgrec.data.text_files import SEPARATORS, header_line, repeated_header, second_header
from kgrec.errors import DataError, quoted, several

_IDS = ("user", "item", "head", "relation", "tail", "entity", "other")


class Table:
    """One file: its columns under our names, and the line of each row.

    Args:
        path: the file.
        wanted: our names of the columns, and whether each is required.
        given: the file's own names of some columns.
        headless: whether the file has no header; its columns are then the wanted columns in order.
        other_items: whether the file need not name the items' column as the interactions do.

    Attributes:
        frame: all columns of the file.
        columns: our name to the file's, for every wanted column that the file has.
        unused: the file's other columns.

    Raises:
        DataError: the file is malformed or a required column is missing.
    """

    def __init__(
        self,
        path: Path,
        wanted: Mapping[str, bool],
        given: Mapping[str, str],
        headless: bool = False,
        other_items: bool = False,
    ) -> None:
        self.path, self.header = path, not headless
        if other_items:
            given = {name: column for name, column in given.items() if name != "item"} | (
                {"item": given["item"]} if given.get("item") in all_fields(path) else {}
            )
        self.separator = ""
        if path.suffix == ".parquet":
            self.frame = read_parquet(path)
            if self.frame.is_empty():
                raise DataError(f"{path}: found no rows, expected rows")
        else:
            self.separator = self._separator(wanted, given, headless)
            self.frame = read_csv(path, self.separator, list(wanted) if headless else None)
        self.columns = _choose(path, self.frame.columns, wanted, given)
        used = set(self.columns.values())
        self.unused = [c for c in self.frame.columns if c not in used]
        for name in [name for name in _IDS if name in self.columns]:
            if self.columns[name].partition(":")[2].endswith("_seq"):
                raise DataError(
                    f"{path}: found column {self.columns[name]}, which has several values in a "
                    f"cell, expected one {name} in each (type token)"
                )
        if self.separator:
            row = repeated_header(self.frame, {c: c for c in self.frame.columns})
            if row is not None:
                raise second_header(path, line_of(path, self.separator, self.header, row))

    def _separator(
        self, wanted: Mapping[str, bool], given: Mapping[str, str], headless: bool
    ) -> str:
        """The separator with which the header names the most wanted columns.

        Raises:
            DataError: the header names wanted columns, but separates them by blanks or colons.
        """
        number, text = header_line(self.path)

        def matching(fields: list[str]) -> int:
            if headless:
                return len(fields) == len(wanted)
            return sum(bool(matches(fields, name, given)) for name in wanted)

        def fit(separator: str) -> tuple[int, int]:
            fields = header_fields(text, separator)
            return matching(fields), len(fields)

        best = max(SEPARATORS, key=fit)
        required = sum(wanted.values())
        if matching(header_fields(text, best)) < required <= matching(text.split()):
            raise DataError(
                f"{self.path}:{number}: found a header with fields separated by blanks, expected "
                "fields separated by a comma, a tab, ; or |"
            )
        return best

    def row(self, index: int) -> str:
        """File and line of a row, for messages."""
        if not self.separator:
            return f"{self.path}: row {index + 1}"
        return f"{self.path}:{line_of(self.path, self.separator, self.header, index)}"

    def first(self, wrong: pl.Series) -> str:
        """File and line of the first row for which ``wrong`` holds."""
        return self.row(int(wrong.arg_max() or 0))

    def values(self, name: str, expected: str, *others: type[pl.DataType]) -> pl.Series:
        """A column of strings, numbers or one of ``others``; categories become strings.

        Raises:
            DataError: the column has another type; ``expected`` says which types are accepted.
        """
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
        """A column of ids as strings, without blanks around them; counts the changed ids.

        Raises:
            DataError: a value is blank, or a number that is not whole.
        """
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
        values = values.cast(pl.String).alias(name)
        values = strip_blanks(values.to_frame(), [name], self.path.name, counts)[name]
        empty = (values == "").fill_null(True)
        if empty.any():
            raise DataError(f"{self.first(empty)}: found '', expected a value for {name}")
        if written_as_floats(values):
            values = values.str.strip_suffix(".0")
            where = f"column {self.columns[name]} of {self.path.name}"
            counts.append((f"ids in {where} written as 42.0, read as 42", len(values)))
        return values.alias(name)

    def numbers(self, name: str) -> pl.Series:
        """A column of finite numbers; a timestamp may also be a date of the years 1 to 9999.

        Raises:
            DataError: a value is not such a number or date.
        """
        expected = "numbers or dates" if name == "timestamp" else "numbers"
        dates = (pl.Date, pl.Datetime) if name == "timestamp" else ()
        values = self.values(name, f"{expected} ({name})", pl.Boolean, pl.Decimal, *dates)
        numbers = seconds(values) if name == "timestamp" else plain_numbers(values)
        wrong = (~numbers.is_finite()).fill_null(True)
        if wrong.any():
            value = values.filter(wrong)[0]
            expected = expected_time(value, expected) if name == "timestamp" else expected
            raise DataError(
                f"{self.first(wrong)}: found {quoted(value)}, expected {expected} ({name})"
            )
        return numbers.alias(name)

    def chosen(self, name: str, values: Mapping[str, int], expected: str) -> pl.Series:
        """A column whose values are keys of ``values``, as the numbers that the keys stand for.

        Raises:
            DataError: a value is not a key; ``expected`` lists the keys.
        """
        column = self.values(name, expected, pl.Boolean).cast(pl.String)
        small = column.str.strip_chars().str.to_lowercase()
        numbers = small.replace_strict(values, default=None, return_dtype=pl.Int8)
        wrong = numbers.is_null()
        if wrong.any():
            value = column.filter(wrong)[0]
            raise DataError(f"{self.first(wrong)}: found {quoted(value)}, expected {expected}")
        return numbers.alias(name)


def count_unused(table: Table, notes: Counts) -> None:
    """Counts the columns of a file that are not read."""
    if table.unused:
        shown = several(table.unused[:5]) + (", …" if len(table.unused) > 5 else "")
        notes.append((f"columns of {table.path.name} not used ({shown})", len(table.unused)))


def written_as_floats(ids: pl.Series) -> bool:
    """Whether all ids are like 42.0, which pandas makes of 42 where a column has gaps."""
    return ids.str.contains(r"^(?:0|-?[1-9][0-9]*)\.0$").all()


def _choose(
    path: Path, fields: list[str], wanted: Mapping[str, bool], given: Mapping[str, str]
) -> dict[str, str]:
    """Our name to the file's, for every wanted column that the file has."""
    chosen = {}
    taken = {given[name] for name in wanted if name in given}  # a rating may be called weight
    for name, required in wanted.items():
        candidates = matches(fields, name, given)
        if name not in given and not required:
            candidates = [field for field in candidates if field not in taken]
        if len(candidates) > 1:
            raise DataError(
                f"{path}: found the columns {several(candidates)}, expected one for {name}; "
                f"choose it with dataset.columns.{name}="
            )
        if candidates:
            chosen[name] = candidates[0]
        elif required or name in given:
            expected = given.get(name) or " or ".join(NAMES[name][:2])
            raise DataError(
                f"{path}: found the columns {several(fields)}, expected one for {name} "
                f"({expected}); choose it with dataset.columns.{name}="
            )
    for name, column in chosen.items():
        other = next(n for n, c in chosen.items() if c == column)
        if other != name:
            raise DataError(f"{path}: found column {column} for {other} and for {name}, expected "
                            "one for each")  # fmt: skip
    return chosen
