"""Whole training steps of KGCN on a random graph, in one process or several."""

from __future__ import annotations

import functools
import json
import statistics
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from costs.model import Sizes
from costs.processes import join, slowest, wait
from kgrec.data.batches import PointwiseBatch
from kgrec.data.knowledge_graph import Neighborhood
from kgrec.models.kgcn.model import KGCN
from kgrec.models.kgcn.samplers import Uniform
from kgrec.models.kgcn.shards import shared
from kgrec.sharding import exchange
from kgrec.sharding.building import sharded_tables
from kgrec.training.lazy_adam import LazyAdam
from kgrec.training.module import RecommenderModule


def build(sizes: Sizes, rank: int) -> RecommenderModule:
    """KGCN on a graph in which every entity has K random neighbours."""
    E, K = sizes.entities, sizes.K
    draws = torch.Generator().manual_seed(0)
    neighbors = torch.randint(E, (E * K,), generator=draws)
    relations = torch.randint(sizes.relations, (E * K,), generator=draws)
    graph = Neighborhood(torch.arange(E + 1) * K, neighbors, relations)
    torch.manual_seed(0)
    with sharded_tables(rank, sizes.ranks) if sizes.ranks > 1 else nullcontext():
        shards = shared(graph, K, draws, sizes.items, Uniform())
        model = KGCN(
            sizes.users, sizes.items, sizes.relations, *(graph if shards is None else shards.whole),
            K=K, d=sizes.d, H=sizes.H,
        )  # fmt: skip
        model.share(shards)
    return RecommenderModule(model, functools.partial(LazyAdam, lr=1e-3, weight_decay=1e-6), 0, {})


def batch_of(sizes: Sizes, draws: torch.Generator) -> PointwiseBatch:
    """Rows of one process, users and items drawn uniformly."""
    rows = sizes.rows
    return PointwiseBatch(
        torch.randint(sizes.users, (rows,), generator=draws),
        torch.randint(sizes.items, (rows,), generator=draws),
        torch.randint(2, (rows,), generator=draws).float(),
    )


def dense_gradients(module: RecommenderModule, average: bool) -> int:
    """Averages the gradients of replicated parameters, as DDP does; their bytes."""
    grads = [p.grad for p in module.parameters() if p.grad is not None and not p.grad.is_sparse]
    whole = torch.cat([g.flatten() for g in grads])
    if average:
        dist.all_reduce(whole)
        whole /= dist.get_world_size()
        parts = whole.split([g.numel() for g in grads])
        for grad, part in zip(grads, parts, strict=True):
            grad.copy_(part.view_as(grad))
    return whole.nbytes


def measure(sizes: Sizes, count: int, joined: bool = False, evict: bool = False) -> dict[str, Any]:
    """Seconds of steps, of them in exchange, and bytes that a step sends.

    Args:
        sizes: what is trained.
        count: number of steps.
        joined: whether the processes are connected.
        evict: whether the caches are filled with other numbers before each step.
    """
    rank = (dist.get_rank() if dist.is_initialized() else 0) if joined else join()[0]
    module = build(sizes, rank)
    model, optimizer = module.recommender, module.configure_optimizers()
    draws = torch.Generator().manual_seed(rank)
    seconds, shares, cpu, sent = [], [], [], []
    others = torch.zeros(2**24 if evict else 0)
    for step in range(count + 2):
        batch = batch_of(sizes, draws)
        if evict:
            others += 1
        wait()
        before = replace(exchange.MOVED)
        begin, begin_cpu = time.perf_counter(), time.thread_time()
        optimizer.zero_grad()
        model.loss(batch).backward()
        if sizes.ranks > 1:
            dense_gradients(module, True)
        optimizer.step()
        took, took_cpu = time.perf_counter() - begin, time.thread_time() - begin_cpu
        if step >= 2:  # the moments are made in the first
            seconds.append(slowest(took))
            moved = exchange.MOVED - before
            shares.append(slowest(moved.seconds))
            cpu.append(slowest(took_cpu))
            sent.append(moved.sent)
    state: list[Tensor] = [t for s in optimizer.state.values() for t in s.values()]
    best = min(range(count), key=seconds.__getitem__)
    return {
        "seconds": seconds[best],
        "median": statistics.median(seconds),
        "exchange": shares[best],
        "cpu": min(cpu),
        "sent": statistics.mean(sent),
        "state_bytes": sum(t.nbytes for t in state if t.ndim),
    }


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    print(json.dumps(measure(Sizes(**task["sizes"]), task["count"])))
