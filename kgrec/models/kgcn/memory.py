"""Estimated memory of a training step of KGCN.

Every node that is aggregated keeps about six vectors of d floats per layer for the backward pass.
Every node of the receptive field needs about 100 bytes of indices and weights. The estimate is an
upper bound where an entity is reached on several paths.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kgrec.data.knowledge_graph import Neighborhood


def bytes_per_item(reads: Tensor, graph: Neighborhood, H: int, d: int) -> Tensor:
    """(E,) bytes of a row of a batch whose item is each of the E entities, on the CPU.

    Args:
        reads: (E,) number of weights at a node of the last level.
        graph: S(v) of every entity.
        H: number of hops.
        d: embedding size.
    """
    first = reads.cpu().double()
    neighbors, degrees = graph.neighbors.cpu(), graph.indptr.cpu().diff()
    owner = torch.repeat_interleave(degrees)

    def further(reached: Tensor, most: float) -> Tensor:
        """Number of nodes reached in h + 1 hops, from that of h hops."""
        sums = torch.zeros_like(reached).index_add_(0, owner, reached[neighbors])
        return sums.clamp_(max=most)  # within a row an entity is one node per level

    nodes, reads = torch.ones_like(first), first
    total = torch.zeros_like(first)
    for h in range(H):
        total += nodes * (100 + 24 * d * (H - h))
        if h + 1 < H:
            nodes, reads = further(nodes, len(first)), further(reads, float(first.sum()))
    return total + 100 * reads
