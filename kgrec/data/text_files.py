"""Text files as tables of strings, with the line number that a message needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from kgrec.errors import DataError

# Some byte that no line of text holds: makes a CSV reader a fast line reader.
_NEVER = "\x1e"


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
            separator=_NEVER,
            quote_char=None,
            infer_schema=False,
            raise_if_empty=False,
        )
    except pl.exceptions.ComputeError as error:
        raise DataError(f"{path}{_undecodable_line(path)}: {error}; expected UTF-8 text") from None
    if frame.width > 1:
        raise DataError(f"{path}: found a control character (0x1E), expected plain text")
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
