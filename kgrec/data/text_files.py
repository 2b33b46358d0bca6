"""Text files as tables, fast where every line fits, and with the line number where one does not.

There are two readers. The fast one lets polars parse the file and gives up at the slightest
oddity. The careful one then goes over the file as lines: it forgives what is harmless (blank
lines, carriage returns) and names the first line that is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from kgrec.errors import DataError

# Some byte that hardly any line of text holds: makes a CSV reader a fast line reader.
_RARE = "\x1e"

Columns = Mapping[str, type[pl.DataType]]
"""Names in the order of the file, each with ``pl.String`` or ``pl.Float64``."""


def read_fields(
    path: Path, columns: Columns, separator: str = "\t", header: bool = False
) -> pl.DataFrame:
    """Reads a file in which every line has the same fields, separated and not quoted.

    Blank lines, CRLF and a UTF-8 byte order mark are fine.

    Args:
        path: of the file.
        columns: names and types in the order of the file; strings must not be blank, numbers
            must be finite.
        separator: between fields, one character.
        header: whether to pass over the first line.

    Raises:
        DataError: the file is missing, empty, not UTF-8, or a line does not fit; with its number.
    """
    frame = _read_fast(path, columns, separator, header)
    return _read_carefully(path, columns, separator, header) if frame is None else frame


def _read_fast(path: Path, columns: Columns, separator: str, header: bool) -> pl.DataFrame | None:
    try:
        frame = pl.read_csv(
            path,
            has_header=False,
            skip_rows=int(header),
            separator=separator,
            quote_char=None,
            schema=dict(columns),
            raise_if_empty=False,
            glob=False,
        )
    except (OSError, pl.exceptions.PolarsError):
        return None
    if frame.is_empty():
        return None
    odd = []
    for name, kind in columns.items():
        column = pl.col(name)
        odd.append(column.is_null().any())
        if kind == pl.Float64:
            odd.append((~column.is_finite()).any())
        else:
            odd.append((column.str.strip_chars() == "").any())
            odd.append(column.str.ends_with("\r").any())
    return None if frame.select(pl.any_horizontal(*odd)).item() else frame


def _read_carefully(path: Path, columns: Columns, separator: str, header: bool) -> pl.DataFrame:
    lines = read_lines(path)
    if header:
        lines = lines[1:]
        if lines.is_empty():
            raise DataError(f"{path}: found a header and no rows, expected {', '.join(columns)}")
    frame = split_fields(lines, path, list(columns), separator)
    frame = require_ids(frame, path, [n for n, kind in columns.items() if kind == pl.String])
    for name, kind in columns.items():
        if kind == pl.Float64:
            frame = parse_number(frame, path, name, name)
    return frame.drop("line")


def first_line(path: Path) -> tuple[int, str]:
    """The first line that is not blank, and its number.

    Raises:
        DataError: the file is missing, empty, blank, or that line is not UTF-8.
    """
    if not path.is_file():
        raise DataError(f"{path}: found no such file, expected a text file")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise DataError(f"{path}:{number}: {error}; expected UTF-8 text") from None
            if text.strip():
                return number, text
    kind = "only blank lines" if path.stat().st_size else "an empty file"
    raise DataError(f"{path}: found {kind}, expected lines of data")


def read_lines(path: Path, encoding: str = "utf-8") -> pl.DataFrame:
    """Reads a text file as ``line`` (1-based number) and ``text``, blank lines left out.

    Raises:
        DataError: the file is missing, empty or not in the given encoding.
    """
    if not path.is_file():
        raise DataError(f"{path}: found no such file, expected a text file")
    source: Path | bytes = path
    if encoding != "utf-8":
        source = path.read_bytes().decode(encoding).encode("utf-8")
    try:
        frame = pl.read_csv(
            source,
            has_header=False,
            separator=_RARE,
            quote_char=None,
            infer_schema=False,
            raise_if_empty=False,
            glob=False,
        )
    except pl.exceptions.ComputeError as error:
        raise DataError(f"{path}{_undecodable_line(path)}: {error}; expected UTF-8 text") from None
    except pl.exceptions.PolarsError:
        frame = _lines_one_by_one(path, encoding)
    if frame.width > 1:
        frame = _lines_one_by_one(path, encoding)
    if frame.width == 0:
        raise DataError(f"{path}: found an empty file, expected lines of data")
    frame = (
        frame.rename({frame.columns[0]: "text"})
        .with_row_index("line", offset=1)
        .with_columns(pl.col("text").str.strip_chars_end("\r"))
        .filter(pl.col("text").is_not_null() & (pl.col("text").str.strip_chars() != ""))
    )
    if frame.is_empty():
        raise DataError(f"{path}: found only blank lines, expected lines of data")
    return frame


def _lines_one_by_one(path: Path, encoding: str) -> pl.DataFrame:
    try:
        text = path.read_bytes().decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}{_undecodable_line(path)}: {error}; expected UTF-8 text") from None
    return pl.DataFrame({"text": text.split("\n")})


def _undecodable_line(path: Path) -> str:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return f":{number}"
    return ""


def malformed(path: Path, line: int, found: str, expected: str) -> DataError:
    """The error for one line of a file."""
    shown = found if len(found) <= 80 else found[:77] + "..."
    return DataError(f"{path}:{line}: found {shown!r}, expected {expected}")


def split_fields(
    lines: pl.DataFrame, path: Path, columns: Sequence[str], separator: str = "\t"
) -> pl.DataFrame:
    """Splits ``text`` into exactly ``columns``; keeps ``line`` for later messages.

    Raises:
        DataError: a line has another number of fields, or an empty one.
    """
    layout = f"{len(columns)} fields ({', '.join(columns)}) separated by {separator!r}"
    wrong = lines.filter(
        pl.col("text").str.count_matches(separator, literal=True) != len(columns) - 1
    )
    if not wrong.is_empty():
        raise malformed(path, wrong["line"][0], wrong["text"][0], layout)
    names = [f"field_{i}" for i in range(len(columns))]
    fields = lines["text"].str.split_exact(separator, len(columns) - 1).struct.unnest()
    fields.columns = names
    return pl.concat([lines.select("line"), fields.rename(dict(zip(names, columns, strict=True)))],
                     how="horizontal")  # fmt: skip


def require_ids(frame: pl.DataFrame, path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """Raises DataError where an id is empty; returns the frame as it came."""
    for column in columns:
        empty = frame.filter(pl.col(column).str.strip_chars().fill_null("") == "")
        if not empty.is_empty():
            raise malformed(path, empty["line"][0], "", f"a value for {column}")
    return frame


def parse_number(frame: pl.DataFrame, path: Path, column: str, what: str) -> pl.DataFrame:
    """Casts a column of strings to finite floats.

    Raises:
        DataError: a value is no finite number.
    """
    number = pl.col(column).cast(pl.Float64, strict=False)
    bad = frame.filter(number.is_null() | ~number.is_finite())
    if not bad.is_empty():
        raise malformed(path, bad["line"][0], bad[column][0] or "", f"a number ({what})")
    return frame.with_columns(number)


def whole_number(column: str) -> pl.Expr:
    """Whether a string is a whole number from 0 to 2³¹ - 1, written the one usual way."""
    number = pl.col(column).cast(pl.UInt32, strict=False)
    usual = number.is_not_null() & (number.cast(pl.String) == pl.col(column))
    return usual & (number < 2**31)
