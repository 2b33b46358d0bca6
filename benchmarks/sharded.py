"""What training with sharded tables costs: measured here, predicted for larger machines.

``python benchmarks/sharded.py`` does all parts; name some to do only these:

constants  kernels of a step and exchanges, each by itself, in 1 process and in 2 at a time
steps      whole steps of KGCN in 1 and 2 processes, and what the model predicts for them
simulate   ids of a step on 2, 8 and 64 devices: distinct rows, bytes, the busiest device
scale      memory and time for 10^6, 10^8 and 10^9 entities on 1, 8 and 64 devices
memory     train.py with a table that exceeds the limit of one process
epoch      an epoch of MovieLens-20M's size in 1 and 2 processes

``steps`` and ``scale`` need ``constants``. It draws sharded.svg.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import machine, write
from costs.drawing import draw
from costs.machines import H100, H100_ETHERNET, Measured
from costs.model import Sizes, memory, sent, step
from costs.processes import run_ranks
from costs.runs import epochs, exceeding
from costs.tables import constants_table, runs_table, scaled_table, simulated_table, steps_table

PARTS = ("constants", "steps", "simulate", "scale", "memory", "epoch")
FULL = {
    "units": [2**10, 2**13, 2**16, 2**19], "tables": [2**17, 2**21],
    "powers": [3, 8, 12, 14, 16, 18, 20, 22, 24, 26], "budget": 0.2,
}  # fmt: skip
TOY = {"units": [2**10], "tables": [2**12], "powers": [3, 12], "budget": 0.01}
BATCH = 65_536


def constants(toy: bool) -> dict[str, Any]:
    """Results of ``costs/kernels.py`` by number of processes."""
    return {str(W): run_ranks("kernels.py", TOY if toy else FULL, W)[0] for W in (1, 2)}


def grid(toy: bool) -> list[Sizes]:
    """Steps that are measured."""
    sizes = [
        Sizes(E, E // 4, E // 4, d=d, batch=B, ranks=W)
        for W in (1, 2)
        for E in ((2000,) if toy else (10**5, 10**6, 4 * 10**6))
        for d in ((16,) if toy else (16, 32, 64))
        for B in ((64,) if toy else (1024, 8192, 65_536))
    ]
    return [s for s in sizes if (s.entities > 10**6) + (s.d > 32) + (s.batch > 10**4) <= 1]


def steps(toy: bool, results: dict[str, Any]) -> list[dict[str, Any]]:
    """Measured and predicted steps."""
    points: list[dict[str, Any]] = []
    for s in grid(toy):
        costs = Measured(results["constants"][str(s.ranks)])
        count = 2 if toy else 12 if s.batch < 2000 else 8 if s.batch < 10**4 else 4
        measured = run_ranks("steps.py", {"sizes": s._asdict(), "count": count}, s.ranks)[0]
        point = {"sizes": s._asdict(), "measured": measured, "predicted": step(s, costs)}
        points.append({**point, "expected_sent": sent(s)})
        print(json.dumps(points[-1]), flush=True)
    return points


def simulated(toy: bool) -> list[dict[str, Any]]:
    """Draws of steps on several devices."""
    from costs.simulate import simulate

    E, rows = (1000, 16) if toy else (10**6, 4096)
    return [
        {"ranks": W, **simulate(Sizes(E, E // 4, E // 4, batch=rows * W, ranks=W), exponent)}
        for W in ((2, 4) if toy else (2, 8, 64))
        for exponent in (0.0, 0.8, 1.0, 1.2)
    ]


def scaled() -> list[dict[str, Any]]:
    """Memory and time on GPUs, from their data sheets."""
    lines: list[dict[str, Any]] = []
    for E in (10**6, 10**8, 10**9):
        for W in (1, 8, 64):
            s = Sizes(E, E // 10, E // 10, d=64, K=8, batch=BATCH * W, ranks=W)
            networks = {"infiniband": H100, "ethernet": H100_ETHERNET}
            times = {name: step(s, gpu) for name, gpu in networks.items()}
            facts = {"entities": E, "ranks": W, "memory": memory(s), "sent": sent(s)}
            lines.append({**facts, **times})
    return lines


TABLES: dict[str, Callable[[Any], str]] = {
    "constants": constants_table, "steps": steps_table, "simulate": simulated_table,
    "scale": scaled_table, "memory": runs_table, "epoch": runs_table,
}  # fmt: skip


def main() -> None:
    """Reads the arguments, measures, prints, draws."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all")
    parser.add_argument("--toy", action="store_true", help="small sizes")
    parser.add_argument("--entities", type=int, default=2_000_000, help="of memory")
    parser.add_argument("--limit", type=float, help="of memory: bytes that a process may have")
    parser.add_argument("--scale", type=float, default=1.0, help="of epoch: share of the size")
    parser.add_argument("--out", type=Path, default=Path("logs/benchmarks"))
    args = parser.parse_args()
    file, place = args.out / "sharded.json", args.out.resolve() / "sharded"
    results: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    work: dict[str, Callable[[], Any]] = {
        "constants": lambda: constants(args.toy),
        "steps": lambda: steps(args.toy, results),
        "simulate": lambda: simulated(args.toy),
        "scale": scaled,
        "memory": lambda: exceeding(place, args.entities, args.toy, args.limit),
        "epoch": lambda: epochs(place, args.scale, args.toy),
    }
    for part in args.parts or PARTS:
        print(f"  {part}", flush=True)
        before = os.getloadavg()[0]
        results[part] = work[part]()
        results.setdefault("load", {})[part] = [before, os.getloadavg()[0]]
        print(TABLES[part](results[part]), flush=True)
    table = "\n\n".join(TABLES[part](results[part]) for part in PARTS if part in results)
    print(f"\n{table}")
    write(args.out, "sharded", {**results, "machine": machine()}, table)
    if "steps" in results:
        draw(results["steps"], args.out / "sharded.svg")


if __name__ == "__main__":
    main()
