"""Reader of plain text files with the same fields in every line, block by block.

Each block of lines is read in the fast way, or carefully. The fast reader lets polars parse the
block and gives up at the first irregularity. The careful reader then goes through the lines: it
accepts what is harmless (blank lines, carriage returns) and names the first line that is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from kgrec.data.polars_errors import POLARS_ERRORS
from kgrec.data.raw_tables import Counts, strip_blanks
from kgrec.data.text_files import (
    BLOCK,
    block_lines,
    first_line,
    no_lines,
    packed,
    parse_number,
    read_lines,
    repeated_header,
    require_ids,
    second_header,
    split_fields,
    text_blocks,
)
from kgrec.errors import DataError

Columns = Mapping[str, type[pl.DataType]]
"""Names in the order of the file, each with ``pl.String`` or ``pl.Float64``."""


def read_fields(
    path: Path, columns: Columns, counts: Counts, separator: str = "\t", header: bool = False
) -> pl.DataFrame:
    """All rows of :func:`field_pieces`, which see for arguments and errors."""
    return pl.concat(list(field_pieces(path, columns, counts, separator, header)))


def field_pieces(
    path: Path, columns: Columns, counts: Counts, separator: str = "\t", header: bool = False
) -> Iterator[pl.DataFrame]:
    """Yields the rows of a file in which every line has the same fields, separated and not quoted.

    Blank lines, CRLF and a UTF-8 byte order mark are accepted. Blanks around an id are stripped.

    Args:
        path: the file.
        columns: names and types in the order of the file; strings must not be blank, numbers
            must be finite.
        counts: the list to which the number of stripped ids is added, after the last piece.
        separator: character between two fields.
        header: whether the first line is a header, which is skipped.

    Raises:
        DataError: the file is missing, empty or not UTF-8, or a line does not fit or repeats the
            header; the message has the number of the line. Pieces before that line were yielded.
    """
    ids = [name for name, kind in columns.items() if kind == pl.String]
    top, names = first_line(path) if header else (0, "")
    stripped: Counter[str] = Counter()
    before = rows = 0
    for block in text_blocks(path, BLOCK):
        frame = _read_fast(block, columns, separator, before, top)
        if frame is None:
            lines = block_lines(path, block, before).filter(pl.col("line") > top)
            frame = _read_carefully(lines, path, columns, separator)
        if header and len(ids) == len(columns):  # no row with a number is a header
            fields = dict(zip(columns, names.split(separator), strict=True))
            if (row := repeated_header(frame, fields)) is not None:
                raise second_header(path, int(read_lines(path)["line"][rows + row + 1]))
        before += block.count(b"\n")
        rows += frame.height
        changes: Counts = []
        if not frame.is_empty():
            yield strip_blanks(frame, ids, path.name, changes)
        stripped.update(dict(changes))
    if not rows and header:
        raise DataError(f"{path}: found a header and no rows, expected {', '.join(columns)}")
    if not rows:
        raise no_lines(path)
    counts += stripped.items()


def _read_fast(
    block: bytes, columns: Columns, separator: str, before: int = 0, top: int = 0
) -> pl.DataFrame | None:
    """The rows of a block, or None where polars may read them in another way.

    Args:
        block: whole lines of the file.
        columns: names and types.
        separator: character between two fields.
        before: number of lines before the block.
        top: number of the last line that is skipped.
    """
    # Polars would unpack what looks packed, and take a mark for the beginning of a file.
    if packed(block[:4]) or (before and block.startswith(b"\xef\xbb\xbf")):
        return None
    try:
        frame = pl.read_csv(
            block,
            has_header=False,
            skip_rows=max(top - before, 0),
            separator=separator,
            quote_char=None,
            schema=dict(columns),
            raise_if_empty=False,
        )
    except POLARS_ERRORS:  # the careful reader explains the error
        return None
    if frame.is_empty():
        return None
    irregular = []
    for name, kind in columns.items():
        column = pl.col(name)
        irregular.append(column.is_null().any())
        if kind == pl.Float64:
            irregular.append((~column.is_finite()).any())
        else:
            irregular.append((column.str.strip_chars() == "").any())
            irregular.append(column.str.ends_with("\r").any())
    return None if frame.select(pl.any_horizontal(*irregular)).item() else frame


def _read_carefully(
    lines: pl.DataFrame, path: Path, columns: Columns, separator: str
) -> pl.DataFrame:
    """The rows of some lines, of which each must be right."""
    frame = split_fields(lines, path, list(columns), separator)
    frame = require_ids(frame, path, [n for n, kind in columns.items() if kind == pl.String])
    for name, kind in columns.items():
        if kind == pl.Float64:
            frame = parse_number(frame, path, name, name)
    return frame.drop("line")
