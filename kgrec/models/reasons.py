"""What a score rests on: terms of the score, paths in the graph, items of the user's history.

The share of a term is the score minus the score without the term: the term is set to zero, and
everything else, attention weights included, stays as it is. So every share is exact for the removal
of its term alone. The shares of several terms add up to the score's change only where the score is
linear in them; :attr:`Reasons.together` is the change when all terms are removed at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

EXACT = "exact"  # shares that add up
LEAVE_ONE_OUT = "leave-one-out"  # shares of single removals, which need not add up
SIMILAR = "similar history"  # no shares: items of the history near the item, not a cause
POPULARITY = "popularity"
NONE = "none"


class Step(NamedTuple):
    """A step of a path in the graph, to an entity by a relation."""

    relation: int
    entity: int


@dataclass(frozen=True)
class Term:
    """One term of a score.

    Attributes:
        weight: weight in the model: attention along the path, similarity, or count.
        share: the score minus the score without the term; None: the term is no cause.
        steps: path in the graph; it starts at ``item``, or at the scored item if ``item`` is None.
        item: item of the user's history, or None.
        neighbor: position of a neighbour in S(v) of the scored item, where the model knows no more
            of it; or None.
        relations: relations of a meta-path, by which the item is like the history; else empty.
    """

    weight: float
    share: float | None = None
    steps: tuple[Step, ...] = ()
    item: int | None = None
    neighbor: int | None = None
    relations: tuple[int, ...] = ()


@dataclass(frozen=True)
class Reasons:
    """What the score of a user and an item rests on.

    Attributes:
        score: score of the pair.
        method: "exact", "leave-one-out", "similar history", "popularity" or "none".
        terms: terms, the largest share first (similar history: the most similar first).
        left_out: number of terms that exist but are not in ``terms``.
        together: the score minus the score without all terms; None: not defined.
        parts: further parts of the score that are no reasons, such as a bias, by name.
        relation_scores: (R,) π(u, r) of all relations (of a reweighed model π + ln w), for models
            with attention by user; of KGIN the share of each relation in the user's intents;
            or None.
    """

    score: float
    method: str
    terms: tuple[Term, ...] = ()
    left_out: int = 0
    together: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    relation_scores: Tensor | None = None

    @property
    def additive(self) -> bool:
        """Whether the shares add up to ``together``."""
        return self.method == EXACT


def ordered(terms: list[Term], top: int | None) -> tuple[tuple[Term, ...], int]:
    """The ``top`` terms with the largest share, or weight without a share, and how many others."""
    best = sorted(terms, key=lambda t: t.weight if t.share is None else t.share, reverse=True)
    kept = tuple(best if top is None else best[:top])
    return kept, len(terms) - len(kept)


def weighted_history(
    score: float, items: Tensor, weights: Tensor, top: int | None = None
) -> Reasons:
    """Reasons of a score that is a sum of weights, one for each item of the history.

    Args:
        score: score of the pair.
        items: (n,) items of the history.
        weights: (n,) their terms in the score.
        top: number of terms to return; None: all.
    """
    pairs = zip(items.tolist(), weights.tolist(), strict=True)
    terms = [Term(weight, weight, item=item) for item, weight in pairs if weight]
    kept, left_out = ordered(terms, top)
    return Reasons(score, EXACT, kept, left_out, float(weights.sum()))


def similar_history(
    score: float,
    similarities: Tensor,
    history: Tensor,
    top: int | None = None,
    parts: Mapping[str, float] | None = None,
) -> Reasons:
    """Items of the history that are most similar to the item; they are no cause of the score.

    Args:
        score: score of the pair.
        similarities: (num_items,) similarity of the scored item to every item.
        history: (n,) items of the history.
        top: number of terms to return; None: all.
        parts: further parts of the score.
    """
    pairs = zip(history.tolist(), similarities[history].tolist(), strict=True)
    kept, left_out = ordered([Term(weight, item=item) for item, weight in pairs], top)
    return Reasons(score, SIMILAR, kept, left_out, parts=parts or {})


def cosines(vectors: Tensor, item: int) -> Tensor:
    """(n,) cosine of one vector and every vector of (n, d); 0 for a vector of length 0."""
    lengths = F.normalize(vectors.float(), dim=1)
    return torch.mv(lengths, lengths[item])
