"""Memory and time of a graph that processes share, against one in which each has all of it.

``python benchmarks/graph_shards.py`` draws a graph, writes its triples, and measures each step in a
process of its own: S(v) computed in memory; S(v) as a file, in pieces; the K drawn neighbours of
all entities, as one process has them; and those of the entities of one of W processes, from the
file. Memory is the most that a process holds apart from mapped files (RssAnon), above its start.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch
from common import machine, markdown, run_alone, write
from safetensors.torch import save_file

from kgrec.data.draws import generator
from kgrec.data.knowledge_graph import KnowledgeGraph, Neighborhood
from kgrec.data.prepared_files import load_tensors
from kgrec.data.stored_neighborhood import write_neighborhood
from kgrec.models.kgcn.neighborhood import view
from kgrec.models.kgcn.shards import SampledShards
from kgrec.sharding.building import Shares

RELATIONS = 32
STEPS: dict[str, dict[str, Any]] = {
    "S(v), computed in memory": {"step": "compute"},
    "S(v), written to a file": {"step": "write"},
    "K neighbours, one process, from memory": {"step": "one"},
    "K neighbours, 1 of 1 processes, from the file": {"step": "shards", "ranks": 1},
    "K neighbours, 1 of 2 processes, from the file": {"step": "shards", "ranks": 2},
    "K neighbours, 1 of 8 processes, from the file": {"step": "shards", "ranks": 8},
}


def triples(entities: int, count: int) -> dict[str, torch.Tensor]:
    """Heads are even, and tails are few entities more often than others."""
    draws = generator(0, "triples")
    return {
        "heads": torch.randint(0, entities, (count,), generator=draws),
        "relations": torch.randint(0, RELATIONS, (count,), generator=draws),
        "tails": (entities * torch.rand(count, generator=draws, dtype=torch.float64) ** 2).long(),
    }


def anonymous() -> int:
    """Bytes of this process that are no mapped file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


class Peak(threading.Thread):
    """The most anonymous memory, looked at every few milliseconds until it is asked for."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = self.begin = anonymous()
        self.ended = threading.Event()
        self.start()

    def run(self) -> None:
        """Looks until the end."""
        while not self.ended.wait(0.003):
            self.most = max(self.most, anonymous())

    def megabytes(self) -> float:
        """The most above the beginning; ends the thread."""
        self.ended.set()
        return (max(self.most, anonymous()) - self.begin) / 1e6


def measure(task: dict[str, Any]) -> dict[str, float]:
    """One step in this process."""
    torch.set_num_threads(1)
    folder, K, E = Path(task["folder"]), task["K"], task["entities"]
    graph = KnowledgeGraph(**load_tensors(folder / "triples"), num_entities=E,
                           num_relations=RELATIONS)  # fmt: skip
    around = None
    if task["step"] == "one":
        around = graph.neighborhood()
    elif task["step"] == "shards":
        around = Neighborhood(**load_tensors(folder / "around"))
    peak, begin = Peak(), time.perf_counter()
    kept: Any = None
    if task["step"] == "compute":
        kept = graph.neighborhood()
    elif task["step"] == "write":
        write_neighborhood(graph, folder / "around")
    elif task["step"] == "one":
        assert around is not None
        kept = around.sample(K, generator(0, "neighbors"))
        kept = kept, view(kept)
    else:
        assert around is not None
        kept = SampledShards(around, K, generator(0, "neighbors"), Shares(0, task["ranks"]))
    seconds, most = time.perf_counter() - begin, peak.megabytes()
    ctypes.CDLL(None).malloc_trim(0)  # freed memory that the allocator has not given back
    held = (anonymous() - peak.begin) / 1e6
    del kept
    return {"seconds": seconds, "peak_mb": most, "held_mb": held}


def main() -> None:
    """Measures all steps, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entities", type=int, default=500_000)
    parser.add_argument("--triples", type=int, default=5_000_000)
    parser.add_argument("--K", type=int, default=8)
    parser.add_argument("--toy", action="store_true", help="a small graph, to try the script")
    parser.add_argument("--out", type=Path, default=Path("logs/benchmarks"))
    options = parser.parse_args()
    entities, count = (1000, 5000) if options.toy else (options.entities, options.triples)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        save_file(triples(entities, count), Path(folder) / "triples")
        for name, step in STEPS.items():
            task = {**step, "folder": folder, "K": options.K, "entities": entities}
            results[name] = run_alone("graph_shards.py", task)
    rows = [
        [name, f"{m['seconds']:.2f}", f"{m['peak_mb']:.0f}", f"{m['held_mb']:.0f}"]
        for name, m in results.items()
    ]
    title = f"{entities:,} entities, {count:,} triples, K={options.K}"
    table = markdown([title, "s", "MB at the peak", "MB held"], rows)
    print(table)
    facts = {"entities": entities, "triples": count, "K": options.K, "machine": machine()}
    write(options.out, "graph_shards", facts | {"steps": results}, table)


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1].startswith("{"):
        print(json.dumps(measure(json.loads(sys.argv[1]))))
    else:
        main()
