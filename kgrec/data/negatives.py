"""Negative sampling, exact and vectorised.

Uniform draws need no rejection of excluded pairs; popularity-matched draws do.

The possible negatives of user u are the complement of a sorted list p_0 < p_1 < … of excluded
items. The k-th of them is k + #{i : p_i - i <= k}. So a uniform draw is a uniform k and one binary
search, on any device and for all rows at once.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from kgrec.data.draws import widest_float
from kgrec.data.interactions import Interactions


class Sampler(Protocol):
    """Sampler of training negatives.

    Attributes:
        num_drawable: (num_users,) 0 where no item may be drawn for the user.
    """

    num_drawable: Tensor

    def draw(self, users: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws one item for each row; see :meth:`NegativeSampler.draw`."""

    def log_probability(self, users: Tensor, items: Tensor) -> Tensor:
        """(n,) float32 ln q of items (n,) that are drawn for users (n,)."""


class NegativeSampler:
    """Sampler of items that are not excluded for a user.

    Args:
        excluded: pairs that must not be drawn.
        among: (m,) int64, ascending, the items that may be drawn; None: all items.
    """

    def __init__(self, excluded: Interactions, among: Tensor | None = None) -> None:
        self._num_all_items = excluded.num_items
        self._among = among
        if among is not None:  # from here on items are places in among
            among = self._among = among.to(excluded.items.device)
            excluded = _renumbered(excluded, among)
        degrees = excluded.user_degrees()
        self.num_items = excluded.num_items
        self.num_drawable = self.num_items - degrees  # (num_users,) items that may be drawn
        self._starts = degrees.cumsum(0) - degrees
        # p_i - i does not decrease within a user, so these keys ascend over all users. They are
        # computed in place: the pairs may be most of what fits into memory.
        keys = excluded.users * (self.num_items + 1)
        keys += excluded.items
        keys -= torch.arange(len(keys), device=keys.device)
        keys += self._starts.repeat_interleave(degrees)
        self._keys = keys

    def nth_drawable(self, users: Tensor, k: Tensor) -> Tensor:
        """(n,) the k-th item, 0 <= k < num_drawable[users], that is not excluded for each user."""
        num_before = torch.searchsorted(self._keys, users * (self.num_items + 1) + k, right=True)
        items = k + num_before - self._starts[users]
        return items if self._among is None else self._among[items]

    def draw(self, users: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws one item for each row, uniformly and with replacement.

        Args:
            users: (n,) int64.
            generator: a generator on the device of the excluded pairs.

        Returns:
            (users, items), each (m,). Rows of users without an item to draw are dropped, so
            m <= n.
        """
        users = users[self.num_drawable[users] > 0]
        k = uniform_below(self.num_drawable[users], generator)
        return users, self.nth_drawable(users, k)

    def log_probability(self, users: Tensor, items: Tensor) -> Tensor:
        """(n,) float32 ln q of items (n,) that are drawn for users (n,)."""
        return -self.num_drawable[users].log()

    def draw_distinct(self, counts: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws ``counts[u]`` distinct items for every user u, uniformly over such sets of items.

        Args:
            counts: (num_users,) number of items to draw; a user with fewer drawable items gets
                all of them.
            generator: CPU generator.

        Returns:
            (users, items), sorted by user, then item.
        """
        counts = torch.minimum(counts, self.num_drawable)
        # If at most half of the drawable items are wanted, draw at random and replace duplicates;
        # otherwise shuffle all drawable items.
        sparse = counts * 2 <= self.num_drawable
        users, k = _redraw(torch.where(sparse, counts, 0), self.num_drawable, generator)
        more_users, more_k = _shuffle(torch.where(sparse, 0, counts), self.num_drawable, generator)
        users, k = torch.cat([users, more_users]), torch.cat([k, more_k])
        keys = users * self._num_all_items
        keys += self.nth_drawable(users, k)
        del users, k, more_users, more_k
        keys = keys.sort().values
        return keys // self._num_all_items, keys % self._num_all_items


def _renumbered(pairs: Interactions, items: Tensor) -> Interactions:
    """The pairs with one of the items, ascending; an item is numbered by its place among them."""
    places = torch.searchsorted(items, pairs.items).clamp_(max=len(items) - 1)
    kept = items[places] == pairs.items
    return Interactions.from_pairs(pairs.users[kept], places[kept], pairs.num_users, len(items))


def uniform_below(bounds: Tensor, generator: torch.Generator) -> Tensor:
    """(n,) int64, uniform in [0, bounds)."""
    dtype, device = widest_float(bounds.device), bounds.device
    draw = torch.rand(bounds.shape, generator=generator, dtype=dtype, device=device)
    drawn = draw.mul_(bounds).long()
    del draw
    return torch.minimum(drawn, bounds - 1, out=drawn)


def _redraw(
    counts: Tensor, num_drawable: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """``counts[u]`` distinct k < num_drawable[u]; duplicates are drawn again."""
    width = int(num_drawable.max()) + 1
    batches: list[Tensor] = []  # each sorted; later batches are much smaller
    missing, num_missing = torch.repeat_interleave(torch.arange(len(counts)), counts), counts
    while len(missing):
        drawn = missing * width
        drawn += uniform_below(num_drawable[missing], generator)
        drawn = torch.unique(drawn)
        for keys in batches:
            at = torch.searchsorted(keys, drawn).clamp_(max=len(keys) - 1)
            drawn = drawn[keys[at] != drawn]
        if len(drawn):
            batches.append(drawn)
        num_missing = num_missing - torch.bincount(drawn // width, minlength=len(counts))
        missing = torch.repeat_interleave(torch.arange(len(counts)), num_missing)
    keys = torch.cat([torch.empty(0, dtype=torch.int64), *batches])
    return keys // width, keys % width


def _shuffle(
    counts: Tensor, num_drawable: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """``counts[u]`` distinct k < num_drawable[u]: the first ones of a random order of all k."""
    chosen = torch.nonzero(counts).squeeze(1)
    sizes = num_drawable[chosen]
    owner = torch.repeat_interleave(torch.arange(len(chosen)), sizes)
    k = torch.arange(len(owner)) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    order = torch.argsort(torch.rand(len(owner), generator=generator, dtype=torch.float64))
    order = order[torch.argsort(owner[order], stable=True)]
    first = order[k < counts[chosen][owner]]  # position within the owner's block < count
    return chosen[owner[first]], k[first]


def draw_popularity_matched(
    positives: Interactions,
    excluded: Interactions,
    generator: torch.Generator,
    max_rounds: int = 200,
) -> tuple[Tensor, Tensor]:
    """Draws one negative for each positive, with the item frequencies of ``positives``.

    The popularity of an item does not separate positives from such negatives. Items are drawn
    with replacement, by rejection: a row that hits an excluded pair is drawn again.

    Args:
        positives: the pairs of one part.
        excluded: pairs that must not be drawn: the positives of every part.
        generator: CPU generator.
        max_rounds: number of tries after which a row is dropped (its user has nearly every item).

    Returns:
        (users, items), each (m,), m <= len(positives).
    """
    users, items = [], []
    missing = positives.users
    for _ in range(max_rounds):
        if len(missing) == 0:
            break
        rows = torch.randint(len(positives), (len(missing),), generator=generator)
        drawn = positives.items[rows]
        hit = excluded.contains(missing, drawn)
        users.append(missing[~hit])
        items.append(drawn[~hit])
        missing = missing[hit]
    empty = torch.empty(0, dtype=torch.int64)
    return torch.cat([empty, *users]), torch.cat([empty, *items])
