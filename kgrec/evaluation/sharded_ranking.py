"""The best k of all items, where each process scores its share of the items.

The i-th item that is ranked is on process i mod W. Every process scores its own items for all
users, a block of items and a block of users at a time, and keeps the best k of each user. Then the
lists are merged: each process merges the lists of its share of the users, and all processes gather
the results. Items with equal scores keep the order of ties throughout. So the lists are those of
one process that has the same scores.

A process holds the lists of all users, one block of scores, and what the scores of a block of items
need. It never holds a vector or a score of every item. To the other processes it sends at most

    2 · (W - 1) / W · n · k · (8 + bytes of a score)

bytes, without the reads of shared tables by the scores themselves.

Shapes: W processes, n users, B users and m items of a block, k items of a list. A place is the
position of an item in the order of ties.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from kgrec.data.interactions import Interactions
from kgrec.errors import KgrecError
from kgrec.evaluation.topk import COPIES, top_k

# Items of a process that are scored together. Vectors of a block and their neighbours are in
# memory at once; more blocks read users, and what neighbours share, more often.
ITEMS = 2**16

Scorer = Callable[[Tensor], Callable[[Tensor], Tensor]]


@torch.no_grad()
def top_k_of_shards(
    scorer: Scorer,
    users: Tensor,
    k: int,
    num_items: int,
    exclude: Interactions | None = None,
    order: Tensor | None = None,
    ranked: Tensor | None = None,
    memory_budget: float = 2**26,
    items_at_once: int = ITEMS,
) -> tuple[Tensor, Tensor]:
    """Ranks all items for each user and keeps the best k; all processes together.

    Every process must call it with the same arguments, except that pairs of other processes' items
    may be missing in ``exclude``. Without a process group, one process ranks all items.

    Args:
        scorer: function from items (m,), which are distinct, to a function from users (B,) to new
            (B, m) scores, higher is better, such as :meth:`Recommender.scorer`. Both functions are
            called equally often on every process, with as many items and the same users, so they
            may read shared tables.
        users: (n,) int64, on the device that scores.
        k: number of items to keep.
        num_items: number of items of the catalogue.
        exclude: pairs that are not ranked, on any device; None: all pairs are ranked.
        order: (num_items,) items in the order in which equal scores are ranked
            (:func:`kgrec.evaluation.ties.tie_order`); None: by number.
        ranked: (m,) distinct items to rank; None: all.
        memory_budget: bytes that the scores of a block may take, and the lists that are merged at
            once.
        items_at_once: number of items that a process scores together.

    Returns:
        (n, k) scores and (n, k) items on every process, best first. Where fewer than k items are
        left the rest is -inf and item -1. As :func:`kgrec.evaluation.topk.top_k`.

    Raises:
        KgrecError: a score is not a number; on every process, whichever has it.
        ValueError: k is not between 1 and ``num_items``.
    """
    if not 1 <= k <= num_items:
        raise ValueError(f"k: found {k}, expected 1 to {num_items}")
    rank, ranks = _process()
    own, places, kept = _own_items(num_items, order, ranked, rank, ranks, users.device)
    local = None if exclude is None else _restricted(exclude.to(users.device), own[:kept])
    width = min(items_at_once, len(own))
    parts = _even_blocks(users, int(memory_budget // (4 * max(1, width) * COPIES)))
    if not parts:
        return _empty(0, k, num_items, users.device)
    lists = [_empty(len(part), k, num_items, users.device) for part in parts]
    for first in range(0, len(own), items_at_once):
        block = slice(first, first + items_at_once)
        scores_of = scorer(own[block])
        for number, part in enumerate(parts):
            scores = scores_of(part)
            scores[:, max(0, kept - first) :] = -torch.inf  # see _own_items
            if local is not None:
                row, item = local.of_users(part)
                inside = (item >= first) & (item < first + scores.shape[1])
                scores[row[inside], item[inside] - first] = -torch.inf
            best = _best(scores, places[block], k, num_items)
            lists[number] = merged([lists[number], best], k)
    values, of_places = _exchanged(lists, k, num_items, memory_budget)
    if bool(values.isnan().any()):
        raise KgrecError("found scores that are not numbers, expected numbers to rank by")
    if order is None:
        return values, of_places.masked_fill(values == -torch.inf, -1)
    items = order.to(users.device)[of_places.clamp(max=num_items - 1)]
    return values, items.masked_fill_(values == -torch.inf, -1)


def merged(lists: list[tuple[Tensor, Tensor]], k: int) -> tuple[Tensor, Tensor]:
    """The best k of several lists of the same users: by score, then by place.

    Args:
        lists: scores (B, ·) and places (B, ·) of each list, in any order; k or more in all.
        k: number of items to keep.

    Returns:
        (B, k) scores and (B, k) places, best first; a score that is not a number comes first.
    """
    values, places = (torch.cat(parts, dim=1) for parts in zip(*lists, strict=True))
    places, by_place = places.sort(dim=1, stable=True)
    values, by_value = values.gather(1, by_place).sort(dim=1, descending=True, stable=True)
    return values[:, :k].contiguous(), places.gather(1, by_value[:, :k])


def _process() -> tuple[int, int]:
    """Number of this process, and W."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def _own_items(
    num_items: int,
    order: Tensor | None,
    ranked: Tensor | None,
    rank: int,
    ranks: int,
    device: torch.device,
) -> tuple[Tensor, Tensor, int]:
    """The items that this process scores, in the order of ties.

    Returns:
        (m,) items and (m,) their places, as many on every process, and the number of them that this
        process ranks: the last one may belong to another process, which ranks it.
    """
    if ranked is None:
        number, last = num_items, num_items - 1
        own = torch.arange(min(rank, num_items), num_items, ranks, device=device)
    else:
        number, last = len(ranked), int(ranked[-1]) if len(ranked) else 0
        own = ranked[rank::ranks].to(device)
    places = own
    if order is not None:
        place = torch.empty(num_items, dtype=torch.int64, device=device)
        place[order.to(device)] = torch.arange(num_items, device=device)
        places = place[own]
    places, by_place = places.sort()
    own, kept = own[by_place], len(own)
    if kept < math.ceil(number / ranks):
        own, places = (torch.cat([t, t.new_tensor([f])]) for t, f in ((own, last), (places, 0)))
    return own, places, kept


