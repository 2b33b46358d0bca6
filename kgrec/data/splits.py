"""Splits: the part (train, validation or test) of each row.

A split is called with rows and a generator and returns a part for each row. Its attribute
``needs`` names what the rows must have in addition to users and items.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from kgrec.errors import ConfigError, DataError

TRAIN, VAL, TEST = 0, 1, 2


@dataclass(frozen=True)
class Rows:
    """The rows that a split divides.

    Attributes:
        users: (n,) int64, in [0, num_users).
        items: (n,) int64, in [0, num_items).
        num_users: number of users of the data set.
        num_items: number of items of the data set.
        times: (n,) float64, seconds since 1970, or None.
        given: (n,) int64, part of each row in the files, or None.
    """

    users: Tensor
    items: Tensor
    num_users: int
    num_items: int
    times: Tensor | None = None
    given: Tensor | None = None

    def __len__(self) -> int:
        return self.users.numel()


class Split(Protocol):
    """A function from rows and a generator to (n,) int64 parts: TRAIN, VAL or TEST.

    Attributes:
        needs: attributes that the rows must have: "times" or "given".
        items_apart: whether each part has its own items. The evaluation negatives of a part are
            then drawn from its items; otherwise "never seen in training" would separate positives
            from negatives.
    """

    needs: tuple[str, ...]
    items_apart: bool

    def __call__(self, rows: Rows, generator: torch.Generator) -> Tensor:
        """(n,) part of each row."""
        ...


def check_needs(split: Split, rows: Rows, name: str) -> None:
    """Raises DataError where the rows lack what a split needs."""
    for need in split.needs:
        if getattr(rows, need) is None:
            missing = {"times": "timestamps", "given": "a given split"}[need]
            raise DataError(
                f"dataset {name}: found interactions without {missing}, expected them for "
                f"split={_name(split)}; split=random needs none"
            )


def _name(split: Split) -> str:
    names = {
        RandomSplit: "random", Temporal: "temporal", LeaveOneOut: "leave_one_out",
        ColdItems: "cold_items", ColdUsers: "cold_users", Given: "given",
    }  # fmt: skip
    return names.get(type(split), type(split).__name__)


def _checked(ratios: Sequence[float]) -> tuple[float, ...]:
    if len(ratios) != 3 or min(ratios) <= 0 or not math.isclose(sum(ratios), 1):
        raise ConfigError(
            f"split.ratios: found {list(ratios)}, expected three positive shares that sum to 1"
        )
    return tuple(ratios)


def _parts_by_rank(rank: Tensor, sizes: Tensor, ratios: Sequence[float]) -> Tensor:
    """Parts of rows by their ``rank`` among ``sizes`` rows: first train, then val, then test.

    Val and test are rounded down, train gets the remaining rows.
    """
    num_val, num_test = (sizes * ratios[1]).long(), (sizes * ratios[2]).long()
    parts = torch.full_like(rank, TRAIN)
    parts[rank >= sizes - num_val - num_test] = VAL
    parts[rank >= sizes - num_test] = TEST
    return parts


def _order(rows: Rows, generator: torch.Generator, by: str) -> Tensor:
    """Positions of the rows in order of time with ties in random order, or all in random order."""
    order = torch.randperm(len(rows), generator=generator)
    if by == "time":
        assert rows.times is not None
        order = order[torch.argsort(rows.times[order], stable=True)]
    return order


def _rank_within(users: Tensor, order: Tensor, num_users: int) -> tuple[Tensor, Tensor]:
    """(n,) position of each row among the rows of its user in ``order``; (n,) their number."""
    counts = torch.bincount(users, minlength=num_users)
    grouped = order[torch.argsort(users[order], stable=True)]
    starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
    rank = torch.empty_like(users)
    rank[grouped] = torch.arange(len(users)) - starts
    return rank, counts[users]


class RandomSplit:
    """Random split of all rows, independent of their users (KGCN, section 4.3).

    Args:
        ratios: shares of train, val and test; they sum to 1.

    Raises:
        ConfigError: the ratios are not three positive shares that sum to 1.
    """

    needs: tuple[str, ...] = ()
    items_apart: bool = False

    def __init__(self, ratios: Sequence[float] = (0.6, 0.2, 0.2)) -> None:
        self.ratios = _checked(ratios)

    def __call__(self, rows: Rows, generator: torch.Generator) -> Tensor:
        """(n,) part of each row; val and test are rounded down, train gets the remaining rows."""
        n = len(rows)
        num_val, num_test = int(n * self.ratios[1]), int(n * self.ratios[2])
        order = torch.randperm(n, generator=generator)
        parts = torch.full((n,), TRAIN)
        parts[order[:num_val]] = VAL
        parts[order[num_val : num_val + num_test]] = TEST
        return parts


class Temporal:
    """Split by time: the earliest rows are train, later rows val, the latest rows test.

    Args:
        ratios: shares of train, val and test; they sum to 1.
        scope: "global": the same points in time for all users, as in practice; "user": the last
            rows of each user, so that every user with enough rows is in each part.

    Raises:
        ConfigError: a value is not valid.
    """

    needs: tuple[str, ...] = ("times",)
    items_apart: bool = False

    def __init__(self, ratios: Sequence[float] = (0.6, 0.2, 0.2), scope: str = "global") -> None:
        self.ratios = _checked(ratios)
        if scope not in ("global", "user"):
            raise ConfigError(f"split.scope: found {scope!r}, expected global or user")
        self.scope = scope

    def __call__(self, rows: Rows, generator: torch.Generator) -> Tensor:
        """(n,) part of each row; rows of the same time are in random order."""
        order = _order(rows, generator, "time")
        if self.scope == "user":
            rank, sizes = _rank_within(rows.users, order, rows.num_users)
        else:
            rank = torch.empty_like(order)
            rank[order] = torch.arange(len(rows))
            sizes = torch.full_like(rank, len(rows))
        return _parts_by_rank(rank, sizes, self.ratios)


class LeaveOneOut:
    """Leave-one-out split: each user's last row is test, the row before val, the rest train.

    Users with fewer than three rows only train.

    Args:
        by: "time", or "random" for data without timestamps.

    Raises:
        ConfigError: ``by`` has another value.
    """

    items_apart: bool = False

    def __init__(self, by: str = "time") -> None:
        if by not in ("time", "random"):
            raise ConfigError(f"split.by: found {by!r}, expected time or random")
        self.by = by
        self.needs: tuple[str, ...] = ("times",) if by == "time" else ()

    def __call__(self, rows: Rows, generator: torch.Generator) -> Tensor:
        """(n,) part of each row."""
        order = _order(rows, generator, self.by)
        rank, sizes = _rank_within(rows.users, order, rows.num_users)
        parts = torch.full_like(rank, TRAIN)
        parts[(sizes >= 3) & (rank == sizes - 2)] = VAL
        parts[(sizes >= 3) & (rank == sizes - 1)] = TEST
        return parts


class _Cold:
    """Split of the owners of rows, users or items; all rows of an owner are in one part.

    Args:
        ratios: shares of the owners with at least one row.

    Raises:
        ConfigError: the ratios are not three positive shares that sum to 1.
    """

    needs: tuple[str, ...] = ()
    items_apart: bool = False

    def __init__(self, ratios: Sequence[float] = (0.6, 0.2, 0.2)) -> None:
        self.ratios = _checked(ratios)

    def _split(self, owners: Tensor, size: int, generator: torch.Generator) -> Tensor:
        present = torch.nonzero(torch.bincount(owners, minlength=size)).squeeze(1)
        rank = torch.randperm(len(present), generator=generator)
        part_of = torch.full((size,), TRAIN)
        part_of[present] = _parts_by_rank(rank, torch.full_like(rank, len(present)), self.ratios)
        return part_of[owners]


class ColdItems(_Cold):
    """Split of the items: the items of val and test have no training row."""

    items_apart: bool = True

    def __call__(self, rows: Rows, generator: torch.Generator) -> Tensor:
        """(n,) part of each row."""
        return self._split(rows.items, rows.num_items, generator)


class ColdUsers(_Cold):
    """Split of the users: the users of val and test have no training row."""

    def __call__(self, rows: Rows, generator: torch.Generator) -> Tensor:
        """(n,) part of each row."""
        return self._split(rows.users, rows.num_users, generator)


class Given:
    """The split of the files; a missing validation part is taken from the training rows.

    Args:
        val_ratio: share of the training rows that becomes validation rows, drawn at random.

    Raises:
        ConfigError: ``val_ratio`` is not between 0 and 1.
    """

    needs: tuple[str, ...] = ("given",)
    items_apart: bool = False

    def __init__(self, val_ratio: float = 0.1) -> None:
        if not 0 < val_ratio < 1:
            raise ConfigError(f"split.val_ratio: found {val_ratio}, expected a share from 0 to 1")
        self.val_ratio = val_ratio

    def __call__(self, rows: Rows, generator: torch.Generator) -> Tensor:
        """(n,) part of each row."""
        assert rows.given is not None
        parts = rows.given.clone()
        if not (parts == VAL).any():
            train = torch.nonzero(parts == TRAIN).squeeze(1)
            order = torch.randperm(len(train), generator=generator)
            parts[train[order[: int(len(train) * self.val_ratio)]]] = VAL
        return parts
