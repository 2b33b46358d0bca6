"""Immutable user-item pairs, with keys for fast look-up."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Interactions:
    """Distinct user-item pairs, sorted by user, then item.

    Attributes:
        users: (n,) int64, in [0, num_users).
        items: (n,) int64, in [0, num_items); an item is the entity of the same number.
        num_users: number of users of the whole data set, including users without a pair here.
        num_items: number of items of the whole data set.
    """

    users: Tensor
    items: Tensor
    num_users: int
    num_items: int

    @classmethod
    def from_pairs(
        cls, users: Tensor, items: Tensor, num_users: int, num_items: int
    ) -> Interactions:
        """Sorts the pairs and drops duplicates."""
        keys = torch.unique(users * num_items + items)
        return cls(keys // num_items, keys % num_items, num_users, num_items)

    def __len__(self) -> int:
        return self.users.numel()

    @cached_property
    def keys(self) -> Tensor:
        """(n,) ``user * num_items + item``, ascending: one number for each pair."""
        return self.users * self.num_items + self.items

    def to(self, device: torch.device | str) -> Interactions:
        """The same pairs on a device."""
        users, items = self.users.to(device), self.items.to(device)
        return Interactions(users, items, self.num_users, self.num_items)

    def contains(self, users: Tensor, items: Tensor) -> Tensor:
        """(m,) bool: whether each given pair is in this set."""
        if len(self) == 0:
            return torch.zeros_like(users, dtype=torch.bool)
        keys = users * self.num_items + items
        at = torch.searchsorted(self.keys, keys).clamp_(max=len(self) - 1)
        return self.keys[at] == keys

    def user_degrees(self) -> Tensor:
        """(num_users,) number of pairs of each user."""
        return torch.bincount(self.users, minlength=self.num_users)

    def item_degrees(self) -> Tensor:
        """(num_items,) number of pairs of each item: its popularity."""
        return torch.bincount(self.items, minlength=self.num_items)

    def of_users(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """The pairs of the given users (b,): (m,) positions in ``users``, and (m,) items."""
        first = torch.searchsorted(self.users, users)
        counts = torch.searchsorted(self.users, users, right=True) - first
        row = torch.repeat_interleave(counts)
        rank = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
        return row, self.items[first[row] + rank]

    def take(self, index: Tensor) -> Interactions:
        """The pairs at ``index`` (positions or a mask)."""
        return Interactions.from_pairs(
            self.users[index], self.items[index], self.num_users, self.num_items
        )

    def union(self, other: Interactions) -> Interactions:
        """The pairs that are in this set or in the other."""
        return Interactions.from_pairs(
            torch.cat([self.users, other.users]),
            torch.cat([self.items, other.items]),
            self.num_users,
            self.num_items,
        )


@dataclass(frozen=True)
class LabelledRows:
    """Labelled user-item pairs, for click-through evaluation or for training.

    Attributes:
        users: (n,) int64.
        items: (n,) int64.
        labels: (n,) float32, 1 for a positive and 0 for a sampled negative.
    """

    users: Tensor
    items: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return self.users.numel()

    @classmethod
    def from_parts(
        cls, positives: tuple[Tensor, Tensor], negatives: tuple[Tensor, Tensor]
    ) -> LabelledRows:
        """Positives first, then negatives; each part is (users, items)."""
        users = torch.cat([positives[0], negatives[0]])
        labels = torch.zeros(len(users), device=users.device)
        labels[: len(positives[0])] = 1
        return cls(users, torch.cat([positives[1], negatives[1]]), labels)

    def take(self, index: Tensor | slice) -> LabelledRows:
        """The rows at ``index`` (positions, a mask, or a slice)."""
        return LabelledRows(self.users[index], self.items[index], self.labels[index])

    def to(self, device: torch.device | str) -> LabelledRows:
        """The same rows on a device."""
        return LabelledRows(self.users.to(device), self.items.to(device), self.labels.to(device))
