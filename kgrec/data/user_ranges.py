"""Rows with numbers for users and items, in order of ranges of users.

A range has about as many rows as fit into memory at once, so its rows can be sorted and merged
alone. Ranges follow each other, so what is made of one after the other is sorted by user.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from kgrec.data.rows import PIECE
from kgrec.data.spill import Numbers, Spill

RANGE = 4 * PIECE
"""Rows of a range, and at most the rows of one user more."""


class UserRanges:
    """Rows that are added in any order and read range by range.

    Args:
        counts: (users,) number of rows of each user, all of which will be added.
        kinds: types of the columns, ``user`` among them.
        folder: folder on whose disk the rows lie; None: the folder of temporary files.
    """

    def __init__(self, counts: Numbers, kinds: Mapping[str, str], folder: Path | None) -> None:
        self._columns = {name: Spill(kind, folder) for name, kind in kinds.items()}
        ends = np.cumsum(counts)
        total = int(ends[-1]) if len(ends) else 0
        # A range begins with the user who has row RANGE, 2 RANGE, …, unless that is the first one.
        users = np.unique(np.searchsorted(ends, np.arange(RANGE, total, RANGE), side="right"))
        self._bounds = users[users > 0]
        self._starts = np.concatenate([[0], ends[self._bounds - 1]]).astype(np.int64)
        self._ends = np.append(self._starts[1:], total)
        self._added = self._starts.copy()

    def add(self, piece: Mapping[str, Numbers]) -> None:
        """Adds rows.

        Raises:
            DiskError: the disk is full.
        """
        ranges = np.searchsorted(self._bounds, piece["user"], side="right").astype(np.uint16)
        sizes = np.bincount(ranges, minlength=len(self._starts))
        whole = np.count_nonzero(sizes) <= 1
        order = slice(None) if whole else np.argsort(ranges, kind="stable")
        for name, spill in self._columns.items():
            column, first = piece[name][order], 0
            for number in np.flatnonzero(sizes):
                spill.write(int(self._added[number]), column[first : first + sizes[number]])
                first += sizes[number]
        self._added += sizes

    def __iter__(self) -> Iterator[dict[str, Numbers]]:
        """Yields the columns of one range after the other."""
        for start, end in zip(self._starts, self._ends, strict=True):
            yield {
                name: spill.read(int(start), int(end - start))
                for name, spill in self._columns.items()
            }
