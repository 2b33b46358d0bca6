"""Coverage, popularity, concentration, diversity and novelty of recommended items, relevant or not.

Shapes: ``items`` (n, k) are the best k items of n users; -1 where fewer items are left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kgrec.data.draws import generator
from kgrec.data.knowledge_graph import Neighborhood

MOST_USERS = 2000  # users that diversity looks at: all users of music
PAIRS = 2**23  # pairs of items that are in memory at once
BLOCK = 4096  # distinct items whose similarities are in memory at once


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


def novelty(items: Tensor, popularity: Tensor, num_users: int) -> float:
    """Mean of -log2(share of users with the item as a training positive), in bits.

    An item without a training positive counts as if one user had it.

    Args:
        items: (n, k).
        popularity: (num_items,) number of training positives of each item.
        num_users: number of users of the data set.

    Returns:
        At least 0; nan where nothing is recommended.
    """
    counts = exposure(items, len(popularity)).to(popularity.device)
    bits = -(popularity.double().clamp(min=1) / num_users).log2()
    total = int(counts.sum())
    # An exact sum: that of threads depends on their number.
    return math.fsum((counts * bits).tolist()) / total if total else math.nan


def diversity(items: Tensor, graph: Neighborhood, ks: Sequence[int]) -> dict[int, float]:
    """Mean over users of the mean over pairs of their best k items of 1 - Jaccard index.

    The Jaccard index of two items is that of their sets of (relation, entity) in the graph; it is 0
    for two items without neighbours. Of more than :data:`MOST_USERS` users so many are
    drawn with a fixed seed.

    Args:
        items: (n, L).
        graph: S(v) of every entity.
        ks: cut-offs; a cut-off below 2 has no pairs.

    Returns:
        By cut-off, in [0, 1]. Cut-offs below 2 are missing, and all where no user has two items.
    """
    if len(items) > MOST_USERS:
        drawn = torch.randperm(len(items), generator=generator(0, "diversity"))[:MOST_USERS]
        items = items[drawn]
    depth = items.shape[1]
    ks = [k for k in ks if k >= 2]
    worse, better = torch.tril_indices(depth, depth, -1)  # those of the best k are the first
    at_once = BLOCK // max(1, depth) if len(torch.unique(items)) > BLOCK else len(items)
    at_once = max(1, min(at_once, PAIRS // max(1, len(worse))))
    means: list[list[Tensor]] = [[] for _ in ks]
    for block in torch.split(items, at_once):
        sizes = (block >= 0).sum(dim=1)
        distinct, places = torch.unique(block.clamp(min=0), return_inverse=True)
        similar = _jaccard(distinct, graph)
        at = places[:, worse].mul_(len(distinct)).add_(places[:, better])  # (b, pairs)
        between = similar.flatten()[at]
        if bool((sizes < depth).any()):
            between.masked_fill_(block[:, worse] < 0, 0.0)
        for values, k in zip(means, ks, strict=True):
            pairs = sizes.clamp(max=k).double()
            pairs = pairs * (pairs - 1) / 2
            sums = between[:, : k * (k - 1) // 2].sum(dim=1)
            values.append(1 - (sums / pairs)[pairs > 0])
    joined = {k: torch.cat(values) for k, values in zip(ks, means, strict=True) if values}
    return {k: float(values.mean()) for k, values in joined.items() if len(values)}


def _jaccard(items: Tensor, graph: Neighborhood) -> Tensor:
    """(n, n) Jaccard index of the sets of (relation, entity) of items (n,)."""
    import scipy.sparse as sp

    degrees = graph.degrees[items]
    owner = torch.repeat_interleave(degrees)
    rank = torch.arange(len(owner)) - (degrees.cumsum(0) - degrees)[owner]
    edge = graph.indptr[items][owner] + rank
    keys = graph.relations[edge] * len(graph.degrees) + graph.neighbors[edge]
    distinct, columns = torch.unique(keys, return_inverse=True)
    ones = torch.ones(len(owner)).numpy()
    shape = len(items), len(distinct)
    sets = sp.csr_array((ones, (owner.numpy(), columns.numpy())), shape=shape)
    both = torch.from_numpy((sets @ sets.T).toarray())
    either = degrees[:, None] + degrees - both
    return both / either.clamp_(min=1)
