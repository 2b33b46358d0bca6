"""Aggregators: combine an entity's vector and its pooled neighbourhood into one vector.

Wang et al., "Knowledge Graph Convolutional Networks for Recommender Systems", WWW 2019,
Eq. 4-6. Shapes: n entities, d embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from kgrec.errors import ConfigError, SettingError
from kgrec.models.importing import import_class

Activation = Callable[[Tensor], Tensor]


class LinearParts(NamedTuple):
    """Matrices of an aggregator σ(own · A + pooled · P + b).

    Attributes:
        own: A (d, d), or None where the entity's own vector is not used.
        pooled: P (d, d).
        bias: b (d,).
    """

    own: Tensor | None
    pooled: Tensor
    bias: Tensor


class Aggregator(nn.Module):
    """σ(W·x + b), where a subclass defines x.

    Args:
        d: embedding size.
        activation: σ; tanh for the last layer, ReLU for the others.
        inputs: size of x; None: d.

    Attributes:
        attention: whether neighbours are weighted by the user's relation scores (Eq. 2); if not,
            all neighbours weigh the same.
    """

    attention: ClassVar[bool] = True

    def __init__(self, d: int, activation: Activation, inputs: int | None = None) -> None:
        super().__init__()
        self.activation = activation
        self.linear = nn.Linear(inputs or d, d)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, own: Tensor, pooled: Tensor) -> Tensor:
        """Joins entities with their neighbourhoods; :meth:`linear_parts` must compute the same.

        Args:
            own: (n, d) the entities' own vectors.
            pooled: (n, d) the weighted sums of their neighbours.

        Returns:
            (n, d).
        """
        raise NotImplementedError

    def linear_parts(self) -> LinearParts | None:
        """W in parts, for a faster ranking of all items.

        Returns:
            Parts with which σ(own · A + pooled · P + b) equals :meth:`forward`; None, the
            default: ranking calls the aggregator itself.
        """
        return None

    def _linear(self, kind: type[Aggregator]) -> tuple[Tensor, Tensor] | None:
        """Wᵀ and b, if this aggregator computes what ``kind`` computes.

        Returns:
            None where a subclass or an instance has another forward, linear layer or activation,
            or where hooks may change the result.
        """
        hooks = [
            hook
            for module in (self, self.linear)
            for hook in (*module._forward_hooks, *module._forward_pre_hooks)
        ]
        same = type(self).forward is kind.forward and "forward" not in vars(self)
        plain = type(self.linear) is nn.Linear and "forward" not in vars(self.linear)
        if hooks or not (same and plain) or self.activation not in (torch.tanh, torch.relu):
            return None
        W, b = self.linear.weight.T, self.linear.bias
        return W, W.new_zeros(W.shape[1]) if b is None else b


class Sum(Aggregator):
    """σ(W·(v + S) + b), Eq. 4."""

    def forward(self, own: Tensor, pooled: Tensor) -> Tensor:
        """(n, d) from own (n, d) and pooled (n, d)."""
        return self.activation(self.linear(own + pooled))

    def linear_parts(self) -> LinearParts | None:
        """W for both inputs."""
        if (linear := self._linear(Sum)) is None:
            return None
        W, b = linear
        return LinearParts(W, W, b)


class Concat(Aggregator):
    """σ(W·[v ‖ S] + b), Eq. 5."""

    def __init__(self, d: int, activation: Activation) -> None:
        super().__init__(d, activation, inputs=2 * d)

    def forward(self, own: Tensor, pooled: Tensor) -> Tensor:
        """(n, d) from own (n, d) and pooled (n, d)."""
        return self.activation(self.linear(torch.cat([own, pooled], dim=-1)))

    def linear_parts(self) -> LinearParts | None:
        """A half of W for each input."""
        if (linear := self._linear(Concat)) is None:
            return None
        W, b = linear
        A, P = W.chunk(2)
        return LinearParts(A, P, b)


class Neighbor(Aggregator):
    """σ(W·S + b), Eq. 6."""

    def forward(self, own: Tensor, pooled: Tensor) -> Tensor:
        """(n, d) from pooled (n, d); own (n, d) is not used."""
        return self.activation(self.linear(pooled))

    def linear_parts(self) -> LinearParts | None:
        """W for the neighbourhood; the entity's own vector has no part."""
        if (linear := self._linear(Neighbor)) is None:
            return None
        W, b = linear
        return LinearParts(None, W, b)


class Avg(Sum):
    """Sum without attention: every neighbour weighs 1/|S(v)| (KGCN-avg of Table 2)."""

    attention: ClassVar[bool] = False


AGGREGATORS: dict[str, type[Aggregator]] = {
    "sum": Sum,
    "concat": Concat,
    "neighbor": Neighbor,
    "avg": Avg,
}


def make_aggregator(spec: str | Mapping[str, Any], d: int, activation: Activation) -> Aggregator:
    """Builds an aggregator from its name or from a class of the user's own.

    Args:
        spec: one of the four names; or the dotted path of a subclass of :class:`Aggregator`; or a
            mapping with that path as ``_target_`` and further keyword arguments.
        d: embedding size.
        activation: σ.

    Raises:
        SettingError: the aggregator does not exist, or cannot be built.
    """
    extra = dict(spec) if isinstance(spec, Mapping) else {"_target_": spec}
    target = extra.pop("_target_", None)
    name = str(target)
    if name in AGGREGATORS:
        kind = AGGREGATORS[name]
    elif "." in name:
        try:
            kind = import_class(name, Aggregator)
        except ConfigError as error:
            raise SettingError(f"aggregator: {error}") from error
    else:
        names = ", ".join(AGGREGATORS)
        raise SettingError(
            f"aggregator: found {target!r}, expected one of {names}, or the dotted path of a "
            "subclass of kgrec.models.kgcn.aggregators.Aggregator"
        )
    try:
        return kind(d, activation, **extra)
    except TypeError as error:
        raise SettingError(f"aggregator: {name} does not take {extra}: {error}") from error
