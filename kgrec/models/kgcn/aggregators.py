"""Aggregators: how an entity and its pooled neighbourhood become one vector.

Wang et al., "Knowledge Graph Convolutional Networks for Recommender Systems", WWW 2019,
Eq. 4-6. Shapes: n entities, d embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kgrec.errors import ConfigError
from kgrec.models.recommender import import_object

Activation = Callable[[Tensor], Tensor]


class Aggregator(nn.Module):
    """σ(W·x + b), where a subclass says what x is made of.

    Args:
        d: embedding size.
        activation: σ; the last layer's is tanh, the others' ReLU.
        inputs: size of x.

    Attributes:
        attention: whether neighbours are weighted by the user's relation scores (Eq. 2), or
            alike.
    """

    attention: ClassVar[bool] = True

    def __init__(self, d: int, activation: Activation, inputs: int | None = None) -> None:
        super().__init__()
        self.activation = activation
        self.linear = nn.Linear(inputs or d, d)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, own: Tensor, pooled: Tensor) -> Tensor:
        """Joins entities with their neighbourhoods.

        Args:
            own: (n, d) the entities' own vectors.
            pooled: (n, d) the weighted sums of their neighbours.

        Returns:
            (n, d).
        """
        raise NotImplementedError


class Sum(Aggregator):
    """σ(W·(v + S) + b), Eq. 4."""

    def forward(self, own: Tensor, pooled: Tensor) -> Tensor:
        """(n, d) from own (n, d) and pooled (n, d)."""
        return self.activation(self.linear(own + pooled))


class Concat(Aggregator):
    """σ(W·[v ‖ S] + b), Eq. 5."""

    def __init__(self, d: int, activation: Activation) -> None:
        super().__init__(d, activation, inputs=2 * d)

    def forward(self, own: Tensor, pooled: Tensor) -> Tensor:
        """(n, d) from own (n, d) and pooled (n, d)."""
        return self.activation(self.linear(torch.cat([own, pooled], dim=-1)))


class Neighbor(Aggregator):
    """σ(W·S + b), Eq. 6."""

    def forward(self, own: Tensor, pooled: Tensor) -> Tensor:
        """(n, d) from pooled (n, d) alone."""
        return self.activation(self.linear(pooled))


class Avg(Sum):
    """Sum without the user: every neighbour weighs 1/|S(v)| (KGCN-avg of Table 2)."""

    attention: ClassVar[bool] = False


def linear_parts(aggregator: Aggregator) -> tuple[Tensor | None, Tensor] | None:
    """What W does to each input, where forward is σ(own · A + pooled · P + b).

    Returns:
        A (d, d), or None where own vectors do not matter, and P (d, d); None for an aggregator of
        one's own, whose forward may be anything.
    """
    W = aggregator.linear.weight.T
    d = W.shape[1]
    forward = type(aggregator).forward
    if forward is Sum.forward:
        return W, W
    if forward is Concat.forward:
        return W[:d], W[d:]
    return (None, W) if forward is Neighbor.forward else None


AGGREGATORS: dict[str, type[Aggregator]] = {
    "sum": Sum,
    "concat": Concat,
    "neighbor": Neighbor,
    "avg": Avg,
}


def make_aggregator(spec: str | Mapping[str, Any], d: int, activation: Activation) -> Aggregator:
    """Builds an aggregator from its name, or from the class of one's own.

    Args:
        spec: one of the four names; or a dotted path to a subclass of :class:`Aggregator`; or
            that path as ``_target_`` beside further keyword arguments.
        d: embedding size.
        activation: σ.

    Raises:
        ConfigError: no such aggregator.
    """
    extra = dict(spec) if isinstance(spec, Mapping) else {"_target_": spec}
    name = str(extra.pop("_target_", None))
    names = ", ".join(AGGREGATORS)
    expected = f"one of {names}, or the dotted path of a kgrec.models.kgcn.aggregators.Aggregator"
    if name in AGGREGATORS:
        found: Any = AGGREGATORS[name]
    elif "." in name:
        try:
            found = import_object(name)
        except ConfigError as error:
            raise ConfigError(f"model.aggregator: {error}") from error
    else:
        raise ConfigError(f"model.aggregator: found {name!r}, expected {expected}")
    if not (isinstance(found, type) and issubclass(found, Aggregator)):
        raise ConfigError(f"model.aggregator: found {name!r}, expected {expected}")
    try:
        return found(d, activation, **extra)
    except TypeError as error:
        raise ConfigError(f"model.aggregator: {name} does not take {extra}: {error}") from error
