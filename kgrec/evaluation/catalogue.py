"""Coverage, popularity and concentration of recommended items, relevant or not.

Shapes: ``items`` (n, k) are the best k items of n users; -1 where fewer items are left.
"""

from __future__ import annotations

import torch
from torch import Tensor


def exposure(items: Tensor, num_items: int) -> Tensor:
    """(num_items,) number of users with each item among their best k."""
    flat = items.flatten()
    return torch.bincount(flat[flat >= 0], minlength=num_items)


def coverage(items: Tensor, num_items: int) -> float:
    """Share of the catalogue that is recommended to at least one user."""
    return float((exposure(items, num_items) > 0).double().mean())


def mean_popularity(items: Tensor, popularity: Tensor) -> float:
    """Mean training popularity over all recommendations.

    Args:
        items: (n, k).
        popularity: (num_items,) number of training positives of each item.

    Returns:
        Training positives per item; nan where nothing is recommended.
    """
    flat = items.flatten()
    return float(popularity[flat[flat >= 0]].double().mean())


def gini(items: Tensor, num_items: int) -> float:
    """Gini coefficient of exposure over all items, including items never recommended.

    ``Σ_i (2i - n - 1)·x_i / (n·Σ_i x_i)`` with exposures x in ascending order: 0 where all items
    are recommended equally often, near 1 where a few items get all recommendations.

    Args:
        items: (n, k).
        num_items: number of items.

    Returns:
        In [0, 1); nan where nothing is recommended.
    """
    x = exposure(items, num_items).sort().values.double()
    weights = 2 * torch.arange(1, num_items + 1, dtype=torch.float64, device=x.device)
    return float(((weights - num_items - 1) @ x) / (num_items * x.sum()))
