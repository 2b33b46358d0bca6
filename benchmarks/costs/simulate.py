"""Draws the ids of a step on many devices, and counts what each would send.

Nothing is trained: the ids alone decide the bytes. A Zipf distribution gives row r a frequency
proportional to 1 / (r + 1)^s, so row 0 is the hottest and popular rows are neighbours in the table.

Shapes: E entities, K neighbours, W devices, b rows per device.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from costs.model import FLOAT, Sizes, distinct_entities, index_bytes, sent
from kgrec.sharding.traffic import bytes_of_read


def draw(n: int, rows: int, exponent: float, draws: torch.Generator) -> Tensor:
    """(n,) rows with a Zipf distribution; exponent 0: all rows alike."""
    if exponent == 0:
        return torch.randint(rows, (n,), generator=draws)
    weights = torch.arange(1, rows + 1, dtype=torch.float64).pow_(-exponent).cumsum(0)
    points = torch.rand(n, generator=draws, dtype=torch.float64) * weights[-1]
    return torch.searchsorted(weights, points).clamp_(max=rows - 1)


def simulate(s: Sizes, exponent: float) -> dict[str, Any]:
    """Bytes that each device sends in one step, and the distinct entities that each reads.

    Args:
        s: sizes.
        exponent: s of Zipf's law for users, items and the neighbours of every entity.
    """
    draws = torch.Generator().manual_seed(0)
    neighbors = draw(s.entities * s.K, s.entities, exponent, draws).view(-1, s.K)
    users, levels, whole = [], [[] for _ in range(s.H)], []
    for _ in range(s.ranks):
        users.append(draw(s.rows, s.users, exponent, draws).unique())
        nodes = [draw(s.rows, s.items, exponent, draws).unique()]
        for _ in range(s.H):
            nodes.append(neighbors[nodes[-1]].unique())
        for level, ids in zip(levels, nodes, strict=False):
            level.append(ids)
        whole.append(torch.cat(nodes).unique())
    width = 2 * s.K * index_bytes(s)
    every = [(users, s.users, FLOAT * s.d, True)]
    every += [(ids, s.entities, width, False) for ids in levels]
    every.append((whole, s.entities, FLOAT * s.d, True))
    each, ranges = torch.zeros(s.ranks), torch.zeros(s.ranks)
    for ids, rows, row_bytes, trained in every:
        each += bytes_of_read(ids, row_bytes, trained)
        moved = [in_ranges(part, rows, s.ranks) for part in ids]
        ranges += bytes_of_read(moved, row_bytes, trained)
    return {
        "exponent": exponent,
        "distinct": sum(map(len, whole)) / s.ranks,
        "expected_distinct": distinct_entities(s, s.rows)[-1],
        "sent": float(each.mean()),
        "expected": sent(s),
        "most": float(each.max() / each.mean()),
        "most_in_ranges": float(ranges.max() / ranges.mean()),
    }


def in_ranges(ids: Tensor, rows: int, ranks: int) -> Tensor:
    """Ids whose remainder by W is the rank that would have them if rows were shared in ranges."""
    length = -(-rows // ranks)
    return ids % length * ranks + ids // length
