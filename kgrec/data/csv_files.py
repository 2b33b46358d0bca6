"""Comma-separated files with a header, quoted as RFC 4180 says, as tables of strings.

As with plain text there are two readers. The fast one is polars', which is right where every
quotation mark stands at the edge of a field and every row has all fields; one look at the bytes
tells. Python's takes the other files, row by row: it forgives blank lines and marks in the middle
of a field, and names the line that is wrong.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl

from kgrec.data.text_files import first_line, malformed, not_utf8
from kgrec.errors import DataError

SEPARATORS = (",", "\t", ";", "|")

# A field of free text may be long, but no field is a whole file.
csv.field_size_limit(1 << 24)

_BLOCK = 1 << 24


def read_csv(path: Path, separator: str, columns: list[str] | None = None) -> pl.DataFrame:
    """Reads a quoted file as strings, blank lines left out; an empty field is "" or null.

    Args:
        path: of the file.
        separator: between fields.
        columns: their names, for a file without a header; None: the first line names them.

    Raises:
        DataError: the file is missing, empty, not UTF-8, has a column twice or a row with
            another number of fields; with the number of the line.
    """
    number, text = first_line(path)
    header = columns is None
    if header and text.count('"') % 2:
        raise malformed(path, number, text, "a header, quoted whole and on one line")
    names = header_fields(text, separator) if columns is None else columns
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise malformed(path, number, text, f"each column once, but {twice!r} stands there twice")
    frame = _read_fast(path, separator, names, number if header else 0)
    if frame is None:
        frame = _read_carefully(path, separator, names, header)
    if frame.is_empty():
        raise DataError(f"{path}: found a header and no rows, expected rows")
    return frame


def header_fields(text: str, separator: str) -> list[str]:
    """The fields of a header line, unquoted and stripped."""
    try:
        fields = next(csv.reader(io.StringIO(text), delimiter=separator))
    except csv.Error:  # a carriage return in the middle
        return [text]
    return [field.strip() for field in fields]


def _read_fast(path: Path, separator: str, names: list[str], header: int) -> pl.DataFrame | None:
    """All rows below the line ``header``, or None where only the careful reader is right."""
    separators = _separators(path, separator)
    if separators is None or len(names) == 1:
        return None
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
    except pl.exceptions.PolarsError:
        return None
    # No row is too long for polars, so that none is too short if the sum is right.
    rows = frame.height + (header > 0)
    return frame if separators == rows * (len(names) - 1) else None


def _separators(path: Path, separator: str) -> int | None:
    """The separators outside quotation marks; None where a mark or a CR stands amid a field."""
    data: np.ndarray = np.memmap(path, np.uint8, "r")
    if data[:3].tobytes() == b"\xef\xbb\xbf":
        data = data[3:]
    edge = np.zeros(256, bool)
    edge[list(f'\r\n"{separator}'.encode())] = True
    last = len(data) - 1
    count, inside = 0, 0
    for start in range(0, len(data), _BLOCK):
        block = data[start : start + _BLOCK]
        marks = np.flatnonzero(block == ord('"')) + start
        before, after = data[np.maximum(marks - 1, 0)], data[np.minimum(marks + 1, last)]
        returns = np.flatnonzero(block == ord("\r")) + start
        if not (
            edge[before[inside::2]].all()
            and edge[after[1 - inside :: 2]].all()
            and (data[np.minimum(returns + 1, last)] == ord("\n")).all()
        ):
            return None
        found = block == ord(separator)
        if len(marks) or inside:
            quoted = np.bitwise_xor.accumulate((block == ord('"')).view(np.uint8)) ^ inside
            found &= quoted == 0
        count += int(np.count_nonzero(found))
        inside = (inside + len(marks)) % 2
    return None if inside else count


def _read_carefully(path: Path, separator: str, names: list[str], header: bool) -> pl.DataFrame:
    layout = f"{len(names)} fields ({', '.join(names)}) separated by {separator!r}"

    def fields() -> Iterator[list[str]]:
        for line, row in islice(_rows(path, separator), int(header), None):
            if len(row) != len(names):
                raise malformed(path, line, separator.join(row), layout)
            yield row

    rows = fields()
    frames = [pl.DataFrame(schema=dict.fromkeys(names, pl.String))]
    while some := list(islice(rows, 1 << 10)):  # few at a time, which spares the garbage collector
        columns = [pl.Series(column, dtype=pl.String) for column in zip(*some, strict=True)]
        frames.append(pl.DataFrame(dict(zip(names, columns, strict=True))))
    return pl.concat(frames, rechunk=True)


def _rows(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Every row that is not blank, and the line it begins on."""
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
    """The line on which a row begins, counted from 0 below the header; for messages."""
    for index, (line, _) in enumerate(_rows(path, separator)):
        if index == row + header:
            return line
    return 0
