"""Ranking with item shards: seconds, memory of a process and bytes, on 1 and more processes.

``python benchmarks/sharded_ranking.py`` ranks 20,000 items for 2,000 users by SVD and KGCN, which
are untrained, on a random graph: in one process with whole tables, as a run on one device does, and
with sharded tables in 1 and 2 processes. Processes talk over gloo, and each has one thread.
``--pairs`` adds the way of a model without a scorer of its own, for 20 of the users. The lists of
all ways are compared. Results: ``sharded_ranking.md`` and ``.json`` in ``--out``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import HERE, machine, markdown, peak_gigabytes, write

K = 101  # items of a list: the largest cut-off, 100, and one more for ties
D, NEIGHBORS, RELATIONS = 32, 8, 10
FEW_USERS = 20
MODELS = {"svd": 0, "kgcn H=1": 1, "kgcn H=2": 2}


def build(name: str, items: int, users: int) -> Any:
    """An untrained model; its graph has 5 entities for every 4 items."""
    import torch

    from kgrec.models.kgcn.model import KGCN
    from kgrec.models.svd import SVD

    torch.manual_seed(0)
    if name == "svd":
        return SVD(users, items, D)
    E, draw = items * 5 // 4, torch.Generator().manual_seed(1)
    graph = (
        torch.arange(E + 1) * NEIGHBORS,
        torch.randint(E, (E * NEIGHBORS,), generator=draw),
        torch.randint(RELATIONS, (E * NEIGHBORS,), generator=draw),
    )
    return KGCN(users, items, RELATIONS, *graph, d=D, H=MODELS[name], K=NEIGHBORS)


def process(task: dict[str, Any]) -> dict[str, Any]:
    """One process of a way of ranking."""
    import torch
    import torch.distributed as dist

    from kgrec.data.interactions import Interactions
    from kgrec.evaluation.sharded_ranking import top_k_of_shards
    from kgrec.evaluation.topk import top_k
    from kgrec.models.recommender import Recommender
    from kgrec.sharding.building import sharded_tables
    from kgrec.sharding.exchange import MOVED

    torch.set_num_threads(1)
    items, n, ranks = task["items"], task["users"], task["processes"]
    draw = torch.Generator().manual_seed(2)
    of_users, of_items = (torch.randint(size, (50 * n,), generator=draw) for size in (n, items))
    exclude = Interactions.from_pairs(of_users, of_items, n, items)
    users = torch.arange(FEW_USERS if task["way"] == "pairs" else n)
    rank = int(os.environ.get("RANK", "0"))
    if task["way"] == "whole":
        model = build(task["model"], items, n).eval()
    else:
        dist.init_process_group("gloo")
        with sharded_tables(rank, ranks):
            model = build(task["model"], items, n).eval()
        dist.barrier()
    before, sent, cpu = peak_gigabytes(), MOVED.sent, time.process_time()
    begin = time.perf_counter()
    with torch.inference_mode():
        if task["way"] == "whole":
            encoded = model.encode()
            scores, best = top_k(lambda u: model.score_all(u, encoded), users, K, items, exclude)
        else:
            scorer = model.scorer
            if task["way"] == "pairs":
                scorer = lambda own: Recommender.scorer(model, own)  # noqa: E731
            scores, best = top_k_of_shards(scorer, users, K, items, exclude)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    if rank == 0:
        torch.save((scores, best), task["file"])
    if task["way"] != "whole":
        dist.barrier()
        dist.destroy_process_group()
    return {
        "seconds": seconds, "cpu_seconds": cpu, "peak_gb": peak_gigabytes(), "before_gb": before,
        "read_mb": (MOVED.sent - sent) / 1e6,
        "lists_mb": 2 * (ranks - 1) / ranks * len(users) * K * (8 + scores.element_size()) / 1e6,
    }  # fmt: skip


def measure(task: dict[str, Any], port: int) -> dict[str, Any]:
    """The processes of a way of ranking: the slowest, the largest, and the bytes of one."""
    env = os.environ | {
        "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "WORLD_SIZE": str(task["processes"]),
    }  # fmt: skip
    command = [sys.executable, str(HERE / "sharded_ranking.py"), "--process", json.dumps(task)]
    started = [
        subprocess.Popen(command, env=env | {"RANK": str(rank)}, stdout=subprocess.PIPE, text=True)
        for rank in range(task["processes"])
    ]
    outputs = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit(f"{task}: a process failed")
    results = [json.loads(output.strip().splitlines()[-1]) for output in outputs]
    return {name: max(result[name] for result in results) for name in results[0]}


def agreement(file: Path, reference: Path) -> tuple[float, float, float]:
    """Shares of equal lists and of equal scores, and the largest difference of scores."""
    import torch

    (scores, items), (expected, others) = torch.load(file), torch.load(reference)
    expected, others = expected[: len(scores)], others[: len(items)]
    lists = float((items == others).all(dim=1).double().mean())
    same = float((scores == expected).double().mean())
    return lists, same, float((scores - expected).abs().max())


def main() -> None:
    """Measures every way, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--users", type=int, default=2_000)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--pairs", action="store_true", help="measure scoring by pairs too")
    parser.add_argument("--out", type=Path, default=Path("logs/benchmarks"))
    parser.add_argument("--port", type=int, default=29_611)
    parser.add_argument("--process", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.process:
        print(json.dumps(process(json.loads(args.process))))
        return
    ways = [("whole", 1), *(("shards", ranks) for ranks in args.processes)]
    if args.pairs:
        ways += [("pairs", ranks) for ranks in args.processes]
    rows, results = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for model in args.models:
            for way, ranks in ways:
                file = Path(scratch) / f"{model}-{way}-{ranks}.pt"
                task = {
                    "model": model, "way": way, "processes": ranks, "items": args.items,
                    "users": args.users, "file": str(file),
                }  # fmt: skip
                args.port += 1
                result = measure(task, args.port)
                same = agreement(file, Path(scratch) / f"{model}-whole-1.pt")
                results.append(task | result | {"equal_lists": same[0], "equal_scores": same[1]})
                few = f" for {FEW_USERS} users" if way == "pairs" else ""
                rows.append([
                    model, way, str(ranks), f"{result['seconds']:.2f}{few}",
                    f"{result['cpu_seconds']:.2f}{few}", f"{result['before_gb']:.2f}",
                    f"{result['peak_gb']:.2f}", f"{result['read_mb']:.1f}",
                    f"{result['lists_mb']:.1f}", f"{same[0]:.2%}", f"{same[1]:.2%}",
                    f"{same[2]:.0e}",
                ])  # fmt: skip
                print(" | ".join(rows[-1]), flush=True)
    header = [
        "model", "tables", "processes", "seconds", "CPU seconds", "GB before", "GB at most",
        "MB read", "MB lists", "equal lists", "equal scores", "largest difference",
    ]  # fmt: skip
    figures = {"machine": machine(), "items": args.items, "users": args.users, "results": results}
    table = markdown(header, rows)
    print(f"\n{table}")
    write(args.out, "sharded_ranking", figures, table)


if __name__ == "__main__":
    main()
