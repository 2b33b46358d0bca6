"""Negative sampling in proportion to popularity, exact and vectorised.

The probability of an item j that is not excluded for user u is

    q_u(j) = w_j / Σ w_i over the items i that are not excluded for u,   w_j = popularity_j^power

Each item has a whole number of tickets in proportion to w, and the sampler draws a ticket. So it
draws without rejection, as :class:`~kgrec.data.negatives.NegativeSampler` does, whose items have
one ticket each; and a sum of tickets is exact, so that no excluded item is drawn by rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kgrec.data.interactions import Interactions
from kgrec.data.negatives import uniform_below

# Tickets of all items together: enough for shares of one in a million within 0.1 percent. The
# numbers of users times this must be within int64.
TICKETS = 2**30


class PopularitySampler:
    """Sampler of items that are not excluded for a user, in proportion to popularity^power.

    Args:
        excluded: pairs that must not be drawn, and by whose number of pairs an item is popular.
        power: 1 is popularity itself, 0 the uniform distribution.

    Attributes:
        num_drawable: (num_users,) int64, tickets of the items that may be drawn.
    """

    def __init__(self, excluded: Interactions, power: float = 1.0) -> None:
        users, items = excluded.users, excluded.items
        self.tickets = _tickets(excluded.item_degrees(), power)
        self._limits = self.tickets.cumsum(0)  # (num_items,) tickets up to and with each item
        self._width = int(self._limits[-1]) + 1
        own = self.tickets[items]
        of_user = torch.zeros(excluded.num_users, dtype=torch.int64, device=own.device)
        of_user.index_add_(0, users, own)
        self.num_drawable = self._limits[-1] - of_user
        before = own.cumsum(0) - own  # tickets of excluded pairs before each pair, of all users
        first = of_user.cumsum(0) - of_user  # of those, the ones of earlier users
        self._skipped = torch.cat([before, before.new_full((1,), int(of_user.sum()))])
        self._first = first
        # Drawable tickets before each excluded item: they do not decrease within a user, so these
        # keys ascend over all users.
        self._keys = users * self._width + (self._limits[items] - own) - (before - first[users])

    def draw(self, users: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws one item for each row with replacement.

        Args:
            users: (n,) int64.
            generator: a generator on the device of the excluded pairs.

        Returns:
            (users, items), each (m,). Rows of users without an item to draw are dropped, so
            m <= n.
        """
        users = users[self.num_drawable[users] > 0]
        k = uniform_below(self.num_drawable[users], generator)
        # As many of the user's excluded pairs lie before the k-th drawable ticket.
        pairs = torch.searchsorted(self._keys, users * self._width + k, right=True)
        k = k + self._skipped[pairs] - self._first[users]
        return users, torch.searchsorted(self._limits, k, right=True)

    def log_probability(self, users: Tensor, items: Tensor) -> Tensor:
        """(n,) float32 ln q of items (n,) that are drawn for users (n,)."""
        return self.tickets[items].log() - self.num_drawable[users].log()


def _tickets(popularity: Tensor, power: float) -> Tensor:
    """(num_items,) int64 tickets in proportion to popularity^power, about TICKETS in all.

    An item that has a weight has a ticket.
    """
    weights = popularity.cpu().double() ** power
    tickets = (weights * (TICKETS / weights.sum().clamp(min=1))).round().long()
    return torch.where(weights > 0, tickets.clamp(min=1), 0).to(popularity.device)
