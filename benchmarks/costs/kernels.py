"""Measures the kernels of a step and the exchanges, each by itself.

Each is measured at a few sizes, with as many processes at work as the step will have. A kernel's
seconds are the CPU time of the thread, the least of several calls: other processes of the machine
then cost nothing. Exchanges are measured by the clock.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from costs.model import Sizes
from costs.processes import join, slowest, wait
from kgrec.data.knowledge_graph import Neighborhood
from kgrec.models.kgcn.aggregators import Sum
from kgrec.models.kgcn.neighborhood import Attention, Sampled
from kgrec.models.lookup import Bags, weighted_sums
from kgrec.sharding import exchange
from kgrec.training.lazy_adam import LazyAdam

Work = Callable[[], Any]
WIDTHS = (16, 32, 64)
FEW = 16  # units of a call whose time is subtracted: it is a part of a step's fixed time
K, RELATIONS = 4, 32


def best(work: Work, clock: Callable[[], float], budget: float) -> float:
    """Seconds of the quickest of several calls."""
    work()
    seconds: list[float] = []
    begin = time.perf_counter()
    while len(seconds) < 3 or (time.perf_counter() - begin < budget and len(seconds) < 200):
        first = clock()
        work()
        seconds.append(clock() - first)
    return min(seconds)


def attend(n: int, table: int) -> Work:
    """Edges of nodes that rows of a batch reach."""
    draws = torch.randint(table, (table * K,))
    graph = Neighborhood(torch.arange(table + 1) * K, draws, draws % RELATIONS)
    view, row = Sampled(graph, K), torch.arange(n // K) // K
    nodes = itertools.cycle(torch.randint(table, (8, n // K)))
    scores = torch.rand(int(row[-1]) + 1, RELATIONS, requires_grad=True)
    grad = torch.rand(n // K, K)

    def work() -> None:
        weights = view.inner(Attention(scores, False, scores.dtype), row, next(nodes)).weights
        assert weights is not None
        torch.autograd.backward(weights, grad)

    return work


def unique(n: int) -> Work:
    """Distinct ids and the place of each."""
    ids = torch.randint(n, (n,))
    return lambda: torch.unique(ids, return_inverse=True)


def single(n: int, d: int) -> Work:
    """Rows of the step's rows, and their gradients."""
    rows, ids, grad = torch.rand(n, d), torch.randint(n, (n,)), torch.zeros(n, d)
    return lambda: grad.index_add_(0, ids, F.embedding(ids, rows))


