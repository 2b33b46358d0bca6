"""The best k of all items, where each process scores its share of the items.

Every process scores its items for all users and keeps its best k. The lists of all processes are
merged; items with equal scores keep the order of ties. So the result is that of one process.

Shapes: n users, B of them in a block, W processes, k items each.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from kgrec.data.interactions import Interactions
from kgrec.evaluation.topk import COPIES, top_k


def top_k_of_shards(
    score_items: Callable[[Tensor, Tensor], Tensor],
    users: Tensor,
    k: int,
    num_items: int,
    exclude: Interactions,
    order: Tensor,
    ranked: Tensor | None = None,
    memory_budget: float = 2**26,
) -> tuple[Tensor, Tensor]:
    """Ranks all items for each user; every process must call it with the same arguments.

    Args:
        score_items: function from users (B,) and items (m,) to (B, m) scores; it is called equally
            often on every process.
        users: (n,) int64.
        k: number of items to keep.
        num_items: number of items.
        exclude: pairs that are not ranked.
        order: (num_items,) items in the order in which equal scores are ranked.
        ranked: (m,) ascending items to rank; None: all.
        memory_budget: bytes that a block of users' scores may take.

    Returns:
        (n, k) scores and (n, k) items on all processes, as :func:`kgrec.evaluation.topk.top_k`.
    """
    rank, ranks, device = dist.get_rank(), dist.get_world_size(), users.device
    every = torch.arange(num_items, device=device) if ranked is None else ranked.to(device)
    own = every[rank::ranks]
    place = torch.empty_like(order, device=device)
    place[order.to(device)] = torch.arange(num_items, device=device)
    local = _restricted(exclude, own, num_items)
    local_order, kept = place[own].argsort(), min(k, len(own))
    largest = math.ceil(len(every) / ranks)
    block = max(1, int(memory_budget // (4 * largest * COPIES)))
    values = torch.full((len(users), k), -torch.inf, device=device)
    items = torch.full((len(users), k), -1, device=device)
    for first in range(0, len(users), block):
        part = users[first : first + block]
        scores = score_items(part, own)
        if kept:
            best = top_k(lambda _, s=scores: s, part, kept, len(own), local, 2.0**62, local_order)  # type: ignore[misc]
            values[first : first + block, :kept] = best[0]
            items[first : first + block, :kept] = own[best[1]].masked_fill(best[1] < 0, -1)
    return _merged(values, items, place, k)


def _restricted(exclude: Interactions, own: Tensor, num_items: int) -> Interactions:
    """The pairs of some items, which are numbered from 0."""
    number = torch.full((num_items,), -1, device=own.device)
    number[own] = torch.arange(len(own), device=own.device)
    items = number[exclude.items]
    kept = items >= 0
    pairs = exclude.users[kept], items[kept]
    return Interactions.from_pairs(*pairs, exclude.num_users, max(1, len(own)))


def _merged(values: Tensor, items: Tensor, place: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The best k of the lists of all processes: by score, then by the order of ties."""
    parts = [[torch.empty_like(t) for _ in range(dist.get_world_size())] for t in (values, items)]
    dist.all_gather(parts[0], values)
    dist.all_gather(parts[1], items)
    values, items = torch.cat(parts[0], dim=1), torch.cat(parts[1], dim=1)
    places = place[items.clamp(min=0)].masked_fill(items < 0, len(place))
    first = places.argsort(dim=1, stable=True)
    values, items = values.gather(1, first), items.gather(1, first)
    values, by_value = values.sort(dim=1, descending=True, stable=True)
    return values[:, :k], items.gather(1, by_value)[:, :k]
