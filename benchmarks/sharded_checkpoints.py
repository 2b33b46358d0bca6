"""Checkpoints of shared tables: memory and time of writing, of loading, and of taking rows.

``python benchmarks/sharded_checkpoints.py`` makes an SVD with 4,000,000 items of 64 numbers, a
table of 1 GB, in one process and in two. Both ways give the same numbers. It then measures, each in
a process of its own:

- write: the checkpoint of one process is a file, that of two processes a folder;
- load: the model of the file, and of the folder, for the first time and again;
- take: four processes take their rows of the table that two have written.

Memory is private memory (RssAnon of Linux) above what the process had before, sampled every 5 ms.
Pages of mapped files are not private: the system drops them when it needs the memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from common import machine, markdown, write
from lightning_fabric.plugins.environments.lightning import find_free_network_port

from kgrec.files import atomic_folder
from kgrec.models.recipes import rebuild
from kgrec.models.svd import SVD
from kgrec.runs.checkpoints import load_recommender, read_checkpoint
from kgrec.runs.stored_tables import PLAIN, TABLES, stored_tables
from kgrec.sharding.building import sharded_tables
from kgrec.sharding.checkpoint import save_tables, take_rows
from kgrec.sharding.table import tables_of
from kgrec.training.checkpoint_files import AtomicCheckpointIO

USERS, PREFIX = 1000, "recommender."


def private_memory() -> int:
    """Private memory of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


@contextmanager
def measured(result: dict[str, Any], name: str) -> Iterator[None]:
    """Adds the seconds, the private memory at the end and its peak."""
    before, done = private_memory(), threading.Event()
    peak = [before]

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], private_memory())

    thread = threading.Thread(target=watch)
    thread.start()
    begin = time.perf_counter()
    yield
    seconds = time.perf_counter() - begin
    done.set()
    thread.join()
    after = private_memory()
    memory = {"kept": after - before, "peak": max(peak[0], after) - before}
    result[name] = {"seconds": seconds, **memory}


def model(args: argparse.Namespace) -> SVD:
    """The model, with the same numbers in every process."""
    torch.manual_seed(0)
    return SVD(USERS, args.rows, args.d)


def content(recommender: SVD, state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint of weights."""
    identity = {"recipe": recommender.recipe(), "dataset": {}, "settings": {}}
    return {"kgrec": identity, "state_dict": state, "epoch": 0}


def write_file(args: argparse.Namespace) -> dict[str, Any]:
    """One process writes a file."""
    result: dict[str, Any] = {}
    recommender = model(args)
    state = {f"{PREFIX}{name}": table for name, table in recommender.state_dict().items()}
    with measured(result, "write"):
        AtomicCheckpointIO().save_checkpoint(content(recommender, state), args.folder / "file.ckpt")
    return result


def join(args: argparse.Namespace) -> None:
    """Connects this process with the others."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(args.port)}
    dist.init_process_group("gloo", rank=args.rank, world_size=args.ranks)


def write_folder(args: argparse.Namespace) -> dict[str, Any]:
    """One of the processes that write a folder."""
    join(args)
    result: dict[str, Any] = {}
    with sharded_tables(args.rank, args.ranks):
        recommender = model(args)
    tables = {f"{PREFIX}{name}": table for name, table in tables_of(recommender).items()}
    path = args.folder / "folder.ckpt"
    with measured(result, "write"):
        if args.rank == 0:
            with atomic_folder(path) as incoming:
                dist.broadcast_object_list([incoming])
                layouts = save_tables(tables, incoming / TABLES)
                plain = content(recommender, {}) | {"tables": layouts}
                AtomicCheckpointIO().save_checkpoint(plain, incoming / PLAIN)
        else:
            received: list[Any] = [None]
            dist.broadcast_object_list(received)
            save_tables(tables, received[0] / TABLES)
        dist.barrier()
    return result


def load(args: argparse.Namespace) -> dict[str, Any]:
    """One process loads a model and scores a thousand pairs."""
    result: dict[str, Any] = {}
    users = torch.arange(USERS)
    items = torch.arange(USERS) * (args.rows // USERS)
    small = SVD(2, 2, 2)
    for in_place in (False, True):  # what Python imports on the way
        rebuild(small.recipe(), small.state_dict(), in_place=in_place)
    with measured(result, "load"), torch.no_grad():
        recommender = load_recommender(args.folder / args.name)
        scores = recommender.score(users, items)
    result["scores"] = scores.tolist()
    del recommender
    return result


def take(args: argparse.Namespace) -> dict[str, Any]:
    """One of the processes that take their rows."""
    result: dict[str, Any] = {}
    with sharded_tables(args.rank, args.ranks):
        recommender = model(args)
    expected = {name: table.local.clone() for name, table in tables_of(recommender).items()}
    for table in tables_of(recommender).values():
        table.local.data.zero_()
    path = args.folder / "folder.ckpt"
    with measured(result, "take"):
        stored = stored_tables(read_checkpoint(path), path)
        for name, table in tables_of(recommender).items():
            take_rows(table, stored[f"{PREFIX}{name}"].shards())
    for name, table in tables_of(recommender).items():
        assert torch.equal(table.local, expected[name])
    return result


WORK: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    function.__name__: function for function in (write_file, write_folder, load, take)
}


def start(args: argparse.Namespace, work: str, ranks: int = 1, name: str = "") -> dict[str, Any]:
    """What the processes of a measurement report; the largest of each number."""
    port = find_free_network_port()
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "--work", work, "--rank", str(r), "--ranks", str(ranks),
             "--port", str(port), "--name", name, "--folder", str(args.folder),
             "--rows", str(args.rows), "--d", str(args.d)],
            stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for r in range(ranks)
    ]  # fmt: skip
    results = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
    key = work.partition("_")[0]
    largest = {k: max(r[key][k] for r in results) for k in ("seconds", "kept", "peak")}
    return largest | {"scores": results[0].get("scores")}


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--d", type=int, default=64)
    parser.add_argument("--folder", type=Path, help="folder for the checkpoints; it is emptied")
    parser.add_argument("--out", type=Path, default=Path("logs/benchmarks"))
    parser.add_argument("--work", choices=WORK, help=argparse.SUPPRESS)
    parser.add_argument("--name", help=argparse.SUPPRESS)
    for number in ("rank", "ranks", "port"):
        parser.add_argument(f"--{number}", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        print(json.dumps(WORK[args.work](args)))
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        args.folder = Path(folder)
        results = {
            "write: 1 process, a file": start(args, "write_file"),
            "write: 2 processes, a folder": start(args, "write_folder", 2),
            "load: the file": start(args, "load", name="file.ckpt"),
            "load: the folder, first": start(args, "load", name="folder.ckpt"),
            "load: the folder, again": start(args, "load", name="folder.ckpt"),
            "take: 4 processes": start(args, "take", 4),
        }
    scores = [result["scores"] for result in results.values() if result["scores"]]
    assert scores[0] == scores[1] == scores[2]
    print(f"{machine()}\nitem table: {args.rows * args.d * 4 / 1e6:,.0f} MB; scores are equal\n")
    lines = [
        [name, f"{r['seconds']:.2f}", f"{r['kept'] / 1e6:,.0f}", f"{r['peak'] / 1e6:,.0f}"]
        for name, r in results.items()
    ]
    table = markdown(["", "s", "MB kept", "MB peak"], lines)
    print(table)
    write(args.out, "sharded_checkpoints", {"machine": machine(), "results": results}, table)


if __name__ == "__main__":
    main()
