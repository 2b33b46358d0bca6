"""Reads rows that other processes have, with one exchange of ids and one of rows.

Row r of a table is on rank r mod W. A read sends each rank the distinct ids that it has, and gets
their rows back. The backward pass sends the gradients of these rows the same way as the ids, so the
gradient of a table is sparse and is nowhere but on the rank that has the row.

:data:`MOVED` counts the bytes and the seconds; :mod:`kgrec.sharding.traffic` has the formula.

Shapes: W processes, n distinct rows, d numbers per row.
"""

from __future__ import annotations

import math
import time
from dataclasses import astuple, dataclass
from typing import Any, NamedTuple, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass
class Moved:
    """What reads of tables have sent to and received from other processes, since the start.

    Attributes:
        sent: bytes that this process has sent.
        received: bytes that it has received.
        reads: number of reads.
        seconds: time in collectives, in which a process also waits for slower ones. On a GPU a
            collective returns before its end, so there it is only a part of the time.
    """

    sent: int = 0
    received: int = 0
    reads: int = 0
    seconds: float = 0.0

    def __sub__(self, earlier: Moved) -> Moved:
        """What has been added since an earlier copy."""
        return Moved(*(a - b for a, b in zip(astuple(self), astuple(earlier), strict=True)))


MOVED = Moved()


class Route(NamedTuple):
    """The way of rows between the ranks that have them and the rank that reads them.

    Attributes:
        order: (n,) positions of the distinct ids, sorted by the rank that has them.
        wanted: W numbers of rows that this process wants of each rank.
        asked: W numbers of rows that each rank wants of this process.
        rows: (m,) local rows that other ranks want, by rank.
    """

    order: Tensor
    wanted: list[int]
    asked: list[int]
    rows: Tensor


def gather(shard: Tensor, ids: Tensor) -> Tensor:
    """(n, d) rows of a table for distinct ids (n,); differentiable in the shard.

    Every process must call it equally often and in the same order, also with no ids.

    Args:
        shard: (rows of this rank, d).
        ids: (n,) int64, distinct rows of the whole table.
    """
    return cast(Tensor, _Gather.apply(shard, ids))  # type: ignore[no-untyped-call]


class _Gather(torch.autograd.Function):
    """Rows of all ranks, whose gradient is a sparse tensor on the rank that has them."""

    @staticmethod
    def forward(ctx: Any, shard: Tensor, ids: Tensor) -> Tensor:
        ctx.route = route = route_of(ids)
        ctx.shape = shard.shape
        MOVED.reads += 1
        return _place(_send(shard.index_select(0, route.rows), route.asked, route.wanted), route)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        route: Route = ctx.route
        values = _send(grad.index_select(0, route.order), route.wanted, route.asked)
        # DistributedDataParallel averages the gradients of all other parameters.
        values /= dist.get_world_size()
        sparse = torch.sparse_coo_tensor(
            route.rows[None], values, ctx.shape, check_invariants=False
        )
        return sparse, None


def largest_number(number: int, device: torch.device) -> int:
    """The largest of the numbers of all processes; every process must call it."""
    largest = torch.tensor(number, device=device)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)


def route_of(ids: Tensor) -> Route:
    """Tells every rank which of its rows this process wants, and learns what the others want."""
    ranks = dist.get_world_size()
    owners = ids % ranks
    order = owners.argsort(stable=True)
    counts = torch.bincount(owners, minlength=ranks)
    theirs = torch.empty_like(counts)
    begin = time.perf_counter()
    dist.all_to_all_single(theirs, counts)
    wanted, asked = counts.tolist(), theirs.tolist()
    _count(8 * (ranks - 1), 8 * (ranks - 1), time.perf_counter() - begin)
    return Route(order, wanted, asked, _send(ids[order] // ranks, wanted, asked))


def _send(values: Tensor, to: list[int], of: list[int]) -> Tensor:
    """Sends the first ``to[0]`` rows of values to rank 0, and so on; returns what arrives."""
    arrived = values.new_empty(sum(of), *values.shape[1:])
    begin = time.perf_counter()
    dist.all_to_all_single(arrived, values.contiguous(), of, to)
    seconds = time.perf_counter() - begin
    rank, size = dist.get_rank(), values.element_size() * math.prod(values.shape[1:])
    _count(size * (sum(to) - to[rank]), size * (sum(of) - of[rank]), seconds)
    return arrived


def _place(arrived: Tensor, route: Route) -> Tensor:
    """Rows in the order of the ids, from rows in the order of ranks."""
    rows = torch.empty_like(arrived)
    rows[route.order] = arrived
    return rows


def _count(sent: int, received: int, seconds: float) -> None:
    MOVED.sent += sent
    MOVED.received += received
    MOVED.seconds += seconds
