"""Reader of comma-separated files with a header, quoted as RFC 4180 says, as tables of strings.

As for plain text there are two readers. Polars reads the file; its answer is used where it cannot
differ from what the rules say. Python's reader takes the other files, row by row: it accepts blank
lines and quotation marks within a field, and names the line that is wrong.
"""

from __future__ import annotations

import csv
import io
import mmap
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import polars as pl

from kgrec.data.polars_errors import POLARS_ERRORS
from kgrec.data.text_files import compressed, header_line, malformed, not_utf8
from kgrec.errors import DataError, several, shortened

# A field of free text may be long, but no field is a whole file.
csv.field_size_limit(1 << 24)

_BLOCK = 1 << 24
_FEW_CELLS = 1 << 16


def read_csv(path: Path, separator: str, columns: list[str] | None = None) -> pl.DataFrame:
    """Reads a quoted file as strings, without blank lines; an empty field is "" or null.

    Args:
        path: the file.
        separator: character between two fields.
        columns: names of the columns of a file without a header; None: the first line is one.

    Raises:
        DataError: the file is missing, empty or not UTF-8, or it has a column twice or a row with
            another number of fields; the message has the number of the line.
    """
    number, text = header_line(path)
    header = columns is None
    if header and text.count('"') % 2:
        raise malformed(path, number, text, "a header, quoted whole and on one line")
    names = header_fields(text, separator) if columns is None else columns
    repeated = first_repeated(names)
    if repeated is not None:
        shown = shortened(repeated)
        raise malformed(path, number, text, f"each column once, but {shown!r} occurs twice")
    frame = _read_fast(path, separator, names, number if header else 0)
    if frame is None:
        frame = _read_carefully(path, separator, names, header)
    if frame.is_empty():
        raise DataError(f"{path}: found a header and no rows, expected rows")
    return frame


def first_repeated(names: Sequence[str]) -> str | None:
    """The first name that occurs before, or None."""
    before: set[str] = set()
    for name in names:
        if name in before:
            return name
        before.add(name)
    return None


def header_fields(text: str, separator: str) -> list[str]:
    """The fields of a header line, without quotation marks and outer blanks."""
    try:
        fields = next(csv.reader(io.StringIO(text), delimiter=separator))
    except csv.Error:  # a carriage return in the middle
        return [text]
    return [field.strip() for field in fields]


def _read_fast(path: Path, separator: str, names: list[str], header: int) -> pl.DataFrame | None:
    """All rows below the line ``header``, or None where polars may be wrong."""
    if len(names) == 1 or not takes_little_memory(path, separator, len(names)):
        return None
    mark = separator.encode()
    try:
        frame = pl.read_csv(
            path,
            has_header=False,
            skip_rows=header,
            separator=separator,
            schema=dict.fromkeys(names, pl.String),
            raise_if_empty=False,
            glob=False,
        )
    except POLARS_ERRORS:
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if re.search(rb"\r(?!\n)", data):
            return None
        if data.find(b'"') < 0:
            # No row is too long for polars, so none is too short if the number is right.
            marks = count(data, mark)
            return frame if marks == (frame.height + (header > 0)) * (len(names) - 1) else None
        # Polars fills a short row with nulls and overlooks a separator at the very end; it leaves
        # a mark or a line end that it does not understand within the cell.
        short = frame[names[-1]].null_count() > 0 or data[-1:] == mark
        unclear = pl.any_horizontal(pl.all().str.contains('["\r\n]').any())
        return None if short or frame.select(unclear).item() else frame


def takes_little_memory(path: Path, separator: str, columns: int) -> bool:
    """Whether polars reads a file into memory in proportion to its size.

    It does not unpack the file, and it fills few short rows with nulls.
    """
    if not path.is_file() or path.stat().st_size == 0 or compressed(path):
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        lines, marks = count(data, b"\n") + 1, count(data, separator.encode())
    return lines * columns <= 2 * (lines + marks) + _FEW_CELLS


def count(data: mmap.mmap, byte: bytes) -> int:
    """How often a byte occurs in a mapped file."""
    blocks = (data[start : start + _BLOCK] for start in range(0, len(data), _BLOCK))
    return sum(block.count(byte) for block in blocks)


def _read_carefully(path: Path, separator: str, names: list[str], header: bool) -> pl.DataFrame:
    layout = f"{len(names)} fields ({several(names)}) separated by {separator!r}"

    def fields() -> Iterator[list[str]]:
        for line, row in islice(_rows(path, separator), int(header), None):
            if len(row) != len(names):
                raise malformed(path, line, separator.join(row), layout)
            yield row

    rows = fields()
    frames = [pl.DataFrame(schema=dict.fromkeys(names, pl.String))]
    while block := list(islice(rows, 1 << 10)):  # few at a time: less garbage collection
        columns = [pl.Series(column, dtype=pl.String) for column in zip(*block, strict=True)]
        frames.append(pl.DataFrame(dict(zip(names, columns, strict=True))))
    return pl.concat(frames, rechunk=True)


def _rows(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yields every row that is not blank, with the line on which it begins."""
    reader = csv.reader(_lines(path), delimiter=separator, strict=True)
    begins = 1
    try:
        for row in reader:
            if len(row) > 1 or (row and row[0].strip()):
                yield begins, row
            begins = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}:{begins}: {error}; expected fields quoted whole") from None


def _lines(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise not_utf8(path, number, error) from None


def line_of(path: Path, separator: str, header: bool, row: int) -> int:
    """The line on which a row (counted from 0 below the header) begins; for messages."""
    for index, (line, _) in enumerate(_rows(path, separator)):
        if index == row + header:
            return line
    return 0
