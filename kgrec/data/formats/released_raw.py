"""Raw files as in the repositories of KGCN and RippleNet.

``user_artists.dat`` | ``ratings.csv`` | ``BX-Book-Ratings.csv``; ``item_index2entity_id.txt``
(item, entity); ``kg.txt`` (head, relation, tail); and, for names, MovieLens' ``movies.csv``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from kgrec.data.csv_files import read_csv
from kgrec.data.formats.writing import append_rows, blank, unfit, unwritable, write_rows
from kgrec.data.raw_tables import TRIPLE, Counts, RawTables, named_items
from kgrec.data.text_files import first_line, malformed, read_fields, read_lines
from kgrec.errors import DataError

Counted = tuple[pl.DataFrame, Counts]

_STRINGS = dict.fromkeys(("user", "item"), pl.String)


def _read_user_artists(path: Path) -> Counted:
    return _read_headed(path, {**_STRINGS, "rating": pl.Float64}, "\t"), []


def _read_movielens(path: Path) -> Counted:
    columns = {**_STRINGS, "rating": pl.Float64, "timestamp": pl.Float64}
    return _read_headed(path, columns, ","), []


def _read_headed(path: Path, columns: dict[str, type[pl.DataType]], separator: str) -> pl.DataFrame:
    number, text = first_line(path)
    fields = text.split(separator)
    if len(fields) == len(columns) and fields[2].replace(".", "", 1).isdigit():
        raise malformed(path, number, text, "a header")
    return read_fields(path, columns, separator, header=True)


def _read_book_crossing(path: Path) -> Counted:
    """``"user";"ISBN";"rating"`` in Latin-1; some lines of the public file are broken."""
    lines = read_lines(path, encoding="latin-1")
    fields = lines["text"].str.extract_groups(r'^"(\d+)";"(.+)";"(\d+)"$').struct.unnest()
    fields.columns = ["user", "item", "rating"]
    if fields["rating"][0] is not None:
        raise malformed(path, lines["line"][0], lines["text"][0], "a header")
    fields = fields[1:]
    whole = fields.drop_nulls()
    if whole.is_empty():
        raise DataError(f'{path}: found no line of the form "user";"ISBN";"rating", expected some')
    broken = fields.height - whole.height
    frame = whole.with_columns(pl.col("rating").cast(pl.Float64))
    return frame, [(f"broken lines of {path.name}, passed over", broken)]


RATINGS: dict[str, Callable[[Path], Counted]] = {
    "user_artists.dat": _read_user_artists,
    "ratings.csv": _read_movielens,
    "BX-Book-Ratings.csv": _read_book_crossing,
}
INDEX = ("item_index2entity_id.txt", "item_index2entity_id_rehashed.txt")
GRAPH = ("kg.txt", "kg_rehashed.txt")
NAMES = ("movies.csv",)


def _first(folder: Path, names: Sequence[str]) -> Path:
    return next(folder / name for name in names if (folder / name).is_file())


def read_index(path: Path) -> pl.DataFrame:
    """``item, entity`` of an item index file."""
    return read_fields(path, {"item": pl.String, "entity": pl.String})


def read(folder: Path) -> RawTables:
    """Reads raw ratings, item index and graph."""
    ratings = _first(folder, list(RATINGS))
    others = [name for name in RATINGS if name != ratings.name and (folder / name).is_file()]
    if others:
        raise DataError(
            f"{folder}: found {ratings.name} beside {others[0]}, expected one file of ratings"
        )
    interactions, counts = RATINGS[ratings.name](ratings)
    names = None
    if (path := folder / NAMES[0]).is_file():
        table = read_csv(path, ",")
        if table.width < 2:
            raise malformed(path, *first_line(path), "a header with movieId and title")
        names = table.select(pl.nth(0).alias("item"), pl.nth(1).alias("name"))
        names = named_items(names, path.name, counts)
    return RawTables(
        interactions=interactions,
        links=read_index(_first(folder, INDEX)),
        triples=read_fields(_first(folder, GRAPH), dict.fromkeys(TRIPLE, pl.String)),
        item_names=names,
        counts=counts,
    )


# What the header of each ratings file says, its fields and what separates them.
_LAYOUTS = {
    "user_artists.dat": (["userID", "artistID", "weight"], "\t"),
    "ratings.csv": (["userId", "movieId", "rating", "timestamp"], ","),
    "BX-Book-Ratings.csv": (["User-ID", "ISBN", "Book-Rating"], ";"),
}


def losses(raw: RawTables) -> list[str]:
    """What these files cannot hold of the given tables."""
    # Names are quoted; a comma separates only the fields of ratings.csv.
    found = unwritable(replace(raw, item_names=None), given_splits=False, negatives=False)
    if raw.item_names is not None:
        found += blank(raw.item_names, ("item", "name"))
    if "timestamp" in raw.interactions.columns:
        found += unfit(raw.interactions, ("user", "item"), ",")
    if "rating" not in raw.interactions.columns:
        found.append("that there are no ratings (these files need one in every row)")
    return found


def write(
    folder: Path,
    raw: RawTables,
    interactions: Iterable[pl.DataFrame],
    ratings: str | None = None,
) -> None:
    """Writes ratings, item index, graph and names.

    Args:
        folder: where.
        raw: links, triples and names; its interactions tell the columns.
        interactions: the rows, in pieces.
        ratings: name of the ratings file; None: one that holds the columns.
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
