"""Files on users, as CSV, TSV or Parquet: attributes of users, and links between them.

``users.*`` (user, and a column for each attribute), ``user_attributes.*`` (user, relation, entity;
``kgrec data build`` writes it) and ``user_links.*`` (user, other; optionally relation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from kgrec.data.formats.headers import all_fields, matches
from kgrec.data.formats.named_columns import Table, count_unused
from kgrec.data.raw_tables import Counts, RawTables

USER_FILES = ("users", "user_attributes", "user_links")
LINK = "user.link"  # relation of links between users whose file has no column of relations

Frame = pl.DataFrame | None


def read_user_tables(
    paths: Sequence[Path | None],
    given: Mapping[str, str],
    counts: Counts,
    notes: Counts,
) -> tuple[Frame, Frame, Frame]:
    """Columns, attributes and links of users as in :class:`RawTables`, None without a file.

    Args:
        paths: the files of :data:`USER_FILES`, or None.
        given: the user's own names of columns, used where a file has them.
        counts: list to which changes of ids are added.
        notes: list to which columns that are not read are added.

    Raises:
        DataError: a file is malformed.
    """

    def table(path: Path, wanted: Mapping[str, bool]) -> Table:
        fields = all_fields(path)
        own = {name: column for name, column in given.items() if column in fields}
        return Table(path, wanted, own)

    columns, attributes, links = paths
    of_columns = of_attributes = of_links = None
    if columns is not None and not matches(all_fields(columns), "user", given):
        counts.append((f"{columns.name} has no column user, not read", 1))
    elif columns is not None:
        read = table(columns, {"user": True})
        cells = [_texts(read.frame[name]) for name in read.unused if name != "user"]
        of_columns = pl.DataFrame([read.ids("user", counts), *cells])
    if attributes is not None:
        read = table(attributes, dict.fromkeys(("user", "relation", "entity"), True))
        count_unused(read, notes)
        of_attributes = pl.DataFrame([read.ids(name, counts) for name in read.columns])
    if links is not None:
        read = table(links, {"user": True, "other": True, "relation": False})
        count_unused(read, notes)
        of_links = pl.DataFrame([read.ids(name, counts) for name in read.columns])
        if "relation" not in of_links.columns:
            of_links = of_links.with_columns(relation=pl.lit(LINK))
        of_links = of_links.select("user", "relation", "other")
    return of_columns, of_attributes, of_links


def _texts(cells: pl.Series) -> pl.Series:
    """Cells as strings, or lists of strings; null where blank. Other types stay as they are."""
    kind = cells.dtype
    if isinstance(kind, pl.List | pl.Array) and not kind.inner.is_nested():
        return cells.cast(pl.List(pl.String))
    if kind.is_nested() or kind in (pl.Binary, pl.Object, pl.Duration):
        return cells
    texts = cells.cast(pl.String).str.strip_chars()
    return texts.set((texts == "").fill_null(False), None)


def lists_of_users(raw: RawTables) -> list[str]:
    """Columns of users that are lists, which a text file with named columns cannot hold."""
    if raw.user_columns is None:
        return []
    return [
        f"the type {kind} in column {name} of users"
        for name, kind in raw.user_columns.schema.items()
        if kind != pl.String
    ]
