"""What the writers of all text formats share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from kgrec.data.raw_tables import TRIPLE, RawTables


def append_rows(path: Path, rows: pl.DataFrame, separator: str, quoted: bool = False) -> None:
    """Adds rows to the end of a text file, numbers that are whole without a point."""
    floats = [name for name, kind in rows.schema.items() if kind == pl.Float64]
    whole = [n for n in floats if ((rows[n] == rows[n].round()) & (rows[n].abs() < 2**53)).all()]
    rows = rows.with_columns(pl.col(whole).cast(pl.Int64))
    with path.open("ab") as file:
        rows.write_csv(
            file,
            include_header=False,
            separator=separator,
            quote_style="always" if quoted else "never",
        )


def write_rows(path: Path, rows: pl.DataFrame, separator: str, header: str | None = None) -> None:
    """Writes rows to a new text file, below a header if there is one."""
    path.write_text("" if header is None else header + "\n", encoding="utf-8")
    append_rows(path, rows, separator)


def unwritable(
    raw: RawTables,
    *,
    given_splits: bool = True,
    negatives: bool = True,
    ratings: bool = True,
    timestamps: bool = True,
    names: bool = True,
    separators: str = "\t",
) -> list[str]:
    """What a plain text format, which lacks the things that are False, would lose of tables.

    Args:
        raw: the tables.
        given_splits: whether the format knows parts.
        negatives: whether it knows label-0 rows.
        ratings: whether it knows ratings.
        timestamps: whether it knows times.
        names: whether it knows item names.
        separators: characters that an id must not have in it, beside those that end a line.
    """
    columns = raw.interactions.columns
    held = {
        f"given splits ({', '.join(raw.given_parts)})": given_splits or "part" not in columns,
        "negatives": negatives or raw.negatives is None,
        "ratings": ratings or "rating" not in columns,
        "timestamps": timestamps or "timestamp" not in columns,
        "item names": names or raw.item_names is None,
    }
    found = [what for what, kept in held.items() if not kept] + without_rows(raw)
    for table, ids in id_columns(raw):
        found += unfit(table, ids, separators)
    return found


def id_columns(raw: RawTables) -> list[tuple[pl.DataFrame, tuple[str, ...]]]:
    """Every table that there is, with its columns of strings."""
    tables: list[tuple[pl.DataFrame | None, tuple[str, ...]]] = [
        (raw.interactions, ("user", "item")),
        (raw.links, ("item", "entity")),
        (raw.triples, TRIPLE),
        (raw.negatives, ("user", "item")),
        (raw.item_names, ("item", "name")),
    ]
    return [(table, columns) for table, columns in tables if table is not None]


def unfit(table: pl.DataFrame, columns: Iterable[str], separators: str) -> list[str]:
    """The columns in which a string would not come back as it is from a file without quotes."""
    pattern = f"^[\\s\ufeff]|\\s$|^$|[\n\r{separators}]"
    found = []
    for column in columns:
        bad = table[column].filter(table[column].str.contains(pattern))
        if len(bad):
            found.append(f"{column} {bad[0]!r} (separators, line ends or blanks around it)")
    return found


def blank(table: pl.DataFrame, columns: Iterable[str]) -> list[str]:
    """The columns in which a string is blank, which no reader takes."""
    return [f"blank values of {c}" for c in columns if (table[c].str.strip_chars() == "").any()]


def without_rows(raw: RawTables) -> list[str]:
    """The tables that every format needs, where they are empty."""
    tables = {"interactions": raw.interactions, "links": raw.links, "triples": raw.triples}
    return [f"that there are no {name}" for name, table in tables.items() if table.is_empty()]


def write_table(path: Path, pieces: Iterable[pl.DataFrame]) -> None:
    """Writes rows that come in pieces to one CSV or Parquet file, one piece in memory at a time."""
    if path.suffix != ".parquet":
        with path.open("wb") as file:
            for number, piece in enumerate(pieces):
                piece.write_csv(file, include_header=number == 0)
        return
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        parts = []
        for number, piece in enumerate(pieces):
            parts.append(Path(folder) / f"{number}.parquet")
            piece.write_parquet(parts[-1])
        pl.scan_parquet(parts, glob=False).sink_parquet(path)
