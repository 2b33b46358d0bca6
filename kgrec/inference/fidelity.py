"""Whether reasons hold: scores of KGCN after the named neighbour has left the graph.

A share keeps all other attention weights. Here all edges between the item and the neighbour are
deleted from the graph, and attention is computed anew over the remaining neighbours (Eq. 2), so the
drop is not the share by definition.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kgrec.data.draws import generator
from kgrec.errors import SettingError
from kgrec.models.kgcn import KGCN


class Fidelity(NamedTuple):
    """Means over pairs of a user and an item with at least two entities as neighbours.

    Attributes:
        pairs: number of pairs.
        named: drop of the score without the neighbour of the largest share.
        heaviest: drop without the neighbour of the largest attention weight.
        random: drop without another neighbour than the named one, drawn at random.
        better: share of pairs in which the score drops more without the named neighbour than
            without the random one.
        share: sum of the shares of the named neighbour's edges.
        together: score minus the score without all neighbours.
    """

    pairs: int
    named: float
    heaviest: float
    random: float
    better: float
    share: float
    together: float


@torch.no_grad()
def fidelity(model: KGCN, users: Tensor, items: Tensor, seed: int = 0) -> Fidelity:
    """Removes the most important neighbour of every pair, and another one at random.

    Args:
        model: trained model.
        users: (n,) distinct users.
        items: (n, k) distinct items of each user; -1 where there are fewer.
        seed: seed of the random neighbours.

    Raises:
        ValueError: no item has two entities as neighbours.
        SettingError: the model estimates sums over all neighbours, of which it has some.
    """
    if model.correction is not None:
        raise SettingError(
            "sampler: found one with corrected weights, whose other neighbours the model does not "
            "know, expected one without"
        )
    draw = generator(seed, "fidelity")
    nobody = torch.empty(0, dtype=torch.int64)
    rows: list[list[float]] = []
    for user, own in zip(users.tolist(), items.tolist(), strict=True):
        explained, removed, numbers = [], [], []
        for item in own:
            reasons = model.explain(user, item, nobody) if item >= 0 else None
            terms = [t for t in reasons.terms if len(t.steps) == 1] if reasons else []
            shares: dict[int, float] = {}
            weights: dict[int, float] = {}
            for term in terms:
                entity = term.steps[0].entity
                shares[entity] = shares.get(entity, 0.0) + (term.share or 0.0)
                weights[entity] = weights.get(entity, 0.0) + term.weight
            if reasons is None or len(shares) < 2:
                continue
            named, heaviest = (
                max(shares, key=shares.__getitem__),
                max(weights, key=weights.__getitem__),
            )
            others = [entity for entity in shares if entity != named]
            other = others[int(torch.randint(len(others), (), generator=draw))]
            explained.append(item)
            removed.append((named, heaviest, other))
            numbers.append((reasons.score, shares[named], reasons.together or 0.0))
        without = [_without(model, user, explained, each) for each in zip(*removed, strict=True)]
        for (score, share, together), *scores in zip(numbers, *without, strict=True):
            drops = [score - each for each in scores]
            rows.append([*drops, float(drops[0] > drops[2]), share, together])
    if not rows:
        raise ValueError("found no item with two neighbours, expected at least one")
    return Fidelity(len(rows), *torch.tensor(rows, dtype=torch.float64).mean(dim=0).tolist())


def _without(model: KGCN, user: int, items: Sequence[int], entities: Sequence[int]) -> list[float]:
    """Scores of items, each without its edges to one entity.

    With one hop, the score of an item depends on no edge of another item, so all edges leave the
    graph at once.
    """
    if model.H > 1 and len(items) > 1:
        pairs = zip(items, entities, strict=True)
        return [_without(model, user, [item], [entity])[0] for item, entity in pairs]
    kept = torch.ones(len(model.neighbors), dtype=torch.bool)
    degrees = model.indptr.diff()
    for item, entity in zip(items, entities, strict=True):
        row = slice(int(model.indptr[item]), int(model.indptr[item + 1]))
        gone = model.neighbors[row] == entity
        kept[row] = ~gone
        degrees[item] -= gone.sum()
    edited = copy.copy(model)
    edited._buffers = {
        **model._buffers,
        "indptr": torch.cat([degrees.new_zeros(1), degrees.cumsum(0)]),
        "neighbors": model.neighbors[kept],
        "relations": model.relations[kept],
    }
    edited._viewed = None
    numbers = torch.tensor(items)
    return edited.score(torch.full_like(numbers, user), numbers).tolist()
