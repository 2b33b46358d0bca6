"""Rows of a table, and weighted sums of its rows, with a fast gradient.

PyTorch's own backward of ``embedding_bag`` adds one row at a time into a gradient of the whole
table. Here the backward is a weighted sum as well: reads are sorted by row, and a row's gradient is
the sum over one segment. Optionally the gradient is a sparse tensor of the distinct rows read.

Shapes: N rows of the table, n bags, m reads in all bags, d numbers per row.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from kgrec.sharding.exchange import gather
from kgrec.sharding.table import ShardedTable

# Up to this many numbers in a table, PyTorch's own backward is faster than sorting the reads.
SMALL_TABLE = 3 * 2**16


class Bags(NamedTuple):
    """Rows to sum and their weights.

    Attributes:
        rows: (n, L) int64, L reads per bag; or (m,) with ``offsets``.
        offsets: (n + 1,) int64, start of each bag in ``rows``; or None.
        weights: float of the shape of ``rows``; None: all weights are 1.
    """

    rows: Tensor
    offsets: Tensor | None = None
    weights: Tensor | None = None

    def spread(self, values: Tensor) -> Tensor:
        """Values of bags (n,), repeated for every read: the shape of ``rows``."""
        if self.offsets is None:
            return values[:, None].expand(self.rows.shape)
        return values.repeat_interleave(self.offsets.diff())

    def sums(self, table: Tensor) -> Tensor:
        """(n, d) Σ weight · row over each bag, by PyTorch's own kernel; table (N, d)."""
        return F.embedding_bag(
            self.rows,
            table,
            self.offsets,
            mode="sum",
            per_sample_weights=self.weights,
            include_last_offset=self.offsets is not None,
        )


def weighted_sums(table: Tensor, bags: Bags, sparse: bool = False) -> Tensor:
    """(n, d) Σ weight · table[row] over each bag; differentiable in table and weights.

    Args:
        table: (N, d).
        bags: rows and weights.
        sparse: as in :func:`rows_and_sums`.
    """
    return rows_and_sums(table, None, bags, sparse)[1]


def rows_and_sums(
    table: Tensor, rows: Tensor | None, bags: Bags, sparse: bool = False
) -> tuple[Tensor, Tensor]:
    """Single rows and weighted sums of one table, with one gradient for both.

    Args:
        table: (N, d).
        rows: (k,) int64, single rows to read; None: no single rows.
        bags: rows to sum, and their weights.
        sparse: whether the table's gradient is a coalesced sparse tensor of the rows read.

    Returns:
        (k, d) rows and (n, d) sums; differentiable in the table and in the bags' weights.
    """
    if bags.weights is not None and bags.weights.dtype != table.dtype:  # mixed precision
        dtype = torch.promote_types(bags.weights.dtype, table.dtype)
        bags = bags._replace(weights=bags.weights.to(dtype))
        if table.dtype != dtype:
            table = table.to(dtype)
    shard = table.local if isinstance(table, ShardedTable) else None
    if shard is not None or (sparse and table.requires_grad and torch.is_grad_enabled()):
        summed = bags.rows.flatten()
        reads = summed if rows is None else torch.cat([rows, summed])
        touched, reads = torch.unique(reads, return_inverse=True)
        table = _rows(table, touched) if shard is None else gather(shard, touched)
        rows = None if rows is None else reads[: len(rows)]
        bags = bags._replace(rows=reads[len(reads) - len(summed) :].view(bags.rows.shape))
    elif table.numel() <= SMALL_TABLE and bags.rows.numel() <= table.shape[0]:
        single = table[:0] if rows is None else F.embedding(rows, table)
        return single, bags.sums(table)
    fixed = table.detach()
    single = fixed.new_empty(0, table.shape[1]) if rows is None else F.embedding(rows, fixed)
    sums = bags.sums(fixed)  # gradients of the weights; gradients of the table come below
    if not (table.requires_grad and torch.is_grad_enabled()):
        return single, sums
    weights = None if bags.weights is None else bags.weights.detach()
    args = (single, sums, table, rows, bags._replace(weights=weights))
    return cast(tuple[Tensor, Tensor], _Read.apply(*args))  # type: ignore[no-untyped-call]


def _rows(table: Tensor, distinct: Tensor) -> Tensor:
    """(n, d) distinct rows, with a sparse gradient."""
    return cast(Tensor, _Rows.apply(table, distinct))  # type: ignore[no-untyped-call]


class _Rows(torch.autograd.Function):
    """Distinct rows of a table, whose gradient is a coalesced sparse tensor."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor) -> Tensor:
        ctx.rows, ctx.shape = rows, table.shape
        return table.index_select(0, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        rows = ctx.rows[None]
        return torch.sparse_coo_tensor(
            rows, grad, ctx.shape, is_coalesced=True, check_invariants=False
        ), None


class _Read(torch.autograd.Function):
    """Returns its first two arguments; its backward computes the table's gradient."""

    @staticmethod
    def forward(
        ctx: Any, single: Tensor, sums: Tensor, table: Tensor, rows: Tensor | None, bags: Bags
    ) -> tuple[Tensor, Tensor]:
        ctx.rows, ctx.bags, ctx.shape = rows, bags, table.shape
        return single.view_as(single), sums.view_as(sums)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, single: Tensor, sums: Tensor) -> tuple[Tensor | None, ...]:
        rows, bags, (num_rows, d) = ctx.rows, ctx.bags, ctx.shape
        reads = bags.rows.flatten()
        narrow = reads.int() if num_rows < 2**31 else reads  # half the bytes to sort
        ascending, order = narrow.sort(stable=True)
        bag = bags.spread(torch.arange(len(sums), device=order.device)).flatten()[order]
        weights = None if bags.weights is None else bags.weights.flatten()[order]
        if len(reads) >= num_rows:
            counts = torch.bincount(reads, minlength=num_rows)
            grad = Bags(bag, _offsets(counts), weights).sums(sums)
        else:  # fewer reads than rows: leave out rows that are not read
            touched, counts = torch.unique_consecutive(ascending, return_counts=True)
            grad = sums.new_zeros(num_rows, d)
            grad.index_copy_(0, touched.long(), Bags(bag, _offsets(counts), weights).sums(sums))
        if rows is not None:
            grad.index_add_(0, rows, single)
        return None, sums, grad, None, None


def _offsets(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])
