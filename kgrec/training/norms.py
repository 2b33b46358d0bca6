"""How large parameters and gradients are: what diverges, dies or is pulled to zero shows there."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from kgrec.models.recommender import Recommender
from kgrec.training.module import RecommenderModule


def norms(recommender: Recommender) -> dict[str, Tensor]:
    """Norms of every trained parameter, by name, with slashes for dots.

    ``norms/weight/…``: the L2 norm of a matrix over the root of its number of rows, which is the
    norm of a typical row and does not grow with the catalogue; of anything else the L2 norm.
    ``norms/grad/…``: the L2 norm of the whole gradient of the last step, if there is one.
    """
    found = {}
    for name, parameter in recommender.named_parameters():
        if not parameter.requires_grad:
            continue
        key = name.replace(".", "/")  # W&B takes dots for nesting
        rows = len(parameter) if parameter.ndim >= 2 else 1
        weight = torch.linalg.vector_norm(parameter.detach())
        found[f"norms/weight/{key}"] = weight / math.sqrt(max(1, rows))
        if (grad := parameter.grad) is not None:
            # A row may stand in a sparse gradient twice until it is coalesced.
            values = grad.coalesce().values() if grad.is_sparse else grad
            found[f"norms/grad/{key}"] = torch.linalg.vector_norm(values)
    return found


class Norms(Callback):
    """Logs :func:`norms` once an epoch, after its last step."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, number: int
    ) -> None:
        """Logs them; Lightning drops the gradients before the epoch ends."""
        if trainer.is_last_batch:
            assert isinstance(module, RecommenderModule)
            figures: dict[str, Any] = dict(norms(module.recommender))
            module.log_dict(figures, on_step=False, on_epoch=True, sync_dist=True, batch_size=1)
