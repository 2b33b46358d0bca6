"""Raw tables: what a file format holds, ids still the user's own strings."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

# The numbers of the parts in column ``part`` of interactions that come already split.
PARTS = ("train", "val", "test")

TRIPLE = ("head", "relation", "tail")

Counts = list[tuple[str, int]]
"""What a reader had to pass over or to decide, as (what, how many)."""


@dataclass(frozen=True)
class RawTables:
    """What a reader returns and a writer takes; every id is a string, as found in the files.

    Attributes:
        interactions: ``user, item`` and, where the files have them, ``rating`` and
            ``timestamp`` (both Float64; seconds since 1970) and ``part`` (Int8, an index into
            ``PARTS``), for files that come already split.
        links: ``item, entity``: which entities of the graph an item is.
        triples: ``head, relation, tail``.
        negatives: ``user, item`` pairs that the files give as negatives (label 0), or None.
        item_names: ``item, name``, or None.
        counts: see :data:`Counts`.
    """

    interactions: pl.DataFrame
    links: pl.DataFrame
    triples: pl.DataFrame
    negatives: pl.DataFrame | None = None
    item_names: pl.DataFrame | None = None
    counts: Counts = field(default_factory=list)

    @property
    def given_parts(self) -> list[str]:
        """The parts that the files come split into, or none."""
        if "part" not in self.interactions.columns:
            return []
        return [PARTS[i] for i in self.interactions["part"].unique().sort()]


def by_label(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """Positives and, where there are any, negatives of rows with a ``label``, 1 or 0."""
    positive = pl.col("label") == 1
    negatives = rows.filter(~positive).select("user", "item")
    return rows.filter(positive).drop("label"), None if negatives.is_empty() else negatives


def named_items(names: pl.DataFrame, file: str, counts: Counts) -> pl.DataFrame:
    """The rows of ``item, name`` in which neither is blank; counts the others."""
    blank = pl.any_horizontal((pl.all().str.strip_chars() == "").fill_null(True))
    found = names.filter(~blank)
    if found.height < names.height:
        what = f"rows of {file} without an item or a name, passed over"
        counts.append((what, names.height - found.height))
    return found
