"""Histories of new users: the items that they like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
import torch
from torch import Tensor

from kgrec.data.frames import as_frame, is_frame
from kgrec.data.interactions import Interactions
from kgrec.errors import DataError
from kgrec.inference.raw_ids import Ids, RawIds

History = Ids | Mapping[str, Ids] | pl.DataFrame | Any
"""Items that new users like: of one user; of several users, by name; or a frame ``user, item``."""

NEW_USER = "new"  # name of a new user without a name


def read_history(history: History, item_ids: RawIds) -> tuple[list[str], Interactions]:
    """Names of new users, and their items.

    Args:
        history: see :data:`History`; items are ids or titles.
        item_ids: raw ids of items.

    Returns:
        n names, and the pairs of users 0 … n - 1.

    Raises:
        DataError: an item is unknown, or a user has no item.
    """
    if is_frame(history):
        lists = _by_user(as_frame("history", history))
    elif isinstance(history, Mapping):
        lists = {str(user): items for user, items in history.items()}
        if len(lists) < len(history):
            raise DataError(
                f"history: found {len(history)} names of which some are equal as text, expected "
                "a different name for each user"
            )
    else:
        lists = {NEW_USER: history}
    users, items = [], []
    for number, (name, own) in enumerate(lists.items()):
        numbers = item_ids.numbers(own)
        if not len(numbers):
            raise DataError(f"history of {name}: found no item, expected at least one")
        users.append(torch.full_like(numbers, number))
        items.append(numbers)
    if not users:
        raise DataError("history: found no user, expected at least one")
    pairs = torch.cat(users), torch.cat(items)
    return list(lists), Interactions.from_pairs(*pairs, len(lists), len(item_ids))


def _by_user(frame: pl.DataFrame) -> dict[str, Ids]:
    if missing := [column for column in ("user", "item") if column not in frame.columns]:
        raise DataError(f"history: found no column {missing[0]}, expected columns user and item")
    blank = frame.select("user", "item").null_count().sum_horizontal().item()
    if blank:
        raise DataError(f"history: found {blank} blank cells, expected a user and an item in each")
    grouped = frame.group_by("user", maintain_order=True).agg("item")
    return {str(user): items for user, items in grouped.rows()}


def renumbered(pairs: Interactions, users: Tensor) -> Interactions:
    """The pairs of some users (n,), who get the numbers 0 … n - 1 in the given order."""
    rows, items = pairs.of_users(users)
    return Interactions(rows, items, len(users), pairs.num_items)  # sorted and distinct
