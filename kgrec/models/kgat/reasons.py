"""What a score of KGAT rests on: attention of the user to items, and of the item to entities.

A term's weight is the attention π of its edge. Its share is the score minus the score without the
edge: the user, or the item, does not read that neighbour in any layer, while the attention to the
other neighbours and the vectors of all other nodes stay. The users that the item attends to are no
terms.

Shapes: k groups of edges, D the size of e*.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kgrec.models.kgat.layers import concatenated
from kgrec.models.propagation import CollaborativeGraph
from kgrec.models.reasons import LEAVE_ONE_OUT, Reasons, Step, Term, ordered


class Propagation(NamedTuple):
    """A finished propagation.

    Attributes:
        graph: edges of every node.
        attention: (m,) π of every edge.
        aggregators: the layers.
        vectors: e⁽⁰⁾ and the outputs of the layers, each of all nodes that the next layer reads.
        num_users: number of users, the first nodes.
    """

    graph: CollaborativeGraph
    attention: Tensor
    aggregators: Sequence[nn.Module]
    vectors: list[Tensor]
    num_users: int


def attention_reasons(
    done: Propagation, user: int, item: int, history: Tensor, top: int | None
) -> Reasons:
    """The reasons; for the arguments see :meth:`kgrec.models.recommender.Recommender.explain`."""
    graph, attention, first = done.graph, done.attention, done.num_users
    named = set(history.tolist()) - {item}
    liked: dict[int, list[int]] = {}  # edges to each item, and of each step
    entities: dict[Step, list[int]] = {}
    for edge, other, _ in _edges_of(graph, user):
        if other - first in named:
            liked.setdefault(other - first, []).append(edge)
    for edge, other, relation in _edges_of(graph, first + item):
        if other >= first:  # both directions of a relation are one step
            step = Step(relation % graph.num_relations, other - first)
            entities.setdefault(step, []).append(edge)
    u = _without(done, user, list(liked.values()))
    v = _without(done, first + item, list(entities.values()))
    score = float(u[0] @ v[0])
    of_items, of_steps = score - u[1:-1] @ v[0], score - v[1:-1] @ u[0]
    terms = [
        Term(float(attention[edges].sum()), share, item=liked_item)
        for (liked_item, edges), share in zip(liked.items(), of_items.tolist(), strict=True)
    ]
    terms += [
        Term(float(attention[edges].sum()), share, (step,))
        for (step, edges), share in zip(entities.items(), of_steps.tolist(), strict=True)
    ]
    kept, left_out = ordered(terms, top)
    return Reasons(score, LEAVE_ONE_OUT, kept, left_out, score - float(u[-1] @ v[-1]))


def _edges_of(graph: CollaborativeGraph, node: int) -> list[tuple[int, int, int]]:
    """Position, other node and relation of every edge of a node."""
    begin, end = graph.offsets[node : node + 2].tolist()
    columns = graph.others[begin:end].tolist(), graph.relations[begin:end].tolist()
    return list(zip(range(begin, end), *columns, strict=True))


def _without(done: Propagation, node: int, groups: list[list[int]]) -> Tensor:
    """(k + 2, D) e* of a node: with all edges, without each group, without all groups."""
    begin, end = done.graph.offsets[node : node + 2].tolist()
    weights = done.attention[begin:end].repeat(len(groups) + 2, 1)
    for row, edges in enumerate(groups, start=1):
        places = torch.tensor(edges, device=weights.device) - begin
        weights[row, places] = 0
        weights[-1, places] = 0
    others = done.graph.others[begin:end]
    vectors = [done.vectors[0][node].expand(len(weights), -1)]
    for layer, table in zip(done.aggregators, done.vectors, strict=False):
        vectors.append(layer(vectors[-1], weights @ table[others]))
    return concatenated(vectors)
