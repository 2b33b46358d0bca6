"""Ranked lists that were made elsewhere, in the form that the top-K evaluation takes."""

from __future__ import annotations

import polars as pl
import torch
from torch import Tensor


class RankedLists:
    """Scores of all items from lists: listed items by their place, all others -inf.

    Items that are not listed are therefore never ranked, and a metric at a cut-off beyond the
    length of a list counts the missing places as misses.

    Args:
        rows: ``user`` and ``item`` (numbers, each pair once) and ``place`` (1 is the best; equal
            places are ties).
        num_items: number of items.
    """

    def __init__(self, rows: pl.DataFrame, num_items: int) -> None:
        rows = rows.sort("user", "item")
        self.num_items = num_items
        self._users = torch.tensor(rows["user"].to_list(), dtype=torch.int64)
        self._items = torch.tensor(rows["item"].to_list(), dtype=torch.int64)
        self._scores = -torch.tensor(rows["place"].to_list(), dtype=torch.float32)

    def score_all(self, users: Tensor) -> Tensor:
        """(B, num_items) scores, from users (B,)."""
        begin = torch.searchsorted(self._users, users)
        counts = torch.searchsorted(self._users, users, right=True) - begin
        row = torch.repeat_interleave(counts)
        entry = begin[row] + torch.arange(len(row)) - (counts.cumsum(0) - counts)[row]
        scores = torch.full((len(users), self.num_items), -torch.inf)
        scores[row, self._items[entry]] = self._scores[entry]
        return scores
