"""Link prediction: the rank of a triple's tail, and of its head, among all entities.

The setting is filtered: other entities that make a known triple are not ranked (Bordes et al.,
NIPS 2013, section 4.1). Entities with equal scores share the mean of their ranks.

Shapes: n triples, E entities, B triples of a block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from kgrec.data.interactions import Interactions
from kgrec.data.knowledge_graph import KnowledgeGraph
from kgrec.evaluation.ctr import check_numbers
from kgrec.evaluation.topk import COPIES

HITS = (1, 3, 10)

ScoreAll = Callable[[Tensor, Tensor], Tensor]


def link_prediction(
    score_tails: ScoreAll,
    score_heads: ScoreAll,
    triples: KnowledgeGraph,
    known: KnowledgeGraph,
    memory_budget: float = 2**26,
) -> dict[str, float]:
    """Mean rank, mean reciprocal rank and hits@k over the tails and heads of triples.

    Args:
        score_tails: function from heads (B,) and relations (B,) to new scores (B, E) of every tail.
        score_heads: function from tails (B,) and relations (B,) to new scores (B, E) of every head.
        triples: triples to rank, at least one.
        known: all triples that are known to be true.
        memory_budget: bytes that a block of scores may take.

    Raises:
        KgrecError: a score is NaN.
    """
    tails = filtered_ranks(score_tails, triples, known, memory_budget)
    heads = filtered_ranks(score_heads, _reversed(triples), _reversed(known), memory_budget)
    ranks = torch.cat([tails, heads])
    hits = {f"hits@{k}": float((ranks <= k).double().mean()) for k in HITS}
    return {"mean_rank": float(ranks.mean()), "mrr": float((1 / ranks).mean()), **hits}


def filtered_ranks(
    score_tails: ScoreAll,
    triples: KnowledgeGraph,
    known: KnowledgeGraph,
    memory_budget: float = 2**26,
) -> Tensor:
    """(n,) float64 rank, from 1, of every triple's tail; see :func:`link_prediction`."""
    pairs = known.heads * known.num_relations + known.relations
    num_pairs = known.num_entities * known.num_relations
    true = Interactions.from_pairs(pairs, known.tails, num_pairs, known.num_entities)
    block = max(1, int(memory_budget // (4 * known.num_entities * COPIES)))
    columns = (torch.split(x, block) for x in (triples.heads, triples.relations, triples.tails))
    ranks = [torch.empty(0, dtype=torch.float64)]
    for heads, relations, tails in zip(*columns, strict=True):
        scores = score_tails(heads, relations)
        check_numbers(scores)
        own = scores.gather(1, tails[:, None])  # (B, 1)
        scores[true.of_users(heads * known.num_relations + relations)] = -torch.inf
        scores.scatter_(1, tails[:, None], -torch.inf)
        above, tied = ((scores > own).sum(dim=1), (scores == own).sum(dim=1))
        ranks.append(1 + above.cpu().double() + tied.cpu().double() / 2)
    return torch.cat(ranks)


def _reversed(graph: KnowledgeGraph) -> KnowledgeGraph:
    return replace(graph, heads=graph.tails, tails=graph.heads)
