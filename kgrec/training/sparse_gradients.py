"""Gradients of tables as the rows that a step touched, on one device or several."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kgrec.training.distributed import gather


def ask_for_sparse_gradients(module: nn.Module) -> list[Tensor]:
    """Makes every embedding's gradient sparse, and keeps DistributedDataParallel off it.

    NCCL cannot reduce sparse tensors, so :func:`average_sparse_gradients` does. Replicas begin
    alike because they are drawn from one seed.

    Args:
        module: what DistributedDataParallel would wrap.

    Returns:
        The tables.
    """
    tables, names = [], []
    for name, child in module.named_modules():
        if isinstance(child, nn.Embedding):
            child.sparse = True
            tables.append(child.weight)
            names.append(f"{name}.weight")
    ignore = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
    ignore(module, names)  # type: ignore[no-untyped-call]
    return tables


def average_sparse_gradients(tables: list[Tensor]) -> None:
    """Averages the gradients of tables over all processes, if there are several."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return
    for table in tables:
        grad = table.grad
        if grad is None:  # its rank had no row; the others wait for it
            empty = table.new_empty(0, table.shape[1])
            rows = torch.empty(1, 0, dtype=torch.int64, device=table.device)
            grad = _sparse(rows, empty, table)
        grad = grad.coalesce()
        rows = gather(grad.indices()[0])
        values = gather(grad.values()) / dist.get_world_size()
        if len(rows) == 0:  # a step that does not touch the table, as in one process
            table.grad = None
            continue
        table.grad = _sparse(rows[None], values, table).coalesce()


def _sparse(rows: Tensor, values: Tensor, table: Tensor) -> Tensor:
    # Said outright, or torch would warn that it does not check.
    return torch.sparse_coo_tensor(rows, values, table.shape, check_invariants=False)
