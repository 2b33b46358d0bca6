"""Sparse gradients of tables: only the rows that a step reads, on one device or several."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kgrec.sharding.table import ShardedTable
from kgrec.training.distributed import gather_rows, joined


def ask_for_sparse_gradients(module: nn.Module) -> list[Tensor]:
    """Makes the gradient of every embedding sparse, and hides it from DistributedDataParallel.

    NCCL cannot reduce sparse tensors; :func:`average_sparse_gradients` averages them instead.

    Args:
        module: module that DistributedDataParallel would wrap.

    Returns:
        Weights of all embeddings that every process has whole.
    """
    tables, names = [], []
    for name, child in module.named_modules():
        if isinstance(child, nn.Embedding):
            child.sparse = True
            if not isinstance(child.weight, ShardedTable):
                tables.append(child.weight)
            names.append(f"{name}.weight")
    ignore = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
    ignore(module, names)  # type: ignore[no-untyped-call]
    return tables


def average_sparse_gradients(tables: list[Tensor]) -> None:
    """Averages the gradients of tables over all processes, if there are several.

    If the model also reads a table as a whole, the table's gradient is dense.
    """
    if not (tables and joined() and dist.get_world_size() > 1):
        return
    # The processes agree on one kind for each table: 0 no gradient, 1 sparse, 2 dense.
    kinds = [0 if t.grad is None else 1 if t.grad.is_sparse else 2 for t in tables]
    agreed = torch.tensor(kinds, device=tables[0].device)
    dist.all_reduce(agreed, dist.ReduceOp.MAX)
    for table, kind in zip(tables, agreed.tolist(), strict=True):
        if kind == 1:
            table.grad = _average_rows(table)
        elif kind == 2:
            table.grad = _average_whole(table)


def _average_rows(table: Tensor) -> Tensor:
    grad = table.grad
    if grad is None:  # this process read no row
        rows = torch.empty(1, 0, dtype=torch.int64, device=table.device)
        grad = _sparse(rows, table.new_empty(0, table.shape[1]), table)
    grad = grad.coalesce()
    rows, values = gather_rows(grad.indices()[0]), gather_rows(grad.values())
    return _sparse(rows[None], values / dist.get_world_size(), table).coalesce()


def _average_whole(table: Tensor) -> Tensor:
    grad = torch.zeros_like(table) if table.grad is None else table.grad
    grad = grad.to_dense().contiguous()
    dist.all_reduce(grad)
    return grad / dist.get_world_size()


def _sparse(rows: Tensor, values: Tensor, table: Tensor) -> Tensor:
    # Explicit, because torch would otherwise warn that it does not check.
    return torch.sparse_coo_tensor(rows, values, table.shape, check_invariants=False)
