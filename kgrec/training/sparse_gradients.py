"""Gradients of tables as the rows that a step touched, on one device or several."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


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
            grad = torch.sparse_coo_tensor(rows, empty, table.shape)
        grad = grad.coalesce()
        rows = torch.cat(_gather(grad.indices()[0]))
        values = torch.cat(_gather(grad.values())) / dist.get_world_size()
        table.grad = torch.sparse_coo_tensor(rows[None], values, table.shape).coalesce()


def _gather(part: Tensor) -> list[Tensor]:
    """Tensors of different lengths from all processes, in the order of their ranks."""
    length = torch.tensor([len(part)], device=part.device)
    lengths = [torch.zeros_like(length) for _ in range(dist.get_world_size())]
    dist.all_gather(lengths, length)
    longest = max(int(n) for n in lengths)
    padded = part.new_zeros(longest, *part.shape[1:])
    padded[: len(part)] = part
    found = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(found, padded)
    return [tensor[: int(n)] for tensor, n in zip(found, lengths, strict=True)]
