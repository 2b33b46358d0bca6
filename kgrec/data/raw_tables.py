"""Raw tables: the content of data files, with the ids as the user wrote them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import polars as pl

from kgrec.data.rows import Rows

# Names of the parts, by the numbers in column ``part`` of interactions.
PARTS = ("train", "val", "test")

TRIPLE = ("head", "relation", "tail")

Counts = list[tuple[str, int]]
"""Lines of the account, as (description, number of rows)."""


@dataclass(frozen=True)
class RawTables:
    """Tables that a reader returns and a writer takes.

    Every id is a string, as in the files, without blanks around it.

    Attributes:
        interactions: ``user, item`` and, where the files have them, ``rating``, ``timestamp``
            (seconds since 1970) and ``weight`` (above 0; all Float64), and ``part`` (Int8, an
            index into ``PARTS``) for files that come with a split.
        links: ``item, entity``: the entities of the graph to which each item is linked.
        triples: ``head, relation, tail``.
        negatives: ``user, item`` pairs that the files give as negatives (label 0), or None.
        item_names: ``item, name`` of every item that the files list, null for an item without
            a name; None where the files list none. Where the files have texts on the items, a
            column ``text``.
        entity_names: ``entity, name`` of entities that are not items, or None.
        relation_names: ``relation, name``, or None.
        user_columns: a table of users: ``user`` and columns of attributes, as the file has them; or
            None.
        user_attributes: ``user, relation, entity``: values of attributes of users, or None.
        user_links: ``user, relation, other``: links between users, or None.
        counts: lines for the account on what the reader skipped, changed or guessed.
        notes: further lines for the account, which need no attention.
        rows: the interactions in pieces, where the reader was given a place for them;
            ``interactions`` then has the columns and no rows.
    """

    interactions: pl.DataFrame
    links: pl.DataFrame
    triples: pl.DataFrame
    negatives: pl.DataFrame | None = None
    item_names: pl.DataFrame | None = None
    entity_names: pl.DataFrame | None = None
    relation_names: pl.DataFrame | None = None
    user_columns: pl.DataFrame | None = None
    user_attributes: pl.DataFrame | None = None
    user_links: pl.DataFrame | None = None
    counts: Counts = field(default_factory=list)
    notes: Counts = field(default_factory=list)
    rows: Rows | None = None

    @property
    def has_texts(self) -> bool:
        """Whether there are texts on the items."""
        return self.item_names is not None and "text" in self.item_names.columns

    @property
    def given_parts(self) -> list[str]:
        """Names of the parts that the files are split into; empty without a given split."""
        if "part" not in self.interactions.columns:
            return []
        return [PARTS[i] for i in self.interactions["part"].unique().sort()]


def by_label(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """Positives, and negatives or None, of rows with a ``label`` of 1 or 0."""
    positive = pl.col("label") == 1
    negatives = rows.filter(~positive).select("user", "item")
    return rows.filter(positive).drop("label"), None if negatives.is_empty() else negatives


def named_items(names: pl.DataFrame, file: str, counts: Counts) -> pl.DataFrame:
    """Rows of ``item, name`` and maybe ``text`` with null for blank ones.

    Rows without an item are only counted.
    """
    blank = (pl.col("item").str.strip_chars() == "").fill_null(True)
    rows = names.filter(~blank)
    if rows.height < names.height:
        counts.append((f"rows of {file} without an item, skipped", names.height - rows.height))
    words = [column for column in names.columns if column != "item"]
    return rows.with_columns(
        pl.when(pl.col(word).str.strip_chars() != "").then(word).alias(word) for word in words
    )


def strip_blanks(
    frame: pl.DataFrame, columns: Iterable[str], file: str, counts: Counts
) -> pl.DataFrame:
    """Strips blanks of any kind from both ends of ids, no-break spaces too; counts the ids.

    Args:
        frame: a table with the ids.
        columns: its columns of ids.
        file: name of the file, for the account.
        counts: list to which a line is added per column in which an id had blanks around it.
    """
    columns = list(columns)
    stripped = frame.with_columns(pl.col(c).str.strip_chars() for c in columns)
    for column in columns:
        changed = int((stripped[column] != frame[column]).sum())
        if changed:
            counts.append((f"ids ({column}) of {file} with blanks around them, stripped", changed))
    return stripped
