"""Every model: seconds before training, an epoch, and of ranking all items for all users.

``python benchmarks/models.py`` takes the published settings on music, or a model's own where there
are none, each task in a process of its own on one core. ``--data book`` takes another data set.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from common import HERE, machine, markdown, run_alone, spread, write

TASKS = "kgrec_tasks.py"
EPOCHS = 4  # the first, which warms up, is left out


def main() -> None:
    """Reads the arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", help="default: every file of conf/model")
    parser.add_argument("--data", default="music")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--toy", action="store_true", help="small synthetic data")
    parser.add_argument("--out", type=Path, default=Path("logs/benchmarks"))
    args = parser.parse_args()
    data = "synthetic" if args.toy else args.data
    models = args.models or sorted(p.stem for p in (HERE.parent / "conf/model").glob("*.yaml"))
    measured: dict[str, dict[str, list[float]]] = {}
    rows = []
    for model in models:
        found: dict[str, list[float]] = {"precompute": [], "epoch": [], "rank": [], "gb": []}
        for _ in range(args.rounds):
            task = {"overrides": [f"dataset={data}", f"model={model}"], "count": EPOCHS}
            trained = run_alone(TASKS, {**task, "task": "epochs"})
            found["precompute"] += trained["precompute"]
            found["epoch"] += trained["seconds"][1:]
            ranked = run_alone(TASKS, {**task, "task": "rank", "count": 10**9})
            found["rank"] += ranked["seconds"]
            found["gb"].append(max(trained["peak_gb"], ranked["peak_gb"]))
        measured[model] = found
        rows.append([model, *(spread(v) if v else "" for v in found.values())])
        print("  ".join(rows[-1]), flush=True)
    table = markdown([data, "before training, s", "an epoch, s", "ranking, s", "peak GB"], rows)
    print(f"\n{table}")
    write(args.out, "models", {"machine": machine(), "data": data, "models": measured}, table)


if __name__ == "__main__":
    main()
