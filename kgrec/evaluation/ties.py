"""The order of items with equal scores, which depends only on raw ids and a seed.

Item numbers follow the order of lines in the files. If they decided between equal scores, two
folders that differ only in that order would give different metrics.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def tie_order(ids: Iterable[Any], seed: int) -> Tensor:
    """Items in the order in which equal scores are ranked.

    Args:
        ids: raw id of each item.
        seed: seed of the order.

    Returns:
        (num_items,) int64, a permutation of the items: by BLAKE2b of seed and raw id.
    """
    keys = [hashlib.blake2b(f"{seed}/{raw}".encode(), digest_size=16).digest() for raw in ids]
    return torch.tensor(sorted(range(len(keys)), key=keys.__getitem__), dtype=torch.int64)
