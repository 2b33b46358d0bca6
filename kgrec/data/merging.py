"""Distinct user-item pairs of many rows, merged user range by user range.

Shapes: n distinct pairs, sorted by user, then item.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch import Tensor

from kgrec.data.interactions import Interactions
from kgrec.data.spill import Numbers, Spill
from kgrec.data.weights import sum_weights

DETAILS = {"timestamp": "f8", "part": "i8", "weight": "f8"}
"""What a pair may have, each with its type."""


@dataclass(frozen=True)
class Merged:
    """Distinct pairs.

    Attributes:
        rated: pairs of all rows.
        positives: pairs of the positive rows; the same object where all rows are positive and
            have no details.
        details: (n,) tensors, by the names of :data:`DETAILS`: earliest time, first part and sum
            of the weights of each positive pair.
        in_several: number of positive pairs in several parts.
    """

    rated: Interactions
    positives: Interactions
    details: dict[str, Tensor]
    in_several: int


class _Pairs:
    """Pairs that are appended in order."""

    def __init__(self, size: tuple[int, int], folder: Path | None) -> None:
        self.size = size
        self.users, self.items = Spill("i8", folder), Spill("i8", folder)

    def append(self, users: Numbers, items: Numbers) -> None:
        self.users.append(users)
        self.items.append(items)

    def append_keys(self, keys: Numbers) -> None:
        """Appends each of the keys ``user * items + item`` once, sorted."""
        keys = np.sort(keys)
        self.append(*np.divmod(keys[_changes(keys)], self.size[1]))

    def interactions(self) -> Interactions:
        return Interactions(self.users.tensor(), self.items.tensor(), *self.size)


def merge(
    ranges: Iterable[Mapping[str, Numbers]],
    details: Iterable[str],
    some_positive: bool,
    size: tuple[int, int],
    folder: Path | None,
) -> Merged:
    """Merges the rows of each pair.

    Args:
        ranges: columns of rows of ranges of users, in the order of the users: ``user``, ``item``,
            the details and, where not all rows are positive, ``positive``.
        details: columns of the positive pairs, keys of :data:`DETAILS`.
        some_positive: whether there is a column ``positive``.
        size: numbers of users and items.
        folder: folder on whose disk the pairs lie; None: the folder of temporary files.

    Raises:
        DiskError: the disk has no room for the pairs.
    """
    rated, positives = _Pairs(size, folder), _Pairs(size, folder)
    spills = {name: Spill(DETAILS[name], folder) for name in details}
    names = ["user", "item", *spills]
    in_several = 0
    for rows in ranges:
        keys = rows["user"].astype(np.int64) * size[1] + rows["item"]
        rated.append_keys(keys)
        chosen = rows["positive"] if some_positive else slice(None)
        if spills:
            in_several += _append_details(positives, spills, {n: rows[n][chosen] for n in names})
        elif some_positive:
            positives.append_keys(keys[chosen])
    pairs = rated.interactions()
    return Merged(
        rated=pairs,
        positives=positives.interactions() if spills or some_positive else pairs,
        details={name: spill.tensor() for name, spill in spills.items()},
        in_several=in_several,
    )


def _append_details(pairs: _Pairs, spills: Mapping[str, Spill], rows: Mapping[str, Numbers]) -> int:
    """Appends each pair once, with its earliest time, first part and sum of weights.

    Returns:
        Number of pairs in several parts.
    """
    keys = rows["user"].astype(np.int64) * pairs.size[1] + rows["item"]
    order = np.argsort(keys)
    keys = keys[order]
    starts = np.flatnonzero(_changes(keys))
    pairs.append(*np.divmod(keys[starts], pairs.size[1]))
    if not len(starts):
        return 0
    for name in ("timestamp", "part"):
        if name in spills:
            spills[name].append(np.minimum.reduceat(rows[name][order], starts))
    if "weight" in spills:
        columns = {name: rows[name][order] for name in ("weight", "part") if name in rows}
        spills["weight"].append(sum_weights(pl.DataFrame({"pair": keys, **columns})))
    if "part" not in spills:
        return 0
    parts = rows["part"][order]
    return int((np.minimum.reduceat(parts, starts) != np.maximum.reduceat(parts, starts)).sum())


def _changes(values: Numbers) -> NDArray[np.bool_]:
    """Whether each value differs from the one before; true for the first."""
    new = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=new[1:])
    return new
