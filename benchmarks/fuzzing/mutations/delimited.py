"""Mutations of text files with fields: cells, rows, columns, separators, quotes, encodings."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from fuzzing.mutations.values import NUMBERS, text

SEPARATORS = ("\t", ",", ";", "|", " ", "::", "=")
_ENCODINGS = ("latin-1", "utf-16", "utf-8-sig", "utf-16-le", "cp1252", "utf-32")
_WIDE = 2000  # columns
_LONG = 3000  # rows

Rows = list[list[str]]
Change = Callable[[Rows, Random], Rows]


def cell(rows: Rows, luck: Random) -> Rows:
    """Replaces cells."""
    for _ in range(luck.choice((1, 1, 1, 2, 5))):
        row = luck.choice(rows)
        row[luck.randrange(len(row))] = text(luck)
    return rows


def copied_cell(rows: Rows, luck: Random) -> Rows:
    """Copies a cell to another place: ids meet ids of another kind."""
    source, row = luck.choice(rows), luck.choice(rows)
    row[luck.randrange(len(row))] = luck.choice(source)
    return rows


def column(rows: Rows, luck: Random) -> Rows:
    """Writes one value into a whole column below the first row."""
    place, value = luck.randrange(max(map(len, rows))), text(luck)
    for row in rows[luck.randint(0, 1) :]:
        if place < len(row):
            row[place] = value
    return rows


def numbers(rows: Rows, luck: Random) -> Rows:
    """Writes odd numbers into a whole column below the first row."""
    place = luck.randrange(max(map(len, rows)))
    for row in rows[1:]:
        if place < len(row):
            row[place] = luck.choice(NUMBERS)
    return rows


def drop_column(rows: Rows, luck: Random) -> Rows:
    """Leaves out a column, in all rows or from one row on."""
    place, start = luck.randrange(max(map(len, rows))), luck.choice((0, 0, luck.randrange(9)))
    return [r[:place] + r[place + 1 :] if i >= start else r for i, r in enumerate(rows)]


def repeat_column(rows: Rows, luck: Random) -> Rows:
    """Repeats a column, once or very often."""
    place, times = luck.randrange(max(map(len, rows))), luck.choice((2, 2, 3, _WIDE))
    if times == _WIDE:
        rows = rows[:3]
    return [r[:place] + r[place : place + 1] * times + r[place + 1 :] for r in rows]


def swap_columns(rows: Rows, luck: Random) -> Rows:
    """Puts the columns into another order."""
    order = luck.sample(range(max(map(len, rows))), max(map(len, rows)))
    return [[r[i] for i in order if i < len(r)] for r in rows]


def drop_row(rows: Rows, luck: Random) -> Rows:
    """Leaves out a row; often the header."""
    place = luck.choice((0, luck.randrange(len(rows))))
    return rows[:place] + rows[place + 1 :]


def repeat_row(rows: Rows, luck: Random) -> Rows:
    """Repeats a row somewhere, once or very often."""
    place, times = luck.randrange(len(rows) + 1), luck.choice((1, 1, 2, _LONG))
    return rows[:place] + [list(luck.choice(rows))] * times + rows[place:]


def shuffle_rows(rows: Rows, luck: Random) -> Rows:
    """Puts the rows into another order."""
    return luck.sample(rows, len(rows))


def ragged_row(rows: Rows, luck: Random) -> Rows:
    """Makes a row longer or shorter."""
    row = luck.choice(rows)
    if luck.random() < 0.5:
        row.extend(text(luck) for _ in range(luck.choice((1, 2, 20))))
    else:
        del row[luck.randrange(len(row) + 1) :]
    return rows


def new_row(rows: Rows, luck: Random) -> Rows:
    """Inserts a row of odd texts."""
    width = luck.choice((len(rows[0]), len(rows[-1]), 1))
    rows.insert(luck.randrange(len(rows) + 1), [text(luck) for _ in range(width)])
    return rows


_CHANGES: tuple[Change, ...] = (
    cell, cell, cell, copied_cell, copied_cell, column, numbers, drop_column, repeat_column,
    swap_columns, drop_row, repeat_row, shuffle_rows, ragged_row, new_row,
)  # fmt: skip


def table(data: bytes, luck: Random) -> bytes:
    """Changes cells, rows or columns; sometimes the separator, the quotes and the line ends too."""
    content = data.decode("utf-8", errors="replace")
    separator = max(SEPARATORS, key=content.partition("\n")[0].count)
    rows = [line.split(separator) for line in content.split("\n")]
    for _ in range(luck.choice((1, 1, 2, 3))):
        rows = [row for row in luck.choice(_CHANGES)(rows, luck) if row] or [[""]]
    end = "\n" if luck.random() < 0.9 else luck.choice(("\r\n", "\r", "\n\n", "\u2028", " \n"))
    other = separator if luck.random() < 0.9 else luck.choice(SEPARATORS)
    lines = [_joined(row, other, luck.random() < 0.05) for row in rows]
    return end.join(lines).encode("utf-8", errors="surrogatepass")


def _joined(row: list[str], separator: str, quoted: bool) -> str:
    if not quoted:
        return separator.join(row)
    return separator.join('"' + cell.replace('"', '""') + '"' for cell in row)


def encode(data: bytes, luck: Random) -> bytes:
    """Writes the text in another encoding."""
    content = data.decode("utf-8", errors="replace").replace("a", luck.choice(("a", "é", "日")))
    return content.encode(luck.choice(_ENCODINGS), errors="replace")


ALL = (table, table, table, table, encode)
