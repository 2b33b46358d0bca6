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
from kgrec.sharding.table import local_part
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
    trained = [
        (name, local_part(table).detach())
        for name, table in model.named_parameters()
        if table.requires_grad and local_part(table).numel()
    ]
    if not trained:
        return
    # The extremes are finite where all numbers are. A norm may overflow although they are.
    finite = torch.stack([torch.stack(table.aminmax()).isfinite().all() for _, table in trained])
    if bool(finite.all()):
        return
    name, table = trained[finite.tolist().index(False)]
    bad = int((~table.isfinite()).sum())
    raise DivergedError(
        f"optimizer: found {bad} of {table.numel()} numbers of the parameter {name} that are not "
        f"finite after epoch {epoch + 1} (norm of the gradient "
        f"{float(gradient_norm(model.parameters())):.3g}), expected finite numbers; {HINT}; "
        f"{kept(epoch)}"
    )


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
    norms = {
        name: float(torch.linalg.vector_norm(p.detach())) / math.sqrt(len(p) if p.ndim >= 2 else 1)
        for name, p in ((n, local_part(p)) for n, p in model.named_parameters())
        if p.requires_grad and p.numel()
    }
    name = max(norms, key=lambda name: math.inf if math.isnan(norms[name]) else norms[name])
    return name, norms[name]
