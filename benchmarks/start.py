"""From the command to a validation AUC: how long, and how much of it is imports.

``python benchmarks/start.py`` starts ``python train.py dataset=music settings=grid`` as a new
process on one core, waits for the epoch whose validation AUC is at least 0.80, and times the
imports alone beside it.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import CORE, HERE, machine, markdown, spread, write

EPOCH = re.compile(r"epoch\s+(\d+) .*val/auc (\d\.\d+)")


def until(command: list[str], wanted: float | None) -> tuple[float, int]:
    """Seconds until the process ends or says that the AUC is reached, and the epoch."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE.parent)
    assert process.stdout is not None
    for line in process.stdout:
        match = EPOCH.search(line)
        if wanted is not None and match and float(match[2]) >= wanted:
            process.kill()
            process.communicate()
            return time.perf_counter() - begin, int(match[1])
    if process.wait() != 0 or wanted is not None:
        raise SystemExit(f"{command}: ended with {process.returncode} before it was there")
    return time.perf_counter() - begin, 0


def main() -> None:
    """Reads the arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--toy", action="store_true", help="small synthetic data")
    parser.add_argument("--out", type=Path, default=Path("logs/benchmarks"))
    args = parser.parse_args()
    if CORE is not None:
        os.sched_setaffinity(0, {CORE})  # the processes inherit it
    data, wanted = (["dataset=synthetic"], 0.5) if args.toy else (["dataset=music"], 0.80)
    found: dict[str, list[float]] = {"import torch": [], "all imports": [], "the run": []}
    epochs = []
    for _ in range(args.rounds):
        for name, module in (("import torch", "torch"), ("all imports", "kgrec.pipeline.run")):
            found[name].append(until([sys.executable, "-c", f"import {module}"], None)[0])
        with tempfile.TemporaryDirectory() as folder:
            run = [sys.executable, "-u", "train.py", *data, "settings=grid", "logger=csv"]
            seconds, epoch = until([*run, f"hydra.run.dir={folder}"], wanted)
        found["the run"].append(seconds)
        epochs.append(epoch)
        print(f"  {seconds:.1f} s, epoch {epoch}", flush=True)
    total = statistics.median(found["the run"])
    rows = [
        [name, spread(seconds, 1), f"{100 * statistics.median(seconds) / total:.0f} %"]
        for name, seconds in found.items()
    ]
    table = markdown(["from a cold start, seconds", f"to AUC {wanted:.2f}", "share"], rows)
    print(f"\n{table}")
    write(args.out, "start", {"machine": machine(), "seconds": found, "epochs": epochs}, table)


if __name__ == "__main__":
    main()
