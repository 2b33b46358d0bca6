"""Lines of plain text files, and errors that name the number of a line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl

from kgrec.errors import LONGEST_NAME, DataError, several

BLOCK = 1 << 24
"""Bytes that are read at once, extended to the end of a line."""

SEPARATORS = (",", "\t", ";", "|")
MOST_COLUMNS = 50_000


def repeated_header(frame: pl.DataFrame, names: Mapping[str, str]) -> int | None:
    """Position of the first row whose cells are all the names in the header, or None.

    Such a row comes of joining two files (``cat a.csv b.csv``). A row in which some cells are
    names of their columns is data.

    Args:
        frame: the rows below the header, as strings.
        names: for each column of the file, its name in the header.
    """
    rows = pl.int_range(frame.height, eager=True)
    columns = dict(zip(frame.columns, frame.iter_columns(), strict=True))
    for column, name in names.items():  # few rows are left after the first column
        rows = rows.filter(columns[column].gather(rows).str.strip_chars() == name.strip())
        if rows.is_empty():
            return None
    return int(rows[0])


def second_header(path: Path, line: int) -> DataError:
    """The error for a header in the middle of a file."""
    return DataError(
        f"{path}:{line}: found the header a second time, expected it only at the top (files that "
        "were joined? remove this line)"
    )


def first_line(path: Path) -> tuple[int, str]:
    """Number and text of the first line that is not blank.

    Raises:
        DataError: the file is missing, empty, blank, or its beginning is not UTF-8.
    """
    for lines in _lines(path, "utf-8", block=1 << 16):
        if not lines.is_empty():
            number, text = lines.row(0)
            return number, text
    raise no_lines(path)


def header_line(path: Path) -> tuple[int, str]:
    """Number and text of the first line that is not blank, which may have very many columns.

    Raises:
        DataError: as :func:`first_line`, or the line has more than 50,000 columns.
    """
    number, text = first_line(path)
    columns = 1 + max(text.count(separator) for separator in SEPARATORS)
    if columns > MOST_COLUMNS:
        expected = f"a header of at most {MOST_COLUMNS:,} columns, not {columns:,}"
        raise malformed(path, number, text, expected)
    return number, text


def read_lines(path: Path, encoding: str = "utf-8") -> pl.DataFrame:
    """Reads a text file as ``line`` (number from 1) and ``text``, without blank lines.

    Raises:
        DataError: the file is missing, empty or not in the given encoding.
    """
    frame = pl.concat([_NO_LINES, *_lines(path, encoding, BLOCK)])
    if frame.is_empty():
        raise no_lines(path)
    return frame


_NO_LINES = pl.DataFrame(schema={"line": pl.UInt32, "text": pl.String})


def _lines(path: Path, encoding: str, block: int) -> Iterator[pl.DataFrame]:
    """Yields ``line, text`` of the lines that are not blank, block by block."""
    before = 0
    for piece in text_blocks(path, block):
        yield block_lines(path, piece, before, encoding)
        before += piece.count(b"\n")


def block_lines(path: Path, block: bytes, before: int, encoding: str = "utf-8") -> pl.DataFrame:
    """``line, text`` of the lines of a block that are not blank.

    Args:
        path: the file, for messages.
        block: whole lines of it.
        before: number of lines before the block.
        encoding: encoding of the file.

    Raises:
        DataError: the block is not in the encoding.
    """
    try:
        text = block.decode(encoding)
    except UnicodeDecodeError as error:
        line = before + 1 + block.count(b"\n", 0, error.start)
        raise not_utf8(path, line, error) from None
    if before == 0:
        text = text.removeprefix("\ufeff")
    lines = pl.Series("text", [text.removesuffix("\n")]).str.split("\n").explode()
    return (
        lines.str.strip_chars_end("\r")
        .to_frame()
        .with_row_index("line", offset=before + 1)
        .filter(pl.col("text").str.strip_chars() != "")
    )


def require_file(path: Path, expected: str) -> None:
    """Raises DataError where there is no file, or one without an end, such as a pipe."""
    if not path.is_file():
        there = os.path.lexists(path)
        found = "a folder, a dead link or a device" if there else "no such file"
        raise DataError(f"{path}: found {found}, expected {expected}")


def text_blocks(path: Path, size: int) -> Iterator[bytes]:
    """Yields the bytes of a file in whole lines, at least ``size`` bytes at once."""
    require_file(path, "a text file")
    try:
        with path.open("rb") as file:
            while piece := file.read(size):
                yield piece if piece.endswith(b"\n") else piece + file.readline()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; expected a readable file") from None


def no_lines(path: Path) -> DataError:
    """The error for a file without a line that is not blank."""
    kind = "only blank lines" if path.stat().st_size else "an empty file"
    return DataError(f"{path}: found {kind}, expected lines of data")


# First bytes of files that are no text in UTF-8.
_KINDS = {
    b"\x1f\x8b": "a gzip file, expected the text that it holds",
    b"\x28\xb5\x2f\xfd": "a zstd file, expected the text that it holds",
    b"PK\x03\x04": "a zip file (or a workbook), expected the text that it holds",
    b"PAR1": "a Parquet file, expected text, or the ending .parquet",
    b"\xff\xfe": "text in UTF-16, expected UTF-8",
    b"\xfe\xff": "text in UTF-16, expected UTF-8",
}


def compressed(path: Path) -> bool:
    """Whether polars would unpack a file before reading it, however large its content is."""
    try:
        with path.open("rb") as file:
            return packed(file.read(4))
    except OSError:  # the careful reader explains it
        return True


def packed(start: bytes) -> bool:
    """Whether polars takes content that begins with these bytes for a compressed file."""
    return start[:2] in (b"\x1f\x8b", b"x\x01", b"x\x5e", b"x\x9c", b"x\xda") or (
        start == b"\x28\xb5\x2f\xfd"
    )


def not_utf8(path: Path, line: int, error: UnicodeDecodeError) -> DataError:
    """The error for a line in another encoding."""
    if line == 1:
        for start, kind in _KINDS.items():
            if error.object.startswith(start):
                return DataError(f"{path}: found {kind}")
    byte = error.object[error.start]
    return DataError(f"{path}:{line}: found the byte 0x{byte:02x}, expected UTF-8 text")


def malformed(path: Path, line: int, text: str, expected: str) -> DataError:
    """The error for one line of a file, of which ``text`` is wrong."""
    shown = text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 3] + "..."
    return DataError(f"{path}:{line}: found {shown!r}, expected {expected}")


def split_fields(
    lines: pl.DataFrame, path: Path, columns: Sequence[str], separator: str = "\t"
) -> pl.DataFrame:
    """Splits ``text`` into exactly ``columns`` and keeps ``line`` for later messages.

    Raises:
        DataError: a line has another number of fields.
    """
    layout = f"{len(columns)} fields ({several(columns)}) separated by {separator!r}"
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
    """Raises DataError where an id is blank; returns the frame unchanged."""
    for column in columns:
        empty = frame.filter(pl.col(column).str.strip_chars().fill_null("") == "")
        if not empty.is_empty():
            raise malformed(path, empty["line"][0], "", f"a value for {column}")
    return frame


def parse_number(frame: pl.DataFrame, path: Path, column: str, description: str) -> pl.DataFrame:
    """Casts a column of strings to finite floats; blanks around them are accepted.

    Raises:
        DataError: a value is not a finite number.
    """
    number = pl.col(column).str.strip_chars().cast(pl.Float64, strict=False)
    bad = frame.filter(number.is_null() | ~number.is_finite())
    if not bad.is_empty():
        raise malformed(path, bad["line"][0], bad[column][0] or "", f"a number ({description})")
    return frame.with_columns(number)


def whole_number(column: str) -> pl.Expr:
    """Whether a string is a whole number from 0 to 2³¹ - 1, without sign or leading zeros."""
    number = pl.col(column).cast(pl.UInt32, strict=False)
    canonical = number.is_not_null() & (number.cast(pl.String) == pl.col(column))
    return canonical & (number < 2**31)
