"""The best k of all items for many users, without ever holding the matrix of all scores.

Shapes: n users, B of them in a block, k items each.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kgrec.data.interactions import Interactions
from kgrec.errors import KgrecError

# A block's scores stand in memory about three times: as they come, compared, and in topk's hands.
COPIES = 3


def top_k(
    score_all: Callable[[Tensor], Tensor],
    users: Tensor,
    k: int,
    num_items: int,
    exclude: Interactions | None = None,
    memory_budget: float = 2**26,
) -> tuple[Tensor, Tensor]:
    """Ranks all items for each user and keeps the best k.

    Args:
        score_all: from users (B,) to new (B, num_items) scores, higher is better.
        users: (n,) int64.
        k: items to keep.
        num_items: items.
        exclude: pairs that are not ranked, such as training positives; on the users' device.
        memory_budget: bytes that a block of users' scores may take.

    Returns:
        (n, k) scores and (n, k) items, best first; of items with one score the smaller number
        comes first. Where fewer than k items are left the rest is -inf and item -1.

    Raises:
        KgrecError: a score is not a number.
        ValueError: k is not between 1 and ``num_items``.
    """
    if not 1 <= k <= num_items:
        raise ValueError(f"k: found {k}, expected 1 to {num_items}")
    block = max(1, int(memory_budget // (4 * num_items * COPIES)))
    found = [_best(score_all(some), some, k, exclude) for some in torch.split(users, block)]
    if not found:
        return torch.empty(0, k, device=users.device), users.new_empty(0, k)
    scores, items = (torch.cat(parts) for parts in zip(*found, strict=True))
    return scores, items


def _best(
    scores: Tensor, users: Tensor, k: int, exclude: Interactions | None
) -> tuple[Tensor, Tensor]:
    """(B, k) scores and items of one block; its scores (B, num_items) are overwritten."""
    if exclude is not None:
        scores[exclude.of_users(users)] = -torch.inf
    values, items = scores.topk(k)
    if bool(values.isnan().any()):
        raise KgrecError("found scores that are not numbers, expected numbers to rank by")
    # topk breaks ties as it likes: where they reach over its end, the smaller numbers are wanted.
    tied = (scores >= values[:, -1:]).sum(dim=1) > k
    if bool(tied.any()):
        whole = scores[tied].sort(dim=1, descending=True, stable=True)
        values[tied], items[tied] = whole.values[:, :k], whole.indices[:, :k]
    items, order = items.sort(dim=1)
    values, order = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    return values, items.gather(1, order).masked_fill_(values == -torch.inf, -1)
