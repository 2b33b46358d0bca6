"""From gradients to an optimiser step: accumulation over batches, and clipping."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kgrec.sharding.table import ShardedTable, local_part, whole_norms


@dataclass(frozen=True)
class UpdateRule:
    """Rule by which the gradients of batches become one optimiser step.

    The arguments are named as in Lightning's Trainer, which applies them only in automatic
    optimisation.

    Attributes:
        accumulate_grad_batches: batches whose gradients are averaged for one optimiser step; the
            last step of an epoch may have fewer, and divides by the same number.
        gradient_clip_val: largest norm of the whole gradient, or largest absolute value of each of
            its numbers; None or 0: no clipping.
        gradient_clip_algorithm: ``norm`` or ``value``; None: norm.
    """

    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = None
    gradient_clip_algorithm: str | None = None

    def share(self, loss: Tensor) -> Tensor:
        """The share of one batch in the loss of an optimiser step."""
        batches = self.accumulate_grad_batches
        return loss if batches == 1 else loss / batches

    def clip(self, parameters: Iterable[Tensor]) -> None:
        """Clips the gradients of parameters in place, as far as the rule says so."""
        if self.gradient_clip_val:
            by_value = self.gradient_clip_algorithm == "value"
            (clip_by_value if by_value else clip_by_norm)(parameters, self.gradient_clip_val)


def clip_by_norm(parameters: Iterable[Tensor], largest: float) -> Tensor:
    """Scales all gradients together so that their L2 norm is at most ``largest``.

    As :func:`torch.nn.utils.clip_grad_norm_`, but also for sparse gradients and sharded tables.

    Returns:
        The norm before.
    """
    values, norm = _values_and_norm(parameters)
    scale = (largest / (norm + 1e-6)).clamp(max=1.0)
    for value in values:
        value.mul_(scale)
    return norm


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """L2 norm of all gradients together; 0 where there is none."""
    return _values_and_norm(parameters)[1]


def _values_and_norm(parameters: Iterable[Tensor]) -> tuple[list[Tensor], Tensor]:
    """The numbers of all gradients of this process, and the norm of those of all processes."""
    parameters = list(parameters)
    shards = [p for p in parameters if isinstance(p, ShardedTable)]
    parts = _gradient_values(shards)
    whole = _gradient_values(p for p in parameters if not isinstance(p, ShardedTable))
    norm = _norm(whole)
    if shards:
        device = shards[0].local.device
        shared = whole_norms(_norm(parts).to(device)[None])
        norm = torch.linalg.vector_norm(torch.cat([norm.to(device)[None], shared]))
    return [*whole, *parts], norm


def _norm(values: Sequence[Tensor]) -> Tensor:
    if not values:
        return torch.zeros(())
    norms = torch.stack([torch.linalg.vector_norm(value) for value in values])
    norm: Tensor = torch.linalg.vector_norm(norms)
    return norm


def clip_by_value(parameters: Iterable[Tensor], largest: float) -> None:
    """Limits each number of all gradients to [-largest, largest]."""
    for value in _gradient_values(parameters):
        value.clamp_(-largest, largest)


def _gradient_values(parameters: Iterable[Tensor]) -> list[Tensor]:
    """The numbers of every gradient, to be changed in place; sparse gradients become coalesced."""
    values = []
    for parameter in map(local_part, parameters):
        if (grad := parameter.grad) is None:
            continue
        if grad.is_sparse:
            parameter.grad = grad = grad.coalesce()  # before, a row may be there twice
            values.append(grad._values())
        else:
            values.append(grad)
    return values
