"""What a score of LightCKG rests on: items that the user reads, and entities that the item reads.

A term's weight is its entry in D^-½ A D^-½. Its share is the score minus the score where the user,
or the item, does not read that neighbour in its own layers, while the vectors of all other nodes
stay.
Propagation is linear, so the share is one inner product. Users who like the item are no terms.

Shapes: N nodes, d embedding size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kgrec.models.propagation import CollaborativeGraph
from kgrec.models.reasons import LEAVE_ONE_OUT, Reasons, Step, Term, ordered


class LinearPropagation(NamedTuple):
    """A finished propagation.

    Attributes:
        graph: edges of every node.
        weights: (m,) entry of D^-½ A D^-½ of every edge.
        own: (N,) entry of D^-½ sI D^-½ of every node.
        layers: (N, d) each, E⁽⁰⁾ … E⁽ᴴ⁾.
        num_users: number of users, the first nodes.
    """

    graph: CollaborativeGraph
    weights: Tensor
    own: Tensor
    layers: list[Tensor]
    num_users: int


def linear_reasons(
    done: LinearPropagation,
    bias: float | None,
    user: int,
    item: int,
    history: Tensor,
    top: int | None = None,
) -> Reasons:
    """The reasons.

    Args:
        done: the propagation.
        bias: b of the item; None: the model has none.
        user: see :meth:`kgrec.models.recommender.Recommender.explain`, also for the others.
        item: number of the item.
        history: (n,) items of the history.
        top: number of terms to return; None: all.
    """
    e = torch.stack(done.layers).mean(dim=0)
    first, liked = done.num_users, set(history.tolist()) - {item}
    terms: list[Term] = []
    rest = {}  # e of both ends without all terms
    for node, other_end in ((user, first + item), (first + item, user)):
        reads, rest[node] = read_vectors(done.layers, float(done.own[node])), e[node].clone()
        for number, relation, weight in edges_of(done, node):
            entity, part = number - first, weight * reads[number]
            share = float(part @ e[other_end])
            if node == user and entity in liked:
                terms.append(Term(weight, share, item=entity))
            elif node != user and entity >= 0:
                terms.append(Term(weight, share, (Step(relation, entity),)))
            else:
                continue
            rest[node] -= part
    product = float(e[user] @ e[first + item])
    together = product - float(rest[user] @ rest[first + item])
    kept, left_out = ordered(terms, top)
    parts = {} if bias is None else {"item": bias}
    return Reasons(product + (bias or 0.0), LEAVE_ONE_OUT, kept, left_out, together, parts)


def read_vectors(layers: list[Tensor], own: float) -> Tensor:
    """(N, d) what e of a node gains per unit of weight of an edge to each node.

    A layer is Σ weight · e⁽ᵏ⁾ of the neighbours plus ``own`` · the node's last one, so that what is
    read in one layer comes again, times ``own``, in every later layer.
    """
    total, carried = torch.zeros_like(layers[0]), torch.zeros_like(layers[0])
    for layer in layers[:-1]:
        carried = layer + own * carried
        total = total + carried
    return total / len(layers)


def edges_of(done: LinearPropagation, node: int) -> list[tuple[int, int, float]]:
    """Other node, relation and weight of the edges of a node; parallel edges are one."""
    graph = done.graph
    begin, end = (int(graph.offsets[node + k]) for k in (0, 1))
    relations = graph.relations[begin:end] % graph.num_relations
    columns = graph.others[begin:end], relations, done.weights[begin:end]
    merged: dict[tuple[int, int], float] = {}
    for other, relation, weight in zip(*(column.tolist() for column in columns), strict=True):
        merged[other, relation] = merged.get((other, relation), 0.0) + weight
    return [(other, relation, weight) for (other, relation), weight in merged.items()]
