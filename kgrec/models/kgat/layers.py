"""Layers and attention of KGAT; :mod:`kgrec.models.kgat` has the paper and the equations.

Shapes: n nodes, m directed edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kgrec.errors import SettingError
from kgrec.models.kge import TransR
from kgrec.models.propagation import CollaborativeGraph, segment_softmax
from kgrec.models.recommender import LARGEST_SIZE, MOST_LAYERS

AGGREGATORS = ("bi-interaction", "gcn", "graphsage")
SLOPE = 0.2  # of LeakyReLU below 0
EDGE_BLOCK = 2**15  # edges whose attention is computed at once


class Aggregator(nn.Module):
    """One layer: the next vector of a node from its own vector and that of its neighbours.

    Args:
        kind: "bi-interaction", "gcn" or "graphsage".
        inputs: size of both vectors.
        outputs: size of the result.
    """

    def __init__(self, kind: str, inputs: int, outputs: int) -> None:
        super().__init__()
        self.kind = kind
        self.linear = nn.Linear(2 * inputs if kind == "graphsage" else inputs, outputs)
        self.product = nn.Linear(inputs, outputs) if kind == "bi-interaction" else None
        for part in (self.linear, self.product):
            if part is not None:
                nn.init.xavier_uniform_(part.weight)
                nn.init.zeros_(part.bias)

    def forward(self, own: Tensor, neighbors: Tensor) -> Tensor:
        """(n, outputs) e⁽ˡ⁺¹⁾, from e and e_N (n, inputs)."""
        if self.kind == "graphsage":
            return F.leaky_relu(self.linear(torch.cat([own, neighbors], dim=1)), SLOPE)
        result = F.leaky_relu(self.linear(own + neighbors), SLOPE)
        if self.product is not None:
            result = result + F.leaky_relu(self.product(own * neighbors), SLOPE)
        return result


def edge_attention(kge: TransR, graph: CollaborativeGraph) -> Tensor:
    """(m,) π of every edge, which add up to 1 over the edges of a node (Eq. 4 and 5).

    Args:
        kge: vectors of nodes and of relations, and the matrices W_r of the 2R relations.
        graph: edges of every node.
    """
    table = kge.entity_embedding.weight
    order = torch.argsort(graph.relations, stable=True)
    present, counts = torch.unique_consecutive(graph.relations[order], return_counts=True)
    logits = table.new_empty(len(order))
    for r, edges in zip(present.tolist(), torch.split(order, counts.tolist()), strict=True):
        M, e_r = kge.matrices[r], kge.relation_embedding.weight[r]
        for block in torch.split(edges, EDGE_BLOCK):
            h, t = table[graph.owners[block]] @ M, table[graph.others[block]] @ M
            logits[block] = (t * torch.tanh(h + e_r)).sum(dim=1).to(table.dtype)
    return segment_softmax(logits, graph.offsets)


def concatenated(layers: list[Tensor]) -> Tensor:
    """(n, D) e⁽⁰⁾ and the other layers with length 1, from layers of n rows each."""
    return torch.cat([layers[0], *(F.normalize(layer) for layer in layers[1:])], dim=1)


def layer_sizes(layers: Any) -> list[int]:
    """The sizes as a plain list.

    Raises:
        SettingError: they are no list of positive integers.
    """
    sizes = list(layers) if isinstance(layers, Sequence) and not isinstance(layers, str) else []
    if not 0 < len(sizes) <= MOST_LAYERS or not all(
        type(n) is int and 0 < n <= LARGEST_SIZE for n in sizes
    ):
        expected = f"a list of 1 to {MOST_LAYERS} integers >= 1, each at most {LARGEST_SIZE}"
        raise SettingError(f"layers: found {layers!r}, expected {expected}")
    return sizes