def _restricted(exclude: Interactions, own: Tensor) -> Interactions:
    """The pairs of some distinct items ``own`` (m,), numbered by their positions in ``own``."""
    if len(own) == 0:
        return Interactions(exclude.users[:0], exclude.items[:0], exclude.num_users, 1)
    ascending, number = own.sort()
    at = torch.searchsorted(ascending, exclude.items).clamp_(max=len(own) - 1)
    kept = ascending[at] == exclude.items
    items = number[at[kept]]
    return Interactions(exclude.users[kept], items, exclude.num_users, len(own))


def _even_blocks(users: Tensor, largest: int) -> list[Tensor]:
    """Users in as few blocks as the largest size allows, of about equal sizes.

    Matrix products with very few rows round otherwise than larger ones do, so there is no short
    last block.
    """
    number = math.ceil(len(users) / max(1, largest))
    return list(torch.tensor_split(users, number)) if number else []


def _empty(B: int, k: int, num_items: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Lists without an item; a place that no item has comes last."""
    values = torch.full((B, k), -torch.inf, device=device)
    return values, torch.full((B, k), num_items, device=device)


def _best(scores: Tensor, places: Tensor, k: int, num_items: int) -> tuple[Tensor, Tensor]:
    """The best scores (B, ·) of a block and their places; items are in the order of ties."""
    rows = torch.arange(len(scores), device=scores.device)
    kept = min(k, scores.shape[1])
    try:
        values, at = top_k(lambda _: scores, rows, kept, scores.shape[1], memory_budget=2.0**62)
    except KgrecError:  # the other processes wait: all of them see it in the merged lists
        values = scores.new_full((len(scores), kept), torch.nan)
        return values, torch.full_like(values, num_items, dtype=torch.int64)
    return values, places[at.clamp(min=0)].masked_fill_(at < 0, num_items)


def _exchanged(
    lists: list[tuple[Tensor, Tensor]], k: int, num_items: int, memory_budget: float
) -> tuple[Tensor, Tensor]:
    """(n, k) scores and (n, k) places of all users, from each process's lists of its items."""
    values, places = (torch.cat(parts) for parts in zip(*lists, strict=True))
    _, ranks = _process()
    if ranks == 1:
        return values, places
    # A block of users: W lists of each arrive for a share of it, and the merged lists of all of it.
    rows = max(1, int(memory_budget // (2 * k * (8 + values.element_size()) * ranks))) * ranks
    for first in range(0, len(values), rows):
        block = slice(first, first + rows)
        values[block], places[block] = _merged_block(values[block], places[block], k, num_items)
    return values, places


def _merged_block(values: Tensor, places: Tensor, k: int, num_items: int) -> tuple[Tensor, Tensor]:
    """Merges the lists (b, k) of all processes; each process does so for its share of the users."""
    _, ranks = _process()
    share = math.ceil(len(values) / ranks)
    shares = []
    for part, filling in ((values, -torch.inf), (places, num_items)):
        sent = part.new_full((ranks * share, k), filling)
        sent[: len(part)] = part
        arrived = torch.empty_like(sent)
        dist.all_to_all_single(arrived, sent)
        shares.append(arrived.view(ranks, share, k))
    own = merged(list(zip(*shares, strict=True)), k)
    results = []
    for part in own:
        parts = [torch.empty_like(part) for _ in range(ranks)]
        dist.all_gather(parts, part)
        results.append(torch.cat(parts)[: len(values)])
    return results[0], results[1]
