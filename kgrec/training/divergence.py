"""A training whose numbers are no longer finite is stopped before it can replace a good checkpoint.

The losses of a few steps are looked at together: each look makes the CPU wait for a GPU. Parameters
are looked at when an epoch has ended, before its validation, and when a checkpoint is written.
"""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor, nn

from kgrec.errors import DivergedError
from kgrec.sharding.table import ShardedTable, local_part, tables_of, whole_norms
from kgrec.training.distributed import joined
from kgrec.training.updates import gradient_norm

STEPS = 20  # steps whose losses are looked at together
HINT = (
    "the training has diverged: lower optimizer.lr or optimizer.weight_decay, or clip the "
    "gradients (trainer.gradient_clip_val=1)"
)


class LossWatch:
    """Raises an error soon after the first loss that is not finite, and names its step.

    On several devices each process has the loss of its own rows. All processes add as many losses,
    so they look at the same time, and an error ends all of them.

    Args:
        model: model that is trained; the error tells its norms.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.begin(0)

    def begin(self, epoch: int) -> None:
        """Starts an epoch, numbered from 0."""
        self._epoch, self._seen = epoch, 0
        self._losses: list[Tensor] = []
        self._before = math.nan  # the last loss that was looked at

    def add(self, loss: Tensor) -> None:
        """Adds the loss of a step."""
        self._losses.append(loss.detach())

    def look(self, least: int = STEPS) -> None:
        """Looks at the losses since the last look, if there are at least so many.

        Raises:
            DivergedError: a loss is not finite, on this or on another process.
        """
        if len(self._losses) < least:
            return
        losses = torch.stack(self._losses)
        num_good = losses.isfinite().cumprod(0).sum()
        if joined():
            dist.all_reduce(num_good, dist.ReduceOp.MIN)
        good = int(num_good)
        if good < len(losses):
            before = float(losses[good - 1]) if good else self._before
            raise DivergedError(self._message(float(losses[good]), before, self._seen + good + 1))
        self._seen += good
        self._before = float(losses[-1])
        self._losses = []

    def _message(self, loss: float, before: float, step: int) -> str:
        table, norm = largest_norm(self._model)
        earlier = "" if math.isnan(before) else f"{before:.3g} in the step before, "
        # The loss of another process may be the one that is not finite.
        shown = "on another device" if math.isfinite(loss) else f"of {loss}"
        return (
            f"optimizer: found a loss {shown} in epoch {self._epoch + 1}, step {step} ({earlier}"
            f"norm of the gradient {float(gradient_norm(self._model.parameters())):.3g}, largest "
            f"norm of a row {norm:.3g} in {table}), expected a finite loss; {HINT}; "
            f"{kept(self._epoch)}"
        )


def check_parameters(model: nn.Module, epoch: int) -> None:
    """Checks the parameters of a model that is trained.

    Args:
        model: the model.
        epoch: number of the epoch, from 0.

    Raises:
        DivergedError: a parameter is not finite.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad and p.numel()}
    if not trained:
        return
    finite = torch.stack([_is_finite(local_part(p).detach()) for p in trained.values()])
    if shared := tables_of(model):  # the rows of other processes count too
        dist.all_reduce(finite, dist.ReduceOp.MIN)
    if bool(finite.all()):
        return
    name = next(n for n, good in zip(trained, finite.tolist(), strict=True) if not good)
    bad = (~local_part(trained[name]).isfinite()).sum()
    if name in shared:
        dist.all_reduce(bad)
    raise DivergedError(
        f"optimizer: found {int(bad)} of {trained[name].numel()} numbers of the parameter {name} "
        f"that are not finite after epoch {epoch + 1} (norm of the gradient "
        f"{float(gradient_norm(model.parameters())):.3g}), expected finite numbers; {HINT}; "
        f"{kept(epoch)}"
    )


def _is_finite(numbers: Tensor) -> Tensor:
    """Whether all numbers are finite, 1 or 0."""
    if not numbers.numel():
        return torch.ones((), dtype=torch.uint8, device=numbers.device)
    # The extremes are finite where all numbers are. A norm may overflow although they are.
    return torch.stack(numbers.aminmax()).isfinite().all().to(torch.uint8)


def kept(epoch: int) -> str:
    """What is kept of a training that stops in an epoch, numbered from 0."""
    if epoch == 0:
        return "no epoch has ended, so there is no checkpoint"
    return f"the checkpoints of epoch {epoch} and before are kept"


def largest_norm(model: nn.Module) -> tuple[str, float]:
    """Name of the parameter with the largest norm of a typical row, and the norm.

    The norm of a parameter is divided by the root of its number of rows, as in
    :func:`kgrec.training.norms.norms`. A norm that is not a number is the largest.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad and p.numel()}
    norms = {name: torch.linalg.vector_norm(local_part(p).detach()) for name, p in trained.items()}
    if shared := [name for name, p in trained.items() if isinstance(p, ShardedTable)]:
        parts = torch.stack([norms[name] for name in shared])
        norms |= zip(shared, whole_norms(parts), strict=True)
    typical = {
        name: float(norms[name]) / math.sqrt(len(p) if p.ndim >= 2 else 1)
        for name, p in trained.items()
    }
    name = max(typical, key=lambda n: math.inf if math.isnan(typical[n]) else typical[n])
    return name, typical[name]
