"""Interactions in pieces, with numbers for their ids; on disk where they are many.

The ids are numbered in the order in which they appear first. Only the ids themselves stay in
memory as strings, each once.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import polars as pl

from kgrec.data.spill import Numbers, Spill

PIECE = 1 << 20
"""Rows that are taken at once."""

# Columns of interactions beside the ids, each with the type in which it is kept.
_KINDS = {"rating": "f8", "timestamp": "f8", "weight": "f8", "part": "i1"}


class Ids:
    """Distinct strings, numbered in the order in which they appear first."""

    def __init__(self) -> None:
        self._known = pl.DataFrame(schema={"id": pl.String, "number": pl.UInt32})

    def numbers(self, ids: pl.Series) -> Numbers:
        """(n,) uint32, the number of each string; new strings get the next numbers."""
        codes = ids.cast(pl.Categorical).to_physical()  # each string is hashed once
        first = codes.arg_unique().sort()
        distinct = ids.gather(first).alias("id").to_frame()
        # The few strings of a piece are the side of the join that is put into a table.
        known = self._known.join(distinct, on="id", how="semi")
        added = distinct.join(known, on="id", how="anti", maintain_order="left")
        if not added.is_empty():
            added = added.with_row_index("number", offset=self._known.height)
            added = added.select("id", "number")
            self._known = pl.concat([self._known, added])
            known = pl.concat([known, added])
        numbers = distinct.join(known, on="id", how="left", maintain_order="left")["number"]
        places: Numbers = codes.to_numpy()
        number_of: Numbers = np.empty(places.max(initial=0) + 1, dtype=np.uint32)
        number_of[places[first.to_numpy()]] = numbers.to_numpy()
        return number_of[places]

    @property
    def strings(self) -> pl.Series:
        """The strings in the order of their numbers."""
        return self._known["id"]


class Rows:
    """Interactions, added and read in pieces.

    Args:
        folder: folder on whose disk the rows lie; None: the folder of temporary files.

    Attributes:
        height: number of rows.
        columns: names of the columns beside ``user`` and ``item``.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.height = 0
        self.columns: list[str] = []
        self._ids = {"user": Ids(), "item": Ids()}
        self._numbers = {name: Spill("u4", folder) for name in self._ids}
        self._ones: list[str] = []

    @classmethod
    def of(cls, frame: pl.DataFrame, folder: Path | None = None) -> Rows:
        """The rows of a table of ``user, item`` and further columns."""
        rows = cls(folder)
        rows.add(frame.clear())
        for piece in frame.iter_slices(PIECE):
            rows.add(piece)
        return rows

    def add(self, piece: pl.DataFrame) -> None:
        """Adds rows; every piece has the columns of the first.

        Raises:
            DiskError: the disk is full.
        """
        if not self.columns:
            self.columns = [name for name in _KINDS if name in piece.columns]
            self._numbers |= {name: Spill(_KINDS[name], self.folder) for name in self.columns}
        for name, spill in self._numbers.items():
            column = piece[name]
            known = self._ids.get(name)
            spill.append(column.to_numpy() if known is None else known.numbers(column))
        self.height += piece.height

    def ids(self, name: str) -> pl.Series:
        """The distinct ids of the column ``user`` or ``item``, in the order of their numbers."""
        return self._ids[name].strings.alias(name)

    def pieces(self) -> Iterator[dict[str, Numbers]]:
        """Yields the columns, ``user`` and ``item`` as numbers, piece by piece."""
        for start in range(0, self.height, PIECE):
            count = min(PIECE, self.height - start)
            names = ["user", "item", *(c for c in self.columns if c not in self._ones)]
            piece = {name: self._numbers[name].read(start, count) for name in names}
            yield piece | {name: np.ones(count) for name in self._ones}

    def without(self, column: str) -> Rows:
        """The same rows without one of the columns."""
        rows = copy.copy(self)
        rows.columns = [name for name in self.columns if name != column]
        rows._ones = [name for name in self._ones if name != column]
        return rows

    def with_ones(self, column: str) -> Rows:
        """The same rows with a column that is 1 in every row."""
        rows = self.without(column)
        rows.columns, rows._ones = [*rows.columns, column], [*rows._ones, column]
        return rows


def gather(pieces: Iterable[pl.DataFrame], rows: Rows | None) -> pl.DataFrame:
    """Pieces of a table as one table, or put into ``rows``; then the table has no rows.

    Args:
        pieces: at least one piece.
        rows: place for the rows, or None.
    """
    if rows is None:
        return pl.concat(list(pieces))
    for piece in pieces:
        rows.add(piece)
    return piece.clear()
