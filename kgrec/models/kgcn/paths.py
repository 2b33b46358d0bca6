"""Paths from an item that carry KGCN's score of one user, with exact shares.

For one user, x^l(e) is the vector of entity e after l layers, with x^0 from the table:

    x^l(e) = agg_l(x^{l-1}(e), Σ_n w(e, n) x^{l-1}(n)),    ŷ = u · x^H(v)

Unrolled from v, this is a tree: a path of h <= H steps v → e_1 → … → e_h leads to one of its nodes.
Without the path, the weight of its last edge is zero at this place of the tree, in all layers, so
everything beyond it is gone too. Only the vectors of v, e_1, …, e_{h-1} on the path change. So a
share takes H·h small products, and the shares of all paths are computed together.

Paths are counted exactly, but shares are computed for the :data:`MOST_PATHS` of each length with
the largest product of weights along the path.

Shapes: R relations, d embedding size, n entities near the item, p paths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kgrec.data.knowledge_graph import Neighborhood
from kgrec.models.kgcn.aggregators import Aggregator
from kgrec.models.kgcn.correction import Correction
from kgrec.models.kgcn.parameters import KGCNParameters
from kgrec.models.reasons import LEAVE_ONE_OUT, Reasons, Step, Term, ordered

MOST_PATHS = 1024  # paths of each length whose shares are computed
MOST_EXTENSIONS = 2**20  # longer paths from which these are chosen


class Field(NamedTuple):
    """Entities near an item, and the edges between them with one user's weights.

    Attributes:
        entities: (n,) entities, the item first, then the nearer first.
        sizes: sizes[h] entities are within h hops, 0 … H.
        indptr: (sizes[H - 1] + 1,) start of each entity's edges.
        relations: (m,) relation of each edge; an edge is a distinct (relation, neighbour).
        neighbors: (m,) index of the neighbour in ``entities``.
        weights: (m,) π̃(u, r), times how often S(v) has the edge, or times its corrected weight,
            as Eq. 3 uses it.
    """

    entities: Tensor
    sizes: list[int]
    indptr: Tensor
    relations: Tensor
    neighbors: Tensor
    weights: Tensor

    @classmethod
    def around(
        cls,
        item: int,
        H: int,
        graph: Neighborhood,
        scores: Tensor,
        averaged: bool,
        correction: Correction | None = None,
    ) -> Field:
        """The field of one item.

        Args:
            item: number of the item.
            H: number of hops.
            graph: S(v) of every entity.
            scores: (R,) π(u, r); zeros where all neighbours weigh the same.
            averaged: whether the weights are divided by the size of S(v) ("released").
            correction: correction of a drawn S(v).
        """
        entities = torch.tensor([item], device=graph.indptr.device)
        sizes = [1]
        for _ in range(H):
            start = sizes[-2] if len(sizes) > 1 else 0
            reached = torch.unique(graph.neighbors[_edges(graph.indptr, entities[start:])[0]])
            entities = torch.cat([entities, reached[~torch.isin(reached, entities)]])
            sizes.append(len(entities))
        edge, owner = _edges(graph.indptr, entities[: sizes[-2]])
        place = torch.full((len(graph.indptr) - 1,), -1, device=edge.device)
        place[entities] = torch.arange(len(entities), device=edge.device)
        R, n = len(scores), len(entities)
        keys = (owner * R + graph.relations[edge]) * n + place[graph.neighbors[edge]]
        keys, place_of_edge, times = torch.unique(keys, return_inverse=True, return_counts=True)
        owner, relations = keys // (R * n), keys // n % R
        # Neighbours of the denominator, by relation: those of S(v), or of the full neighbourhood.
        of, by, counts = owner, relations, times
        if correction is not None:
            of, by, counts = correction.of(entities[: sizes[-2]])
            weights = correction.weights[edge].to(scores)
            times = weights.new_zeros(len(keys)).index_add(0, place_of_edge, weights)
        peaks = scores.new_full((sizes[-2],), -torch.inf).scatter_reduce(0, of, scores[by], "amax")
        powers = (scores[by] - peaks[of]).exp() * counts
        totals = powers.new_zeros(sizes[-2]).index_add(0, of, powers)
        if averaged:
            totals = totals * counts.new_zeros(sizes[-2]).index_add(0, of, counts)
        powers = (scores[relations] - peaks[owner]).exp() * times
        ends = torch.bincount(owner, minlength=sizes[-2]).cumsum(0)
        indptr = torch.cat([ends.new_zeros(1), ends])
        return cls(entities, sizes, indptr, relations, keys % n, powers / totals[owner])


class Paths(NamedTuple):
    """Paths of one length h.

    Attributes:
        edges: (p, h) edge of each step.
        nodes: (p, h + 1) index of each entity on the path, the item first.
        weights: (p,) product of the weights of the edges.
    """

    edges: Tensor
    nodes: Tensor
    weights: Tensor


@torch.no_grad()
def path_reasons(
    model: KGCNParameters,
    user: int,
    item: int,
    top: int | None = None,
    readout: Tensor | None = None,
) -> Reasons:
    """Shares of the paths of 1 … H steps in the score; an item's bias is the part "item".

    Args:
        model: trained model.
        user: number of the user.
        item: number of the item.
        top: number of terms to return; None: all whose shares are computed.
        readout: (d,) vector whose product with the item's representation is the score; None: u.
    """
    H, aggregators, table = model.H, model.layers, model.entity_vectors()
    score = model.score_of(user, item)
    (u,) = model.user_vectors(torch.tensor([user], device=table.device))
    relation_scores = model.user_relation_scores(u[None])[0]
    logits = relation_scores if model.attention else torch.zeros_like(relation_scores)
    averaged = model.scaling == "released" and model.attention
    field = Field.around(item, H, model.neighborhood, logits, averaged, model.correction)
    vectors, pooled = _layers(field, table[field.entities], aggregators)
    reader = u if readout is None else readout
    own = float(reader @ vectors[H][0])
    paths = Paths(u.new_zeros(1, 0, dtype=torch.int64), u.new_zeros(1, 1, dtype=torch.int64),
                  u.new_ones(1))  # fmt: skip
    terms, computed = [], 0
    for _ in range(H):
        paths = _extended(paths, field)
        if not len(paths.weights):
            break
        without = _without(paths, field, vectors, pooled, aggregators) @ reader
        shares = own - without
        relations = field.relations[paths.edges].tolist()
        entities = field.entities[paths.nodes[:, 1:]].tolist()
        numbers = zip(relations, entities, paths.weights.tolist(), shares.tolist(), strict=True)
        terms += [
            Term(weight, share, tuple(map(Step, path_relations, path_entities)))
            for path_relations, path_entities, weight, share in numbers
        ]
        computed += len(paths.weights)
    kept, left_out = ordered(terms, top)
    alone = reader @ without_neighbors(vectors[0][0], aggregators)
    return Reasons(
        score, LEAVE_ONE_OUT, kept,
        left_out + _number_of_paths(field, H) - computed, own - float(alone),
        {} if model.item_bias is None else {"item": float(model.item_bias.weight[item])},
        relation_scores=relation_scores,
    )  # fmt: skip


def _layers(
    field: Field, vectors: Tensor, aggregators: Sequence[Aggregator]
) -> tuple[list[Tensor], list[Tensor]]:
    """x^l (n_l, d) for l = 0 … H, and Eq. 3 (n_l, d) of layers 1 … H; n_l = sizes[H - l]."""
    x, sums = [vectors], []
    for layer, aggregator in enumerate(aggregators, 1):
        n = field.sizes[len(aggregators) - layer]
        stop = int(field.indptr[n])
        owner = torch.repeat_interleave(field.indptr[: n + 1].diff())
        reads = x[-1][field.neighbors[:stop]] * field.weights[:stop, None]
        sums.append(x[-1].new_zeros(n, x[-1].shape[1]).index_add(0, owner, reads))
        x.append(aggregator(x[-1][:n], sums[-1]))
    return x, sums


def _extended(paths: Paths, field: Field) -> Paths:
    """Paths that are one step longer: those with the largest weights."""
    last = paths.nodes[:, -1]
    lengths = field.indptr.diff()[last]
    fit = lengths.cumsum(0) <= MOST_EXTENSIONS  # paths are sorted, the largest weight first
    fit[:1] = True
    paths, last = Paths(*(column[fit] for column in paths)), last[fit]
    edge, owner = _edges(field.indptr, last)
    weights = paths.weights[owner] * field.weights[edge]
    weights, best = weights.sort(descending=True, stable=True)
    best, weights = best[:MOST_PATHS], weights[:MOST_PATHS]
    edge, owner = edge[best], owner[best]
    return Paths(
        torch.cat([paths.edges[owner], edge[:, None]], dim=1),
        torch.cat([paths.nodes[owner], field.neighbors[edge][:, None]], dim=1),
        weights,
    )


def _without(
    paths: Paths,
    field: Field,
    x: Sequence[Tensor],
    pooled: Sequence[Tensor],
    aggregators: Sequence[Aggregator],
) -> Tensor:
    """(p, d) x^H of the item without each path.

    Args:
        paths: paths of h steps.
        field: entities and edges.
        x: vectors of all layers.
        pooled: Eq. 3 of all layers.
        aggregators: aggregators of all layers.
    """
    H, h = len(aggregators), paths.edges.shape[1]
    weights = field.weights[paths.edges]  # (p, h)
    # changed[j]: vectors (p, d) of the path's node j at the last layer, without the path.
    changed = [x[0][paths.nodes[:, j]] for j in range(h)]
    for layer, aggregator in enumerate(aggregators, 1):
        before = changed[:]
        for j in range(min(h, H - layer + 1)):
            node, child = paths.nodes[:, j], paths.nodes[:, j + 1]
            gone = -x[layer - 1][child] if j == h - 1 else before[j + 1] - x[layer - 1][child]
            sums = pooled[layer - 1][node] + weights[:, j : j + 1] * gone
            changed[j] = aggregator(before[j], sums)
    return changed[0]


def without_neighbors(x: Tensor, aggregators: Sequence[Aggregator]) -> Tensor:
    """(d,) x^H of an entity without any neighbour, from x^0 (d,)."""
    vector = x[None]
    for aggregator in aggregators:
        vector = aggregator(vector, torch.zeros_like(vector))
    return vector[0]


def _number_of_paths(field: Field, H: int) -> int:
    """Number of paths of 1 … H steps from the item."""
    starts = torch.ones(len(field.entities), dtype=torch.float64, device=field.indptr.device)
    total, counts = 0.0, starts
    for h in range(H):
        n = field.sizes[H - 1 - h]
        stop = int(field.indptr[n])
        owner = torch.repeat_interleave(field.indptr[: n + 1].diff())
        longer = starts.new_zeros(n).index_add(0, owner, counts[field.neighbors[:stop]])
        counts = longer
        total += float(longer[0])
    return int(total)


def _edges(indptr: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of the edges of rows (k,), and for each its index in ``rows``."""
    lengths = indptr.diff()[rows]
    owner = torch.repeat_interleave(lengths)
    rank = torch.arange(len(owner), device=rows.device) - (lengths.cumsum(0) - lengths)[owner]
    return indptr[rows][owner] + rank, owner
