"""Raw files as they are in the repositories of KGCN and RippleNet.

``user_artists.dat`` | ``ratings.csv`` | ``BX-Book-Ratings.csv``; ``item_index2entity_id.txt``
(item, entity); ``kg.txt`` (head, relation, tail); and, for names, the ``movies.csv`` of MovieLens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from kgrec.data.csv_files import line_of, read_csv
from kgrec.data.field_files import field_pieces, read_fields
from kgrec.data.formats.writing import append_rows, blank, padded, unfit, unwritable, write_rows
from kgrec.data.raw_tables import TRIPLE, Counts, RawTables, named_items, strip_blanks
from kgrec.data.rows import Rows, gather
from kgrec.data.text_files import (
    first_line,
    malformed,
    read_lines,
    repeated_header,
    second_header,
)
from kgrec.errors import DataError

_STRINGS = dict.fromkeys(("user", "item"), pl.String)


def _read_user_artists(path: Path, counts: Counts) -> Iterator[pl.DataFrame]:
    return _read_headed(path, {**_STRINGS, "rating": pl.Float64}, "\t", counts)


def _read_movielens(path: Path, counts: Counts) -> Iterator[pl.DataFrame]:
    columns = {**_STRINGS, "rating": pl.Float64, "timestamp": pl.Float64}
    return _read_headed(path, columns, ",", counts)


def _read_headed(
    path: Path, columns: dict[str, type[pl.DataType]], separator: str, counts: Counts
) -> Iterator[pl.DataFrame]:
    number, text = first_line(path)
    fields = text.split(separator)
    if len(fields) == len(columns) and fields[2].replace(".", "", 1).isdigit():
        raise malformed(path, number, text, "a header")
    return field_pieces(path, columns, counts, separator, header=True)


def _read_book_crossing(path: Path, counts: Counts) -> Iterator[pl.DataFrame]:
    """``"user";"ISBN";"rating"`` in Latin-1; some lines of the public file are broken."""
    lines = read_lines(path, encoding="latin-1")
    repeated = lines[1:].filter(pl.col("text") == lines["text"][0])
    if not repeated.is_empty():
        raise second_header(path, repeated["line"][0])
    fields = lines["text"].str.extract_groups(r'^"(\d+)";"(.+)";"(\d+)"$').struct.unnest()
    fields.columns = ["user", "item", "rating"]
    if fields["rating"][0] is not None:
        raise malformed(path, lines["line"][0], lines["text"][0], "a header")
    fields = fields[1:]
    whole = fields.drop_nulls().filter(pl.col("item").str.strip_chars() != "")
    if whole.is_empty():
        raise DataError(f'{path}: found no line of the form "user";"ISBN";"rating", expected some')
    counts.append((f"broken lines of {path.name}, skipped", fields.height - whole.height))
    frame = whole.with_columns(pl.col("rating").cast(pl.Float64))
    return iter([strip_blanks(frame, ("user", "item"), path.name, counts)])


RATINGS: dict[str, Callable[[Path, Counts], Iterator[pl.DataFrame]]] = {
    "user_artists.dat": _read_user_artists,
    "ratings.csv": _read_movielens,
    "BX-Book-Ratings.csv": _read_book_crossing,
}
INDEX = ("item_index2entity_id.txt", "item_index2entity_id_rehashed.txt")
GRAPH = ("kg.txt", "kg_rehashed.txt")
NAMES = ("movies.csv",)


def _first(folder: Path, names: Sequence[str]) -> Path:
    return next(folder / name for name in names if (folder / name).is_file())


def read_index(path: Path, counts: Counts) -> pl.DataFrame:
    """``item, entity`` of an item index file."""
    return read_fields(path, {"item": pl.String, "entity": pl.String}, counts)


def read(folder: Path, rows: Rows | None = None) -> RawTables:
    """Reads raw ratings, item index and graph.

    Args:
        folder: the folder.
        rows: place for the interactions, which are then read piece by piece; None: they are read
            into a table.
    """
    ratings = _first(folder, list(RATINGS))
    others = [name for name in RATINGS if name != ratings.name and (folder / name).is_file()]
    if others:
        raise DataError(
            f"{folder}: found {ratings.name} and {others[0]}, expected one file of ratings"
        )
    counts: Counts = []
    interactions = gather(RATINGS[ratings.name](ratings, counts), rows)
    names = None
    if (path := folder / NAMES[0]).is_file():
        table = read_csv(path, ",")
        if table.width < 2:
            raise malformed(path, *first_line(path), "a header with movieId and title")
        item, name, *_ = table.columns
        row = repeated_header(table, {c: c for c in table.columns})
        if row is not None:
            raise second_header(path, line_of(path, ",", True, row))
        names = table.select(item=item, name=name)
        names = strip_blanks(names, ["item"], path.name, counts)
        names = named_items(names, path.name, counts)
    return RawTables(
        interactions=interactions,
        links=read_index(_first(folder, INDEX), counts),
        triples=read_fields(_first(folder, GRAPH), dict.fromkeys(TRIPLE, pl.String), counts),
        item_names=names,
        counts=counts,
        rows=rows,
    )


# The header of each ratings file: its fields and their separator.
_LAYOUTS = {
    "user_artists.dat": (["userID", "artistID", "weight"], "\t"),
    "ratings.csv": (["userId", "movieId", "rating", "timestamp"], ","),
    "BX-Book-Ratings.csv": (["User-ID", "ISBN", "Book-Rating"], ";"),
}


def cannot_hold(raw: RawTables) -> list[str]:
    """Lists the content of raw tables that these files cannot hold."""
    # Names are quoted; a comma separates only the fields of ratings.csv.
    losses = unwritable(replace(raw, item_names=None), given_splits=False, negatives=False)
    if raw.item_names is not None:
        losses += blank(raw.item_names, ("item", "name")) + padded(raw.item_names, ["item"])
    if raw.has_texts:
        losses.append("item texts")
    if "timestamp" in raw.interactions.columns:
        losses += unfit(raw.interactions, ("user", "item"), ",")
    if "rating" not in raw.interactions.columns:
        losses.append("that there are no ratings (these files need one in every row)")
    return losses


def write(
    folder: Path,
    raw: RawTables,
    interactions: Iterable[pl.DataFrame],
    ratings: str | None = None,
) -> None:
    """Writes ratings, item index, graph and names.

    Args:
        folder: an empty folder.
        raw: links, triples, names, and the columns of the interactions.
        interactions: the rows, in pieces.
        ratings: name of the ratings file; None: a file that can hold the columns.
    """
    timed = "timestamp" in raw.interactions.columns
    name = ratings or ("ratings.csv" if timed else "user_artists.dat")
    header, separator = _LAYOUTS[name]
    columns = ["user", "item", "rating", *(["timestamp"] if name == "ratings.csv" else [])]
    path = folder / name
    book = name == "BX-Book-Ratings.csv"
    quote = '"' if book else ""
    path.write_text(separator.join(f"{quote}{h}{quote}" for h in header) + "\n")
    for rows in interactions:
        append_rows(path, rows.select(columns), separator, quoted=book)
    write_rows(folder / INDEX[0], raw.links.select("item", "entity"), "\t")
    write_rows(folder / GRAPH[0], raw.triples.select(TRIPLE), "\t")
    if raw.item_names is not None and not raw.item_names.is_empty():
        raw.item_names.select(movieId="item", title="name").write_csv(folder / NAMES[0])
