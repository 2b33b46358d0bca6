"""Starts several processes that exchange tensors by gloo, one core's thread each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

HERE = Path(__file__).parent
KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": f"{10**11}", "MALLOC_TOP_PAD_": f"{2**26}",
}  # fmt: skip


def run_ranks(script: str, task: dict[str, Any], ranks: int) -> list[dict[str, Any]]:
    """Runs a task in processes that :func:`join` connects.

    Args:
        script: a file of this folder, which prints its results as JSON in its last line.
        task: the task, the first argument of the script as JSON.
        ranks: W, number of processes.

    Returns:
        The results of each rank.

    Raises:
        SystemExit: a process failed.
    """
    # A page that is touched for the first time takes as long as a copy of it several times over, so
    # the C library keeps the memory that a step has used, as PyTorch does on a GPU.
    env = (
        os.environ
        | KEEP_MEMORY
        | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    )
    env["PYTHONPATH"] = str(HERE.parent)
    with tempfile.TemporaryDirectory() as scratch:
        env |= {"COSTS_STORE": f"{scratch}/store", "COSTS_RANKS": str(ranks)}
        words = [sys.executable, str(HERE / script), json.dumps(task)]
        processes = [
            subprocess.Popen(
                words, env=env | {"COSTS_RANK": str(rank)}, cwd=scratch, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
            for rank in range(ranks)
        ]  # fmt: skip
        printed = [process.communicate() for process in processes]
    for process, (_, errors) in zip(processes, printed, strict=True):
        if process.returncode != 0:
            raise SystemExit(f"{script} {task}: {errors[-2000:]}")
    return [json.loads(out.strip().splitlines()[-1]) for out, _ in printed]


def join() -> tuple[int, int]:
    """Connects this process with the others of :func:`run_ranks`; its rank, and their number."""
    rank, ranks = int(os.environ["COSTS_RANK"]), int(os.environ["COSTS_RANKS"])
    torch.set_num_threads(1)
    if ranks > 1:
        store = f"file://{os.environ['COSTS_STORE']}"
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=ranks)
    return rank, ranks


def wait() -> None:
    """Waits for the other processes."""
    if dist.is_initialized():
        dist.barrier()


def slowest(seconds: float) -> float:
    """The largest of the numbers of all processes."""
    if not dist.is_initialized():
        return seconds
    most = torch.tensor(seconds, dtype=torch.float64)
    dist.all_reduce(most, dist.ReduceOp.MAX)
    return float(most)
