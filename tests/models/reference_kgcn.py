"""Algorithm 1 of the KGCN paper, read aloud: one pair, one scalar at a time, no batching.

Works on Python floats and on 0-d tensors alike, so that gradients can be compared too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

Vector = Sequence[Any]


def dot(a: Vector, b: Vector) -> Any:
    total = a[0] * b[0]
    for x, y in zip(a[1:], b[1:], strict=True):
        total = total + x * y
    return total


def softmax(scores: list[Any]) -> list[Any]:
    top = max(float(s.detach()) for s in scores)
    powers = [torch.exp(s - top) for s in scores]
    total = powers[0]
    for p in powers[1:]:
        total = total + p
    return [p / total for p in powers]


def score(
    user: Vector,
    item: int,
    entities: Sequence[Vector],
    relations: Sequence[Vector],
    neighborhoods: dict[int, list[tuple[int, int]]],
    layers: list[tuple[Sequence[Vector], Vector]],
    aggregator: str,
    scaling: str,
) -> Any:
    """ŷ(u, v): Eq. 7.

    Args:
        user: u.
        item: v.
        entities: e for every entity.
        relations: r for every relation.
        neighborhoods: entity to its (relation, neighbour) pairs.
        layers: (W, b) of every layer.
        aggregator: sum, concat, neighbor or avg.
        scaling: paper or released.
    """
    H, d = len(layers), len(user)

    def pooled(entity: int, below: int) -> Vector:
        """Eq. 1-3."""
        around = neighborhoods[entity]
        if not around:
            return [torch.zeros((), dtype=torch.float64)] * d
        if aggregator == "avg":
            weights: list[Any] = [1 / len(around)] * len(around)
        else:
            scores = [dot(user, relations[relation]) for relation, _ in around]
            if scaling == "released":
                scores = [s / d for s in scores]
            weights = softmax(scores)
            if scaling == "released":
                weights = [w / len(around) for w in weights]
        vectors = [representation(neighbor, below) for _, neighbor in around]
        return [dot(weights, [v[j] for v in vectors]) for j in range(d)]

    def representation(entity: int, h: int) -> Vector:
        """e^u[h]; Eq. 4-6."""
        if h == 0:
            return entities[entity]
        own, around = representation(entity, h - 1), pooled(entity, h - 1)
        if aggregator in ("sum", "avg"):
            joined = [a + b for a, b in zip(own, around, strict=True)]
        elif aggregator == "concat":
            joined = [*own, *around]
        else:
            joined = list(around)
        W, b = layers[h - 1]
        nonlinearity = torch.tanh if h == H else torch.relu
        return [nonlinearity(dot(row, joined) + bias) for row, bias in zip(W, b, strict=True)]

    return dot(user, representation(item, H))
