"""The best k of all items for many users, without holding the matrix of all scores.

Shapes: n users, B of them in a block, k items each.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kgrec.data.interactions import Interactions
from kgrec.errors import KgrecError

# Copies of a block's scores in memory: the scores, the comparison with a threshold, topk's own.
COPIES = 3


def top_k(
    score_all: Callable[[Tensor], Tensor],
    users: Tensor,
    k: int,
    num_items: int,
    exclude: Interactions | None = None,
    memory_budget: float = 2**26,
    order: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Ranks all items for each user and keeps the best k.

    Args:
        score_all: function from users (B,) to new (B, num_items) scores, higher is better.
        users: (n,) int64.
        k: number of items to keep.
        num_items: number of items.
        exclude: pairs that are not ranked, such as training positives; on the users' device.
        memory_budget: bytes that a block of users' scores may take.
        order: (num_items,) items in the order in which equal scores are ranked
            (:func:`kgrec.evaluation.ties.tie_order`); None: by number.

    Returns:
        (n, k) scores and (n, k) items, best first. Where fewer than k items are left the rest is
        -inf and item -1.

    Raises:
        KgrecError: a score is not a number.
        ValueError: k is not between 1 and ``num_items``.
    """
    if not 1 <= k <= num_items:
        raise ValueError(f"k: found {k}, expected 1 to {num_items}")
    block = max(1, int(memory_budget // (4 * num_items * COPIES)))
    order = torch.arange(num_items) if order is None else order
    order = order.to(users.device)
    place = torch.empty_like(order)  # place of each item in the order
    place[order] = torch.arange(num_items, device=order.device)
    blocks = [
        _best(score_all(part), part, k, exclude, order, place) for part in torch.split(users, block)
    ]
    if not blocks:
        return torch.empty(0, k, device=users.device), users.new_empty(0, k)
    scores, items = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    return scores, items


def _best(
    scores: Tensor,
    users: Tensor,
    k: int,
    exclude: Interactions | None,
    order: Tensor,
    place: Tensor,
) -> tuple[Tensor, Tensor]:
    """(B, k) scores and items of one block; its scores (B, num_items) are overwritten."""
    if exclude is not None:
        scores[exclude.of_users(users)] = -torch.inf
    values, items = scores.topk(k)
    if bool(values.isnan().any()):
        raise KgrecError("found scores that are not numbers, expected numbers to rank by")
    # The order of equal scores in topk is undefined: such rows are ordered here.
    cut = values[:, -1:]
    beyond = (scores >= cut).sum(dim=1) > k  # a tie extends beyond rank k
    tied = beyond | (values[:, 1:] == values[:, :-1]).any(dim=1)
    if bool(tied.any()):
        places = place[items[tied]].sort(dim=1).values
        if bool(beyond.any()):
            places[beyond[tied]] = _first_places(scores[beyond][:, order], cut[beyond], k)
        items[tied] = order[places]
        values[tied], by_value = (
            scores[tied].gather(1, items[tied]).sort(dim=1, descending=True, stable=True)
        )
        items[tied] = items[tied].gather(1, by_value)
    return values, items.masked_fill_(values == -torch.inf, -1)


def _first_places(scores: Tensor, cut: Tensor, k: int) -> Tensor:
    """Columns of the best k scores; among scores equal to the cut, the first columns.

    Args:
        scores: (b, num_items), columns in the order of ties.
        cut: (b, 1) score of rank k.
        k: number of columns.

    Returns:
        (b, k) ascending.
    """
    above, equal = scores > cut, scores == cut
    num_ties_kept = k - above.sum(dim=1, keepdim=True)
    chosen = above | (equal & (equal.cumsum(dim=1) <= num_ties_kept))
    return chosen.nonzero()[:, 1].view(-1, k)
