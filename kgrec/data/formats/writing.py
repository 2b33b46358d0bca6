"""Parts shared by the writers of all formats."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from kgrec.data.raw_tables import TRIPLE, RawTables


def append_rows(path: Path, rows: pl.DataFrame, separator: str, quoted: bool = False) -> None:
    """Adds rows to the end of a text file; whole numbers are written without a point."""
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
    """Writes rows to a new text file, below a header if one is given."""
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
    user_columns: bool = False,
    separators: str = "\t",
) -> list[str]:
    """Lists the content of tables that a plain text format cannot hold.

    Args:
        raw: the tables.
        given_splits: whether the format can hold parts.
        negatives: whether the format can hold label-0 rows.
        ratings: whether the format can hold ratings.
        timestamps: whether the format can hold times.
        names: whether the format can hold item names.
        user_columns: whether the format can hold columns of users.
        separators: characters that an id must not contain, in addition to line ends.
    """
    columns = raw.interactions.columns
    held = {
        f"given splits ({', '.join(raw.given_parts)})": given_splits or "part" not in columns,
        "negatives": negatives or raw.negatives is None,
        "ratings": ratings or "rating" not in columns,
        "timestamps": timestamps or "timestamp" not in columns,
        "weights": "weight" not in columns,
        "item names": names or raw.item_names is None,
        "item texts": not raw.has_texts,
        "entity names": raw.entity_names is None,
        "relation names": raw.relation_names is None,
        "columns of users": user_columns or raw.user_columns is None,
        "attributes of users": raw.user_attributes is None,
        "links between users": raw.user_links is None,
    }
    losses = [content for content, can_hold in held.items() if not can_hold] + without_rows(raw)
    for table, ids in id_columns(raw):
        losses += unfit(table, ids, separators)
    return losses


def id_columns(raw: RawTables) -> list[tuple[pl.DataFrame, tuple[str, ...]]]:
    """The tables that are not None, each with its columns of strings."""
    tables: list[tuple[pl.DataFrame | None, tuple[str, ...]]] = [
        (raw.interactions, ("user", "item")),
        (raw.links, ("item", "entity")),
        (raw.triples, TRIPLE),
        (raw.negatives, ("user", "item")),
        (raw.item_names, ("item", "name")),
        (raw.entity_names, ("entity", "name")),
        (raw.relation_names, ("relation", "name")),
        (raw.user_attributes, ("user", "relation", "entity")),
        (raw.user_links, ("user", "relation", "other")),
    ]
    return [(table, columns) for table, columns in tables if table is not None]


def unfit(table: pl.DataFrame, columns: Iterable[str], separators: str) -> list[str]:
    """The columns with a string that a file without quotation marks cannot give back."""
    pattern = f"^[\\s\ufeff]|\\s$|^$|[\n\r{separators}]"
    losses = []
    for column in columns:
        bad = table[column].filter(table[column].str.contains(pattern))
        if len(bad):
            losses.append(f"{column} {bad[0]!r} (separators, line ends or blanks around it)")
    return losses


def padded(table: pl.DataFrame, columns: Iterable[str]) -> list[str]:
    """The columns in which an id has blanks around it, which every reader strips."""
    return [
        f"blanks around values of {c}"
        for c in columns
        if (table[c].str.strip_chars() != table[c]).any()
    ]


def blank(table: pl.DataFrame, columns: Iterable[str]) -> list[str]:
    """The columns in which a string is blank, which no reader accepts."""
    return [f"blank values of {c}" for c in columns if (table[c].str.strip_chars() == "").any()]


def without_rows(raw: RawTables) -> list[str]:
    """The tables that every format requires and that are empty."""
    tables = {"interactions": raw.interactions, "links": raw.links, "triples": raw.triples}
    return [f"that there are no {name}" for name, table in tables.items() if table.is_empty()]


def write_table(path: Path, pieces: Iterable[pl.DataFrame]) -> None:
    """Writes pieces of rows to one CSV or Parquet file, with one piece in memory at a time."""
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
