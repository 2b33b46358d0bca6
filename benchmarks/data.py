"""How long data of every size take, and how much memory.

``python benchmarks/data.py`` draws synthetic twins of MovieLens-20M (1/16, 1/4 and 1 of its size)
and measures each step in a process of its own: raw files to ready, loading again, splitting, an
epoch of negatives. Then ten processes prepare one data set at once.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STEPS = ("generate", "prepare", "load", "paper", "clean", "negatives")


def measure(step: str, raw: Path, cache: Path, scale: float) -> dict[str, float]:
    """One step, in this process; seconds of the step itself and peak memory of the process."""
    import resource

    import torch

    from kgrec.data import protocols
    from kgrec.data.draws import generator
    from kgrec.data.loading import load
    from kgrec.data.negatives import NegativeSampler
    from kgrec.data.splits import RandomSplit
    from kgrec.data.synthetic import twins

    if step == "negatives":
        torch.set_num_threads(1)
    settings: dict[str, Any] = {"min_rating": 4, "unlinked": "drop", "seed": 0}
    data = None
    if step not in ("generate", "prepare", "load"):
        data = load("movie", [], str(raw), "", cache=str(cache), **settings)
    start = time.perf_counter()
    if step == "generate":
        twins.write_twin(raw, "movie", scale, "released_raw", seed=0)
    elif data is None:
        data = load("movie", [], str(raw), "", cache=str(cache), **settings)
    elif step == "negatives":
        sampler = NegativeSampler(data.positives)
        sampler.draw(data.positives.users, generator(0, "negatives", 0))
    else:
        getattr(protocols, step)(data, RandomSplit())
    seconds = time.perf_counter() - start
    found = {
        "seconds": seconds,
        "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }
    if data is not None:
        found |= {name: float(count) for name, count in data.counts().items()}
    return found


def in_a_process(*arguments: str) -> dict[str, float]:
    """Runs this file with ``--step`` and returns what it measured."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments], check=True, capture_output=True, text=True
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def together(raw: Path, cache: Path, processes: int) -> str:
    """Several processes that prepare the same data at once."""
    command = [
        sys.executable,
        __file__,
        "--step",
        "prepare",
        "--raw",
        str(raw),
        "--cache",
        str(cache),
    ]
    start = time.perf_counter()
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    outputs = [process.communicate() for process in running]
    failed = sum(process.returncode != 0 for process in running)
    worked = sum("preparing movie" in err for _, err in outputs)
    waited = sum("another process prepares" in err for _, err in outputs)
    same = len({json.loads(out.splitlines()[-1])["positives"] for out, _ in outputs}) == 1
    return (
        f"{processes} processes at once: {worked} prepared, {waited} waited, {failed} failed, all "
        f"got {'the same data' if same else 'DIFFERENT DATA'}; "
        f"{time.perf_counter() - start:.1f} s with the start of every Python"
    )


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scales", type=float, nargs="*", default=[1 / 16, 1 / 4, 1])
    parser.add_argument("--processes", type=int, default=10)
    parser.add_argument("--folder", type=Path, help="keep the files there (2 GB)")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--raw", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--scale", type=float, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        import logging

        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
        print(json.dumps(measure(arguments.step, arguments.raw, arguments.cache, arguments.scale)))
        return
    from rich.console import Console
    from rich.table import Table

    folder = arguments.folder or Path(tempfile.mkdtemp())
    table = Table(title=f"MovieLens-20M twins, {os.cpu_count()} cores, {platform.machine()}")
    for column in ("scale", "positives", "triples", "raw MB", "step", "seconds", "peak GB"):
        table.add_column(column, justify="right")
    names = {
        "generate": "draw the raw files", "prepare": "raw files to ready", "load": "load again",
        "paper": "split, protocol=paper", "clean": "split, protocol=clean",
        "negatives": "an epoch of negatives, 1 core",
    }  # fmt: skip
    console = Console(width=110)
    for scale in arguments.scales:
        raw, cache = folder / f"movie-{scale:g}", folder / f"cache-{scale:g}"
        shutil.rmtree(raw, ignore_errors=True)
        shutil.rmtree(cache, ignore_errors=True)
        place = ["--raw", str(raw), "--cache", str(cache), "--scale", str(scale)]
        steps = {step: in_a_process("--step", step, *place) for step in STEPS}
        size = sum(path.stat().st_size for path in raw.iterdir()) / 1e6
        ready = steps["prepare"]
        for number, (step, found) in enumerate(steps.items()):
            facts = [f"{scale:g}", f"{ready['positives']:,.0f}", f"{ready['triples']:,.0f}",
                     f"{size:,.0f}"]  # fmt: skip
            table.add_row(
                *(facts if number == 0 else [""] * 4), names[step], f"{found['seconds']:.2f}",
                f"{found['gigabytes']:.2f}",
            )  # fmt: skip
        table.add_section()
        console.print(f"scale {scale:g} done")
    console.print(table)
    scale = arguments.scales[0]
    console.print(
        together(folder / f"movie-{scale:g}", folder / "cache-together", arguments.processes)
    )
    if arguments.folder is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
