"""Norms of parameters and gradients, which show divergence, dead units and strong weight decay."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from kgrec.models.recommender import Recommender
from kgrec.sharding.table import ShardedTable, local_part, whole_norms
from kgrec.training.module import RecommenderModule


def norms(recommender: Recommender) -> dict[str, Tensor]:
    """Norms of every trained parameter, by its name with slashes instead of dots.

    ``norms/weight/…`` is the L2 norm of a vector. For a matrix it is the L2 norm divided by the
    root of the number of rows: the norm of a typical row, which does not grow with the catalogue.
    ``norms/grad/…`` is the L2 norm of the whole gradient of the last step, if there is one.
    """
    values: dict[str, Tensor] = {}
    parts: dict[str, Tensor] = {}  # of tables of which this process has some rows
    for name, parameter in recommender.named_parameters():
        if not parameter.requires_grad:
            continue
        key = name.replace(".", "/")  # W&B reads dots as nesting
        norms_of = parts if isinstance(parameter, ShardedTable) else values
        rows, local = len(parameter) if parameter.ndim >= 2 else 1, local_part(parameter)
        weight = torch.linalg.vector_norm(local.detach())
        norms_of[f"norms/weight/{key}"] = weight / math.sqrt(max(1, rows))
        if (grad := local.grad) is not None:
            # Before it is coalesced, a sparse gradient may have a row twice.
            numbers = grad.coalesce().values() if grad.is_sparse else grad
            norms_of[f"norms/grad/{key}"] = torch.linalg.vector_norm(numbers)
    if parts:
        values |= zip(parts, whole_norms(torch.stack([*parts.values()])), strict=True)
    return values


class Norms(Callback):
    """Logs :func:`norms` once in each epoch, after its last step."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, number: int
    ) -> None:
        """Logs the norms now: Lightning drops the gradients before the epoch ends."""
        if trainer.is_last_batch:
            assert isinstance(module, RecommenderModule)
            values: dict[str, Any] = dict(norms(module.recommender))
            module.log_dict(  # the module gives them to the loggers
                values, logger=False, on_step=False, on_epoch=True, sync_dist=True, batch_size=1
            )
