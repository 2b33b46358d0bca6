"""Replaces the raw ids of interactions by integers, and selects the positives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl
import torch
from torch import Tensor

from kgrec.data.account import Account
from kgrec.data.interactions import Interactions
from kgrec.data.raw_tables import RawTables
from kgrec.data.weights import count_weights, sum_weights
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
    raw: RawTables,
    items: pl.DataFrame,
    min_rating: float | None,
    pool_splits: bool,
    account: Account,
    place: str,
) -> NumberedRows:
    """Numbers users and items, selects positives, and counts rows that are dropped or merged.

    Args:
        raw: raw tables.
        items: ``item_id, item`` of the items to keep.
        min_rating: lowest rating of a positive; None: every interaction is a positive.
        pool_splits: whether to ignore the split given in the files.
        account: account to which the counts are added.
        place: source of the tables, for messages.

    Raises:
        DataError: there is no positive, or a rating is missing.
    """
    rows = raw.interactions
    account.add("interactions", "interactions read", rows.height)
    if rows.is_empty() and raw.negatives is not None:
        raise DataError(
            f"{place}: found {raw.negatives.height} interactions, all with label 0, expected at "
            "least one positive (label 1)"
        )
    if "part" in rows.columns and pool_splits:
        rows = rows.drop("part")
        line = "interactions whose given split is ignored (dataset.pool_splits)"
        account.add("interactions", line, rows.height, changes=True)
    numbers = items.select("item", "item_id")
    linked = rows.join(numbers, on="item", maintain_order="left").drop("item")
    num_unlinked = rows.height - linked.height
    account.add(
        "interactions", "interactions of items without an entity, dropped", num_unlinked,
        changes=True,
    )  # fmt: skip
    positive = _positive(linked, min_rating, rows.height, account, place)
    users = positive.select("user").unique(maintain_order=True)
    if users.is_empty():
        raise DataError(f"{place}: {_why_no_positive(raw, items, linked, min_rating)}")
    num_dropped = rows["user"].n_unique() - users.height
    account.add("interactions", "users without a positive, dropped", num_dropped, changes=True)
    by_user = users.with_row_index("user_id").cast({"user_id": pl.Int64})
    size = (users.height, items.height)

    def pairs(frame: pl.DataFrame) -> tuple[Tensor, Tensor]:
        numbered = frame.join(by_user, on="user").select("user_id", "item_id")
        return to_tensor(numbered["user_id"]), to_tensor(numbered["item_id"])

    rated = Interactions.from_pairs(*pairs(linked), *size)
    negatives = None
    if raw.negatives is not None and not raw.negatives.is_empty():
        # Keep file order: the split's draw depends on it.
        listed = raw.negatives.join(numbers, on="item", maintain_order="left").join(
            by_user, on="user", maintain_order="left"
        )
        negatives = to_tensor(listed["user_id"]), to_tensor(listed["item_id"])
        account.add("interactions", "label-0 rows given", raw.negatives.height)
        num_dropped = raw.negatives.height - len(negatives[0])
        account.add(
            "interactions", "label-0 rows of dropped users or items, dropped", num_dropped,
            changes=True,
        )  # fmt: skip
    times = parts = weights = None
    if {"timestamp", "part", "weight"}.intersection(positive.columns):
        numbered = positive.join(by_user, on="user")
        once = _each_pair_once(numbered, account)
        positives = Interactions(to_tensor(once["user_id"]), to_tensor(once["item_id"]), *size)
        if "timestamp" in once.columns:
            times = torch.from_numpy(once["timestamp"].to_numpy(writable=True))
        parts = to_tensor(once["part"]) if "part" in once.columns else None
        if "weight" in numbered.columns:
            weights = sum_weights(numbered)
            count_weights(weights, account)
    else:
        positives = (
            rated if positive is linked else Interactions.from_pairs(*pairs(positive), *size)
        )
    num_merged = positive.height - len(positives)
    account.add(
        "interactions", "duplicate positives (the same user and item), merged", num_merged,
        changes=True,
    )  # fmt: skip
    account.add("interactions", "positives", len(positives))
    return NumberedRows(positives, times, parts, weights, rated, negatives, users)


def _positive(
    rows: pl.DataFrame, min_rating: float | None, num_read: int, account: Account, place: str
) -> pl.DataFrame:
    """The rows that are positives."""
    if min_rating is None:
        if "rating" in rows.columns and rows.height:
            low, high = rows.select(pl.col("rating").min().alias("low"), pl.max("rating")).row(0)
            line = f"rated {low:g} to {high:g}, all taken as positive (dataset.min_rating=null)"
            account.add("interactions", line, rows.height)
        return rows
    if "rating" not in rows.columns:
        raise DataError(
            f"{place}: found {num_read} interactions without ratings, expected a rating, because "
            f"dataset.min_rating={min_rating:g} (set it to null to take every interaction)"
        )
    positive = rows.filter(pl.col("rating") >= min_rating)
    line = f"interactions rated below {min_rating:g}, not positive"
    account.add("interactions", line, rows.height - positive.height, changes=True)
    return positive


def _why_no_positive(
    raw: RawTables, items: pl.DataFrame, linked: pl.DataFrame, min_rating: float | None
) -> str:
    """The message for data without a positive: the reason is the items or the ratings."""
    if not linked.is_empty() and min_rating is not None:
        low, high = linked.select(pl.min("rating").alias("low"), pl.max("rating")).row(0)
        return (
            f"found {linked.height} ratings from {low:g} to {high:g}, expected some of at least "
            f"dataset.min_rating={min_rating:g} (lower it, or set it to null to take every "
            "interaction)"
        )
    return (
        f"found {raw.interactions.height} interactions, none of an item with an entity, expected "
        f"at least one (the first item is {first(raw.interactions['item'])}, the first linked "
        f"item {first(items['item'])})"
    )


def _each_pair_once(positive: pl.DataFrame, account: Account) -> pl.DataFrame:
    """One row per user-item pair, sorted, with its earliest time and first part."""
    columns = [c for c in ("timestamp", "part") if c in positive.columns]
    grouped = positive.lazy().group_by("user_id", "item_id").agg(
        *(pl.col(c).min() for c in columns),
        *([(pl.col("part").n_unique() > 1).alias("in_several")] if "part" in columns else []),
    )  # fmt: skip
    once = grouped.sort("user_id", "item_id").collect()
    if "part" in columns:
        num_in_several = int(once["in_several"].sum())
        account.add(
            "interactions", "pairs in several given parts, kept in the first", num_in_several,
            changes=True,
        )  # fmt: skip
    return once
