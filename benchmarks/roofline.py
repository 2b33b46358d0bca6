"""How far a training step is from what the machine can do.

``python benchmarks/roofline.py`` measures what one core copies, reads in random rows and multiplies
a second, counts the bytes and operations that a step of KGCN cannot do without, and puts the time
that they would take beside the time that the step takes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from common import CORE, compose, load_dataset, machine, markdown, write

STEPS = {
    "music": ("dataset=music",),
    "book, lazy_adam": ("dataset=book", "optimizer=lazy_adam"),
    "book, adam": ("dataset=book",),
    "book, H=3": ("dataset=book", "model.H=3"),
    "movie size": (
        "dataset=synthetic", "dataset.like=movie", "dataset.scale=1", "protocol=clean",
        "model.K=4", "model.d=32", "model.H=2", "batch_size=65536", "optimizer.lr=0.02",
    ),
}  # fmt: skip
TOY = {
    "toy": ("dataset=synthetic",),
    "toy, lazy_adam": ("dataset=synthetic", "optimizer=lazy_adam"),
}


class Rates(NamedTuple):
    """What the machine delivers to one core.

    Attributes:
        copy: bytes read and written per second, large arrays one after another.
        rows: bytes read per second in random rows of the step's table.
        gemm: floating-point operations per second of a large matrix product.
    """

    copy: float
    rows: float
    gemm: float


class Needed(NamedTuple):
    """What a step cannot do without.

    Attributes:
        streamed: bytes of vectors and parameters that are read or written in order.
        rows: bytes of rows that are read at random.
        operations: multiplications and additions.
    """

    streamed: float
    rows: float
    operations: float

    def seconds(self, rates: Rates) -> float:
        """At the machine's rates, nothing overlapping."""
        return self.streamed / rates.copy + self.rows / rates.rows + self.operations / rates.gemm


def best(work: Callable[[], Any], times: int = 7) -> float:
    """Seconds of the quickest of several."""
    work()
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        found.append(time.perf_counter() - begin)
    return min(found)


def measure_rates(num_rows: int, d: int, reads: int) -> Rates:
    """Rates for a table (num_rows, d) of which so many rows are read."""
    large, target = torch.rand(2**25), torch.empty(2**25)
    copy = 2 * 4 * len(large) / best(lambda: target.copy_(large))
    table, index = torch.rand(num_rows, d), torch.randint(num_rows, (max(reads // 4, 1), 4))
    rows = 4 * d * index.numel() / best(lambda: F.embedding_bag(index, table, mode="sum"))
    square = torch.rand(1536, 1536)
    return Rates(copy, rows, 2 * 1536**3 / best(lambda: square @ square))


def needed(model: Any, users: torch.Tensor, items: torch.Tensor, lazy: bool) -> Needed:
    """Counts of one step, forward and backward, from the receptive field that it reads.

    Every neighbour's row is read once forward and once backward for the weights' gradient, and
    its parent's gradient once for the table's; every aggregated node's vector is read, written
    and kept, its gradient likewise; Adam reads four numbers per parameter and writes three.
    """
    from kgrec.models.kgcn.neighborhood import Attention, receptive_field

    u = model.user_embedding(users)
    attention = Attention(model.user_relation_scores(u), False, u.dtype)
    entities = model.entity_embedding.num_embeddings
    field = receptive_field(model._view, attention, items, model.H, entities)
    sizes, d = [len(level) for level in field.nodes], model.d
    reads = field.leaves.rows.numel()
    reads += sum(hop.rows.numel() * (model.H - 1 - h) for h, hop in enumerate(field.hops))
    aggregated = sum(n * (model.H - h) for h, n in enumerate(sizes))
    rows = torch.cat([*field.nodes, field.leaves.rows.flatten()])
    tables = (
        len(rows.unique()) + len(users.unique())
        if lazy
        else entities + len(model.user_embedding.weight)
    )
    relations = len(model.relation_embedding)
    return Needed(
        streamed=4 * d * (6 * aggregated + 7 * tables),
        rows=4 * d * (3 * reads + 2 * sum(sizes) + 2 * len(users)),
        operations=6 * aggregated * d * d + 6 * reads * d + 6 * len(users) * relations * d,
    )


def step(overrides: tuple[str, ...], count: int) -> dict[str, Any]:
    """Measured and needed seconds of one configuration's step."""
    from hydra.utils import instantiate

    from kgrec.data.batches import Epochs
    from kgrec.data.training_rows import PointwiseRows
    from kgrec.training.module import RecommenderModule

    overrides = (*overrides, f"paths.data={Path('data').resolve()}")
    dataset, cfg = load_dataset(overrides), compose(overrides)
    torch.manual_seed(0)
    model = instantiate(cfg.model, dataset)
    module = RecommenderModule(model, instantiate(cfg.optimizer), 0, {})
    optimizer = module.configure_optimizers()
    seconds: list[float] = []
    while len(seconds) <= count:
        for [((batch,), _)] in Epochs([PointwiseRows(dataset.train)], cfg.batch_size, lambda: 0):
            begin = time.perf_counter()
            optimizer.zero_grad()
            model.loss(batch).backward()
            optimizer.step()
            seconds.append(time.perf_counter() - begin)
            if len(seconds) > count:
                break
    lazy = "lazy" in str(cfg.optimizer._target_)
    with torch.no_grad():
        wanted = needed(model, batch.users, batch.items, lazy)
    reads = int(wanted.rows / (4 * model.d * 3))
    rates = measure_rates(model.entity_embedding.num_embeddings, model.d, min(reads, 2**20))
    return {
        "seconds": statistics.median(seconds[1:]),
        "limit": wanted.seconds(rates),
        "needed": wanted._asdict(),
        "rates": rates._asdict(),
    }


def main() -> None:
    """Reads the arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toy", action="store_true", help="small synthetic data")
    parser.add_argument("--out", type=Path, default=Path("logs/benchmarks"))
    args = parser.parse_args()
    if CORE is not None:
        os.sched_setaffinity(0, {CORE})
    torch.set_num_threads(1)
    found = {}
    for name, overrides in (TOY if args.toy else STEPS).items():
        found[name] = step(overrides, 10 if "movie" in name or args.toy else 60)
        print(json.dumps({name: found[name]}), flush=True)
    rows = []
    for name, f in found.items():
        needs, rates = f["needed"], f["rates"]
        rows.append(
            [
                name,
                f"{needs['streamed'] / 1e6:.1f} at {rates['copy'] / 1e9:.0f} GB/s",
                f"{needs['rows'] / 1e6:.1f} at {rates['rows'] / 1e9:.0f} GB/s",
                f"{needs['operations'] / 1e6:.1f} at {rates['gemm'] / 1e9:.0f} G/s",
                f"{f['limit'] * 1e3:.2f}",
                f"{f['seconds'] * 1e3:.2f}",
                f"{f['seconds'] / f['limit']:.1f}",
            ]
        )
    header = ["step", "MB in order", "MB in random rows", "M operations"]
    table = markdown([*header, "limit, ms", "measured, ms", "measured / limit"], rows)
    print(f"\n{table}")
    write(args.out, "roofline", {"machine": machine(), "steps": found}, table)


if __name__ == "__main__":
    main()
