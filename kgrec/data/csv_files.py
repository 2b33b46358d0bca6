"""Comma-separated files with a header, quoted as RFC 4180 says, as tables of strings."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from kgrec.data.text_files import first_line, malformed
from kgrec.errors import DataError

SEPARATORS = (",", "\t", ";", "|")

# A field of free text may be long, but no field is a whole file.
csv.field_size_limit(1 << 24)


def read_csv(path: Path, separator: str, columns: list[str] | None = None) -> pl.DataFrame:
    """Reads a quoted file as strings, rows without any field left out.

    Args:
        path: of the file.
        separator: between fields.
        columns: their names, for a file without a header; None: the first line names them.

    Raises:
        DataError: the file is missing, empty, not UTF-8, has a column twice or a row with
            another number of fields; with the number of the line.
    """
    number, text = first_line(path)
    names = columns or header_fields(text, separator)
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise malformed(path, number, text, f"each column once, but {twice!r} stands there twice")
    try:
        frame = pl.read_csv(
            path,
            has_header=False,
            skip_rows=number - (columns is not None),
            separator=separator,
            schema=dict.fromkeys(names, pl.String),
            raise_if_empty=False,
            glob=False,
        )
    except pl.exceptions.PolarsError as error:
        _name_the_line(path, separator, names, columns is None)
        raise DataError(f"{path}: {error}; expected a table with {', '.join(names)}") from None
    if frame.select(pl.last().is_null().any()).item():
        # The last field is empty, or the row is short; Python's reader knows which.
        _name_the_line(path, separator, names, columns is None)
        frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))
    frame = frame.with_columns(pl.last().str.strip_suffix("\r"))
    if frame.is_empty():
        raise DataError(f"{path}: found a header and no rows, expected rows")
    return frame


def header_fields(text: str, separator: str) -> list[str]:
    """The fields of a header line, unquoted and stripped."""
    return [field.strip() for field in next(csv.reader(io.StringIO(text), delimiter=separator))]


def _rows(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Every row that is not blank, and the line it begins on."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=separator, strict=True)
            begins = 1
            for row in reader:
                if row:
                    yield begins, row
                begins = reader.line_num + 1
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}:{begins}: {error}; expected UTF-8 text, quoted whole") from None


def _name_the_line(path: Path, separator: str, names: list[str], header: bool) -> None:
    """Raises for the first row that has another number of fields; else does nothing."""
    layout = f"{len(names)} fields ({', '.join(names)}) separated by {separator!r}"
    for index, (line, row) in enumerate(_rows(path, separator)):
        if not (header and index == 0) and len(row) != len(names):
            raise malformed(path, line, separator.join(row), layout)


def line_of(path: Path, separator: str, header: bool, row: int) -> int:
    """The line on which a row begins, counted from 0 below the header; for messages."""
    for index, (line, _) in enumerate(_rows(path, separator)):
        if index == row + header:
            return line
    return 0
