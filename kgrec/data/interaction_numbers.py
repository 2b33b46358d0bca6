"""Replaces the raw ids of interactions by integers, and selects the positives.

The rows are read twice, piece by piece. The first time users are numbered and rows are counted.
The second time rows are put in order of ranges of users, whose pairs are merged range by range.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor

from kgrec.data.account import Account
from kgrec.data.interactions import Interactions
from kgrec.data.merging import DETAILS, Merged, merge
from kgrec.data.rows import Rows
from kgrec.data.spill import Numbers
from kgrec.data.user_ranges import UserRanges
from kgrec.data.weights import count_weights
from kgrec.errors import DataError, quoted


def first(values: Iterable[object]) -> str:
    """The first value, for messages."""
    return next((quoted(value) for value in values), "missing")


def to_tensor(column: pl.Series) -> Tensor:
    """A column of whole numbers as an int64 tensor."""
    return torch.from_numpy(column.cast(pl.Int64).to_numpy(writable=True))


@dataclass
class NumberedRows:
    """Interactions with numbers instead of ids; fields as in PreparedData."""

    positives: Interactions
    times: Tensor | None
    parts: Tensor | None
    weights: Tensor | None
    rated: Interactions
    negatives: tuple[Tensor, Tensor] | None
    users: pl.DataFrame


def number_interactions(
    rows: Rows,
    negatives: pl.DataFrame | None,
    items: pl.DataFrame,
    min_rating: float | None,
    pool_splits: bool,
    account: Account,
    place: str,
) -> NumberedRows:
    """Numbers users and items, selects positives, and counts rows that are dropped or merged.

    Args:
        rows: the interactions.
        negatives: ``user, item`` pairs that the files give as negatives, or None.
        items: ``item_id, item`` of the items to keep.
        min_rating: lowest rating of a positive; None: every interaction is a positive.
        pool_splits: whether to ignore the split given in the files.
        account: account to which the counts are added.
        place: source of the tables, for messages.

    Raises:
        DataError: there is no positive, or a rating is missing.
        DiskError: the disk has no room for the rows.
    """
    account.add("interactions", "interactions read", rows.height)
    if rows.height == 0 and negatives is not None:
        raise DataError(
            f"{place}: found {negatives.height} interactions, all with label 0, expected at "
            "least one positive (label 1)"
        )
    if "part" in rows.columns and pool_splits:
        rows = rows.without("part")
        line = "interactions whose given split is ignored (dataset.pool_splits)"
        account.add("interactions", line, rows.height, changes=True)
    numbers = items.select("item", "item_id")
    count = _count(rows, numbers, min_rating)
    account.add(
        "interactions", "interactions of items without an entity, dropped",
        rows.height - count.linked, changes=True,
    )  # fmt: skip
    _account_for_ratings(rows, count, min_rating, account, place)
    users = rows.ids("user").gather(count.order).to_frame()
    if users.is_empty():
        raise DataError(f"{place}: {_why_no_positive(rows, items, count, min_rating)}")
    num_dropped = len(rows.ids("user")) - users.height
    account.add("interactions", "users without a positive, dropped", num_dropped, changes=True)
    given = None
    if negatives is not None and not negatives.is_empty():
        # Keep file order: the split's draw depends on it.
        by_user = users.with_row_index("user_id").cast({"user_id": pl.Int64})
        listed = negatives.join(numbers, on="item", maintain_order="left").join(
            by_user, on="user", maintain_order="left"
        )
        given = to_tensor(listed["user_id"]), to_tensor(listed["item_id"])
        account.add("interactions", "label-0 rows given", negatives.height)
        num_dropped = negatives.height - len(given[0])
        account.add(
            "interactions", "label-0 rows of dropped users or items, dropped", num_dropped,
            changes=True,
        )  # fmt: skip
    merged = _merge(rows, count, min_rating, (users.height, items.height))
    if "part" in merged.details:
        account.add(
            "interactions", "pairs in several given parts, kept in the first", merged.in_several,
            changes=True,
        )  # fmt: skip
    weights = merged.details.get("weight")
    if weights is not None:
        count_weights(weights, account)
    positives = merged.positives
    account.add(
        "interactions", "duplicate positives (the same user and item), merged",
        count.positive - len(positives), changes=True,
    )  # fmt: skip
    account.add("interactions", "positives", len(positives))
    times, parts = merged.details.get("timestamp"), merged.details.get("part")
    return NumberedRows(positives, times, parts, weights, merged.rated, given, users)


@dataclass(frozen=True)
class _Count:
    """Result of the first reading. A place is the number of an id in ``rows.ids``.

    Attributes:
        items: number of the item at each place, -1 for a dropped item.
        users: number of the user at each place, -1 for a user without a positive.
        order: places of the users with a positive, in the order of their first one.
        per_user: linked rows of the user at each place.
        linked: rows of kept items.
        positive: rows that are positives.
        low: lowest rating of a linked row.
        high: highest rating of a linked row.
    """

    items: Numbers
    users: Numbers
    order: Numbers
    per_user: Numbers
    linked: int
    positive: int
    low: float
    high: float


def _count(rows: Rows, numbers: pl.DataFrame, min_rating: float | None) -> _Count:
    """Reads the rows once: numbers users by their first positive, and counts."""
    placed = rows.ids("item").to_frame().join(numbers, on="item", how="left", maintain_order="left")
    items = placed["item_id"].fill_null(-1).to_numpy()
    num_users = len(rows.ids("user"))
    per_user = np.zeros(num_users, dtype=np.int64)
    users = np.full(num_users, -1, dtype=np.int64)
    order = [np.empty(0, dtype=np.int64)]
    linked, positive, numbered, low, high = 0, 0, 0, np.inf, -np.inf
    for piece in rows.pieces():
        kept = items[piece["item"]] >= 0
        chosen = piece["user"][kept]
        per_user += np.bincount(chosen, minlength=num_users)
        linked += len(chosen)
        if "rating" in piece and len(chosen):
            ratings = piece["rating"][kept]
            low, high = min(low, ratings.min()), max(high, ratings.max())
            if min_rating is not None:
                chosen = chosen[ratings >= min_rating]
        positive += len(chosen)
        added = pl.Series(chosen[users[chosen] < 0]).unique(maintain_order=True).to_numpy()
        users[added] = np.arange(numbered, numbered + len(added))
        numbered += len(added)
        order.append(added.astype(np.int64))
    in_order = np.concatenate(order)
    return _Count(items, users, in_order, per_user, linked, positive, float(low), float(high))


def _merge(rows: Rows, count: _Count, min_rating: float | None, size: tuple[int, int]) -> Merged:
    """Reads the rows a second time, and keeps each pair once."""
    details = [name for name in DETAILS if name in rows.columns]
    kinds = {"user": "u4", "item": "u4"} | {name: DETAILS[name] for name in details}
    if min_rating is not None:
        kinds["positive"] = "?"
    ranges = UserRanges(count.per_user[count.order], kinds, rows.folder)
    for piece in rows.pieces():
        columns = {**piece, "user": count.users[piece["user"]], "item": count.items[piece["item"]]}
        if min_rating is not None:
            columns["positive"] = piece["rating"] >= min_rating
        kept = (columns["user"] >= 0) & (columns["item"] >= 0)
        ranges.add({name: columns[name][kept] for name in kinds})
    return merge(ranges, details, min_rating is not None, size, rows.folder)


def _account_for_ratings(
    rows: Rows, count: _Count, min_rating: float | None, account: Account, place: str
) -> None:
    """Adds to the account how many rows are positives by their rating.

    Raises:
        DataError: there are no ratings, and positives need one.
    """
    if min_rating is None:
        if "rating" in rows.columns and count.linked:
            line = f"rated {count.low:g} to {count.high:g}, all taken as positive"
            account.add("interactions", f"{line} (dataset.min_rating=null)", count.linked)
    elif "rating" not in rows.columns:
        raise DataError(
            f"{place}: found {rows.height} interactions without ratings, expected a rating, "
            f"because dataset.min_rating={min_rating:g} (set it to null to take every interaction)"
        )
    else:
        line = f"interactions rated below {min_rating:g}, not positive"
        account.add("interactions", line, count.linked - count.positive, changes=True)


def _why_no_positive(
    rows: Rows, items: pl.DataFrame, count: _Count, min_rating: float | None
) -> str:
    """The message for data without a positive: the reason is the items or the ratings."""
    if count.linked and min_rating is not None:
        return (
            f"found {count.linked} ratings from {count.low:g} to {count.high:g}, expected some "
            f"of at least dataset.min_rating={min_rating:g} (lower it, or set it to null to take "
            "every interaction)"
        )
    return (
        f"found {rows.height} interactions, none of an item with an entity, expected "
        f"at least one (the first item is {first(rows.ids('item'))}, the first linked "
        f"item {first(items['item'])})"
    )
