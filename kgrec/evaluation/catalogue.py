"""What is recommended, whether right or wrong: how much of the catalogue, and how popular.

Shapes: ``items`` (n, k) are the k best of n users; -1 stands where fewer were left.
"""

from __future__ import annotations

import torch
from torch import Tensor


def exposure(items: Tensor, num_items: int) -> Tensor:
    """(num_items,) to how many users each item is recommended."""
    flat = items.flatten()
    return torch.bincount(flat[flat >= 0], minlength=num_items)


def coverage(items: Tensor, num_items: int) -> float:
    """Share of the catalogue that is recommended to anybody."""
    return float((exposure(items, num_items) > 0).double().mean())


def mean_popularity(items: Tensor, popularity: Tensor) -> float:
    """Mean training popularity over all recommendations.

    Args:
        items: (n, k).
        popularity: (num_items,) training positives of each item.

    Returns:
        In training positives an item; nan where nothing is recommended.
    """
    flat = items.flatten()
    return float(popularity[flat[flat >= 0]].double().mean())


def gini(items: Tensor, num_items: int) -> float:
    """Gini coefficient of exposure over all items, those never recommended included.

    ``Σ_i (2i - n - 1)·x_i / (n·Σ_i x_i)`` with exposures x in ascending order: 0 where all items
    are recommended alike, near 1 where a few get everything.

    Args:
        items: (n, k).
        num_items: items of the catalogue.

    Returns:
        In [0, 1); nan where nothing is recommended.
    """
    x = exposure(items, num_items).sort().values.double()
    weights = 2 * torch.arange(1, num_items + 1, dtype=torch.float64, device=x.device)
    return float(((weights - num_items - 1) @ x) / (num_items * x.sum()))
