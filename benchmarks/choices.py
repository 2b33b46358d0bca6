"""What the constants in the code rest on: each alternative timed on both sides of its threshold.

``python benchmarks/choices.py`` times training steps of KGCN on movie-100k, on one core unless it
says otherwise:

- ``GROUP_FROM_K``: neighbours in a table, or those of one relation together;
- ``SMALL_TABLE``: PyTorch's dense gradient of a table, or ours from sorted reads;
- ``WORTH_SHARING``: one thread, or every core;
- what is not done: ``torch.compile`` of the step, bf16 in the ranking.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import CORE, load_dataset, machine, markdown, write

from kgrec.data.batches import Epochs, PointwiseBatch
from kgrec.data.training_rows import PointwiseRows
from kgrec.evaluation.topk import top_k
from kgrec.models import lookup
from kgrec.models.kgcn import KGCN, neighborhood
from kgrec.training import memory


def batches(dataset: Any, size: int, count: int) -> list[PointwiseBatch]:
    """The first batches of training."""
    epochs = Epochs([PointwiseRows(dataset.train)], size, lambda: 0)
    return [batch for [((batch,), _)] in epochs][:count]


def milliseconds(model: KGCN, data: list[PointwiseBatch], rounds: int) -> float:
    """The median forward and backward pass."""
    seconds = []
    for batch in data * rounds:
        begin = time.perf_counter()
        model.zero_grad()
        model.loss(batch).backward()
        seconds.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(seconds[1:])


def views(dataset: Any, rounds: int) -> list[list[str]]:
    """Both views of K sampled neighbours."""
    rows, data = [], batches(dataset, 1024, 3)
    for H in (1, 2):
        for K in (8, 16, 24, 32, 64):
            found = []
            for threshold in (10**9, 0):  # a table, grouped
                neighborhood.GROUP_FROM_K = threshold
                torch.manual_seed(0)
                found.append(milliseconds(KGCN.from_dataset(dataset, K=K, H=H), data, rounds))
            rows.append([f"H={H}, K={K}", *(f"{x:.1f}" for x in found)])
    return rows


def tables(dataset: Any, rounds: int) -> list[list[str]]:
    """Both gradients of an embedding table."""
    rows = []
    for entities in (2**10, 2**12, 2**13, 10_000, 2**14, 2**16, 2**18):
        found = []
        reads = torch.randint(entities, (128, 8))
        items = torch.randint(entities, (128,))
        weights = torch.rand(128, 8, requires_grad=True)
        for threshold in (10**12, 0):  # PyTorch's, ours
            lookup.SMALL_TABLE = threshold
            table = torch.rand(entities, 16, requires_grad=True)
            seconds = []
            for _ in range(20 * rounds):
                begin = time.perf_counter()
                table.grad = None
                single, sums = lookup.rows_and_sums(table, items, lookup.Bags(reads, None, weights))
                (single.sum() + sums.sum()).backward()
                seconds.append(time.perf_counter() - begin)
            found.append(1e3 * statistics.median(seconds[1:]))
        rows.append([f"{entities * 16:,}", *(f"{x:.2f}" for x in found)])
    return rows


def threads(dataset: Any, rounds: int) -> list[list[str]]:
    """One thread, and every core."""
    rows = []
    for size in (64, 256, 1024, 4096, 16384):
        torch.manual_seed(0)
        model, found = KGCN.from_dataset(dataset, K=8, H=2), []
        needed, _ = memory.RowBudget(model, float("inf")).step_bytes(dataset.train.items, size)
        data = batches(dataset, size, 3)
        for number in (1, memory.CORES):
            torch.set_num_threads(number)
            found.append(milliseconds(model, data, rounds))
        rows.append([f"{needed / 2**20:.1f}", *(f"{x:.1f}" for x in found)])
    return rows


def compiled(dataset: Any, rounds: int) -> list[list[str]]:
    """The step as it is, and through torch.compile; its shapes change from batch to batch."""
    rows = []
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        return [["not measured: no C++ compiler", "", "", ""]]
    for H, size in ((1, 128), (1, 1024), (2, 1024)):
        torch.manual_seed(0)
        model, data = KGCN.from_dataset(dataset, K=8, H=H, d=16), batches(dataset, size, 10)
        eager = milliseconds(model, data, rounds)
        model.loss = torch.compile(model.loss, dynamic=True)  # type: ignore[method-assign]
        begin = time.perf_counter()
        milliseconds(model, data, 1)  # compiles
        first = time.perf_counter() - begin
        steady = milliseconds(model, data, rounds)
        rows.append([f"H={H}, batch {size}", f"{eager:.1f}", f"{steady:.1f}", f"{first:.0f}"])
    return rows


def _scores(model: KGCN, encoded: Any, users: torch.Tensor) -> torch.Tensor:
    return model.score_all(users, encoded).float()


def bf16(dataset: Any, rounds: int) -> list[list[str]]:
    """Ranking all items for all users in float32 and under autocast to bf16."""
    rows = []
    for H in (1, 2):
        torch.manual_seed(0)
        model, users = KGCN.from_dataset(dataset, K=8, H=H), torch.arange(dataset.num_users)
        seconds: dict[bool, float] = {}
        found: dict[bool, torch.Tensor] = {}
        for enabled in (False, True):
            begin = time.perf_counter()
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                score_all = partial(_scores, model, model.encode())
                found[enabled] = top_k(score_all, users, 20, dataset.num_items)[1]
            seconds[enabled] = time.perf_counter() - begin
        same = [
            len(set(a) & set(b)) for a, b in zip(*(x.tolist() for x in found.values()), strict=True)
        ]
        overlap = sum(same) / (20 * len(same))
        rows.append([f"H={H}", *(f"{1e3 * s:.0f}" for s in seconds.values()), f"{overlap:.2f}"])
    return rows


def main() -> None:
    """Reads the arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--toy", action="store_true", help="small synthetic data")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("logs/benchmarks"))
    args = parser.parse_args()
    group, small, sharing = (
        neighborhood.GROUP_FROM_K, lookup.SMALL_TABLE, memory.WORTH_SHARING
    )  # fmt: skip
    name = "synthetic" if args.toy else "movie-100k"
    dataset = load_dataset([f"dataset={name}", f"paths.data={Path('data').resolve()}"])
    cores = os.sched_getaffinity(0) if CORE is not None else None
    if CORE is not None:
        os.sched_setaffinity(0, {CORE})
    torch.set_num_threads(1)
    found = {
        f"ms a step, by K (GROUP_FROM_K = {group})": (
            ["", "a table of K", "grouped by relation"], views(dataset, args.rounds)
        ),
        f"ms a read of 128 rows and sums of 8, by numbers in the table (SMALL_TABLE = {small:,})": (
            ["", "PyTorch's gradient", "ours"], tables(dataset, args.rounds)
        ),
        "ms a step, compiled or not": (
            ["", "as it is", "torch.compile", "s to compile"], compiled(dataset, args.rounds)
        ),
        "ms to rank all items for all users": (
            ["", "float32", "bf16", "share of the top 20 that is the same"],
            bf16(dataset, args.rounds),
        ),
    }  # fmt: skip
    if cores is not None:
        os.sched_setaffinity(0, cores)
    neighborhood.GROUP_FROM_K, lookup.SMALL_TABLE = group, small
    found[f"ms a step, by MiB that it needs (WORTH_SHARING = {sharing / 2**20:g} MiB)"] = (
        ["", "one thread", f"{memory.CORES} threads"], threads(dataset, args.rounds)
    )  # fmt: skip
    table = "\n\n".join(
        markdown([title, *header[1:]], rows) for title, (header, rows) in found.items()
    )
    print(f"\n{table}")
    write(args.out, "choices", {"machine": machine(), "tables": found}, table)


if __name__ == "__main__":
    main()
