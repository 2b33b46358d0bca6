"""Propagation over the collaborative knowledge graph: weighted sums over the neighbours of nodes.

The nodes are the users, and after them the entities, of which the first are the items (Wang, He,
Cao, Liu, Chua: "KGAT", KDD 2019, section 2). Every training positive and every triple is an edge
from each of its two nodes to the other. So the transpose of a weighted adjacency matrix has the
same rows, with the weight of the reverse of each edge, and a gradient is a propagation too.

Shapes: N nodes, m directed edges (two of each positive and triple), d numbers per node.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kgrec.data.interactions import Interactions
from kgrec.data.knowledge_graph import KnowledgeGraph
from kgrec.models.lookup import Bags

T = TypeVar("T")


@dataclass(frozen=True)
class CollaborativeGraph:
    """The edges of every node in one compressed sparse row (CSR) table.

    The edges of node n are at ``offsets[n]:offsets[n + 1]``, in the order in which they were given.

    Attributes:
        offsets: (N + 1,) int64.
        others: (m,) int64, the node to which each edge leads.
        relations: (m,) int64, r of an edge from head to tail, r + ``num_relations`` of its reverse.
        reverse: (m,) int64, position of the same edge in the other direction.
        num_relations: number of relations, without the reverse directions.
    """

    offsets: Tensor
    others: Tensor
    relations: Tensor
    reverse: Tensor
    num_relations: int

    @classmethod
    def from_triples(
        cls, heads: Tensor, relations: Tensor, tails: Tensor, num_nodes: int, num_relations: int
    ) -> CollaborativeGraph:
        """The graph of n triples of nodes (n,), each an edge in both directions."""
        n = len(heads)
        owners, others = torch.cat([heads, tails]), torch.cat([tails, heads])
        order = torch.argsort(owners, stable=True)
        place = torch.empty_like(order)
        place[order] = torch.arange(2 * n, device=order.device)
        counts = torch.bincount(owners, minlength=num_nodes)
        return cls(
            torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
            others[order],
            torch.cat([relations, relations + num_relations])[order],
            place[(order + n) % (2 * n)] if n else order,
            num_relations,
        )

    @classmethod
    def from_data(cls, train: Interactions, graph: KnowledgeGraph) -> CollaborativeGraph:
        """The graph of the training positives and of all triples."""
        nodes = train.num_users + graph.num_entities
        return cls.from_triples(
            *collaborative_triples(train, graph), nodes, graph.num_relations + 1
        )

    @property
    def num_nodes(self) -> int:
        """N."""
        return len(self.offsets) - 1

    @property
    def degrees(self) -> Tensor:
        """(N,) number of edges of each node."""
        return self.offsets.diff()

    @cached_property
    def owners(self) -> Tensor:
        """(m,) int64, the node from which each edge leads."""
        return torch.repeat_interleave(self.degrees)

    def symmetric_weights(self, dtype: torch.dtype) -> Tensor:
        """(m,) 1 / √(degree of the owner · degree of the other node)."""
        degrees = self.degrees
        return (degrees[self.owners] * degrees[self.others]).to(dtype).rsqrt()


def collaborative_triples(
    train: Interactions, graph: KnowledgeGraph
) -> tuple[Tensor, Tensor, Tensor]:
    """(n,) heads, relations and tails of the training positives and then of the triples.

    Users are the nodes from 0, entities those from ``train.num_users``. A positive is a triple of
    the user, the relation "interact" with the number ``graph.num_relations``, and the item.
    """
    first = train.num_users
    interact = torch.full_like(train.users, graph.num_relations)
    return (
        torch.cat([train.users, graph.heads + first]),
        torch.cat([interact, graph.relations]),
        torch.cat([train.items, graph.tails]) + first,
    )


def propagate(
    vectors: Tensor,
    graph: CollaborativeGraph,
    weights: Tensor,
    reversed_weights: Tensor | None = None,
) -> Tensor:
    """(N, d) Σ weight · vector of the other node, over the edges of each node.

    Args:
        vectors: (N, d); differentiable.
        graph: the edges.
        weights: (m,); differentiable.
        reversed_weights: ``weights[graph.reverse]``, if it is known; None: to be computed.
    """
    # With mixed precision, vectors have fewer digits than weights.
    args = (vectors.to(weights.dtype), weights, graph, reversed_weights)
    return cast(Tensor, _Propagate.apply(*args))  # type: ignore[no-untyped-call]


def segment_softmax(values: Tensor, offsets: Tensor) -> Tensor:
    """(m,) softmax of values (m,) within the segments ``offsets[n]:offsets[n + 1]``."""
    owners = torch.repeat_interleave(offsets.diff())
    peaks = values.new_full((len(offsets) - 1,), -torch.inf)
    peaks.scatter_reduce_(0, owners, values, "amax")
    exponentials = (values - peaks[owners]).exp()
    places = torch.arange(len(values), device=values.device)
    sums = Bags(places, offsets).sums(exponentials[:, None])[:, 0]
    return exponentials / sums[owners]


class _Propagate(torch.autograd.Function):
    """A sparse matrix times a dense one; the gradient of the dense one is the same kind of product.

    The gradient of a weight is the inner product of the gradient of the owner and the vector of the
    other node.
    """

    @staticmethod
    def forward(
        ctx: Any,
        vectors: Tensor,
        weights: Tensor,
        graph: CollaborativeGraph,
        reversed_weights: Tensor | None,
    ) -> Tensor:
        ctx.graph, ctx.reversed_weights = graph, reversed_weights
        # Vectors are kept only where the gradient of the weights needs them.
        ctx.save_for_backward(weights, vectors if ctx.needs_input_grad[1] else None)
        return Bags(graph.others, graph.offsets, weights).sums(vectors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        graph: CollaborativeGraph = ctx.graph
        weights, vectors = ctx.saved_tensors
        grad = grad.contiguous()
        of_vectors = of_weights = None
        if ctx.needs_input_grad[0]:
            known = ctx.reversed_weights
            back = weights[graph.reverse] if known is None else known
            of_vectors = Bags(graph.others, graph.offsets, back).sums(grad)
        if ctx.needs_input_grad[1]:
            of_weights = (grad[graph.owners] * vectors[graph.others]).sum(dim=1)
        return of_vectors, of_weights, None, None


class FromBuffers(Generic[T]):
    """A value computed from tensors, and computed again when one of them has changed."""

    def __init__(self) -> None:
        self._kept: tuple[Any, T] | None = None

    def get(self, compute: Callable[[], T], *tensors: Tensor, setting: Any = None) -> T:
        """The value.

        Args:
            compute: computes the value.
            *tensors: tensors from which it is computed.
            setting: anything else that changes it, such as a dtype.
        """
        versions = [(t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors]
        kept = self._kept
        if kept is None or kept[0] != (versions, setting):
            kept = self._kept = (versions, setting), compute()
        return kept[1]