def sums(n: int, d: int) -> Work:
    """Weighted sums of K rows, with gradients of rows and weights."""
    rows, ids = torch.rand(n, d, requires_grad=True), torch.randint(n, (n // K, K))
    weights, grad = torch.rand(n // K, K, requires_grad=True), torch.rand(n // K, d)
    bags = Bags(ids, None, weights)
    return lambda: torch.autograd.backward(weighted_sums(rows, bags), grad)


def layer(n: int, d: int) -> Work:
    """An aggregator and the sum of a node's two gradients."""
    own, pooled = torch.rand(n, d, requires_grad=True), torch.rand(n, d, requires_grad=True)
    module, grad = Sum(d, torch.relu), torch.rand(n, d)
    return lambda: torch.autograd.backward(module(own, pooled), grad)


def other_rows(n: int, table: int) -> Iterator[Tensor]:
    """Ascending rows of a table, others in each call: the cache does not have those of a step."""
    return itertools.cycle([torch.randperm(table)[:n].sort().values for _ in range(8)])


def fetch(n: int, d: int, table: int) -> Work:
    """Ascending rows of a table."""
    rows, ids = torch.rand(table, d), other_rows(n, table)
    return lambda: rows.index_select(0, next(ids))


def coalesce(n: int, d: int) -> Work:
    """Sum of the repeated rows of a sparse gradient."""
    ids, values = torch.randint(n, (1, n)), torch.rand(n, d)
    return lambda: torch.sparse_coo_tensor(ids, values, (n, d), check_invariants=False).coalesce()


def update(n: int, d: int, table: int) -> Work:
    """Rows of lazy_adam."""
    weight, ids, values = nn.Parameter(torch.rand(table, d)), other_rows(n, table), torch.rand(n, d)
    optimizer = LazyAdam([weight], weight_decay=1e-6)

    def work() -> None:
        weight.grad = torch.sparse_coo_tensor(
            next(ids)[None], values, weight.shape, is_coalesced=True, check_invariants=False
        )
        optimizer.step()

    return work


def route(n: int) -> Work:
    """Ids by their ranks, as :func:`kgrec.sharding.exchange.route_of`."""
    ids = torch.arange(n)

    def work() -> Tensor:
        owners = ids % 2
        order = owners.argsort(stable=True)
        torch.bincount(owners, minlength=2)
        return ids[order] // 2

    return work


def carry(n: int, d: int) -> Work:
    """Rows to the order of the ids, and gradients to the order of ranks."""
    rows, order = torch.rand(n, d), torch.arange(n).view(-1, 2).T.flatten()
    way = exchange.Route(order, [], [], order)

    def work() -> Tensor:
        exchange._place(rows, way)
        values = rows.index_select(0, order)
        values /= 2
        return values

    return work


def kernels(units: list[int], tables: list[int], budget: float) -> dict[str, list[list[float]]]:
    """Of each kernel: units, numbers per unit, rows of the table, seconds per unit.

    Args:
        units: numbers of units.
        tables: rows of the tables that are read or updated.
        budget: seconds for the calls of a kernel.
    """
    clock = time.thread_time
    points: dict[str, list[list[float]]] = {}

    def add(name: str, n: int, d: int, table: int, make: Callable[..., Work], *args: int) -> None:
        wait()
        few = best(make(FEW, *args), clock, budget)
        seconds = max(0.0, best(make(n, *args), clock, budget) - few)
        points.setdefault(name, []).append([n, d, table, seconds / n])

    for n in units:
        for table in tables:
            add("attend", n, 0, table, attend, table)
        add("unique", n, 0, 0, unique)
        add("route", n, 0, 0, route)
        for d in WIDTHS:
            for name, make in (
                ("single", single), ("sums", sums), ("layer", layer), ("coalesce", coalesce),
                ("carry", carry),
            ):  # fmt: skip
                add(name, n, d, 0, make, d)
            for table in tables:
                rows = min(n, table)
                add("fetch", rows, d, table, fetch, d, table)
                add("update", rows, d, table, update, d, table)
    return points


def exchanges(powers: list[int]) -> dict[str, list[list[float]]]:
    """Of each collective: bytes and seconds.

    Args:
        powers: binary logarithms of the bytes.
    """
    points: dict[str, list[list[float]]] = {"all_to_all": [], "all_reduce": []}
    ranks = dist.get_world_size()
    for power in powers:
        whole = torch.zeros(max(ranks, 2**power // 4 * ranks // (ranks - 1) // ranks * ranks))
        arrived, count = torch.empty_like(whole), 60 if power < 21 else 12
        for name in ("all_to_all", "all_reduce") if power <= 20 else ("all_to_all",):
            seconds = []
            for _ in range(count):
                wait()
                begin = time.perf_counter()
                if name == "all_to_all":
                    dist.all_to_all_single(arrived, whole)
                else:
                    dist.all_reduce(arrived)
                seconds.append(slowest(time.perf_counter() - begin))
            away = (ranks - 1) / ranks if name == "all_to_all" else 1
            points[name].append([whole.nbytes * away, min(seconds)])
    return points


def fixed() -> float:
    """Seconds of a step with one row, with nothing of it in the caches."""
    from costs.steps import measure

    ranks = dist.get_world_size() if dist.is_initialized() else 1
    sizes = Sizes(1000, 1000, 1000, RELATIONS, d=4, K=1, H=2, batch=ranks, ranks=ranks)
    return float(measure(sizes, 60, joined=True, evict=True)["cpu"])


if __name__ == "__main__":
    rank, ranks = join()
    torch.manual_seed(rank)
    task = json.loads(sys.argv[1])
    costs: dict[str, Any] = {"fixed": fixed()}
    costs["kernels"] = kernels(task["units"], task["tables"], task["budget"])
    if ranks > 1:
        costs["exchanges"] = exchanges(task["powers"])
    print(json.dumps(costs))
