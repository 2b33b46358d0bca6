"""How time and memory of the preparation grow: MovieLens-20M's size once, three and ten times.

``python benchmarks/preparation.py`` draws the synthetic twin of MovieLens-20M and writes its
ratings once, 3 and 10 times, each time with users of new ids; the items and the graph stay. Then it
prepares each data set from the raw files to the cache, in a process of its own on one core. It
draws preparation.svg. With ``--stages prepare paper`` it also splits each data set, which takes
memory in proportion to its size. The raw files are removed at the end; ten times the size
needs 20 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from common import label_sizes, machine, markdown, peak_gigabytes, run_alone, write

STAGES = {"prepare": "raw files to ready", "paper": "split, protocol=paper"}
RATINGS = "ratings.csv"
SAMPLED_EVERY = 0.02  # seconds


class Memory(threading.Thread):
    """The most anonymous memory of this process: without pages of mapped files.

    ``peak`` has bytes; 0 on systems without /proc.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0

    def run(self) -> None:
        """Reads the memory until the process ends."""
        status = Path("/proc/self/status")
        while status.exists():
            lines = status.read_text(encoding="ascii").splitlines()
            now = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
            self.peak = max(self.peak, now * 1024)
            time.sleep(SAMPLED_EVERY)


def stage(task: dict[str, Any]) -> dict[str, Any]:
    """One stage in this process; seconds of the stage alone, memory of the whole process."""
    import torch

    from kgrec.data import protocols
    from kgrec.data.loading import load
    from kgrec.data.splits import RandomSplit

    memory = Memory()
    memory.start()
    torch.set_num_threads(1)
    begin, used = time.perf_counter(), time.process_time()
    data = load(
        "movie", [], task["raw"], "", min_rating=4, unlinked="drop", seed=0, cache=task["cache"]
    )
    if task["stage"] == "paper":
        begin, used = time.perf_counter(), time.process_time()
        protocols.paper(data, RandomSplit())
    return {
        "seconds": time.perf_counter() - begin,
        "processor_seconds": time.process_time() - used,
        "gigabytes": peak_gigabytes(),
        "anonymous_gigabytes": memory.peak / 1e9,
        "ratings": next(e.count for e in data.account.entries if e.what == "interactions read"),
        "counts": data.counts(),
    }


def write_raw(twin: Path, folder: Path, times: int) -> None:
    """Writes the files of a twin with ``times`` times its users and ratings."""
    import polars as pl

    from kgrec.data.field_files import field_pieces
    from kgrec.data.formats.writing import append_rows

    folder.mkdir(parents=True)
    for name in ("item_index2entity_id.txt", "kg.txt"):
        shutil.copy(twin / name, folder / name)
    with (twin / RATINGS).open(encoding="utf-8") as file:
        header = file.readline()
    (folder / RATINGS).write_text(header, encoding="utf-8")
    columns = {"user": pl.String, "item": pl.String, "rating": pl.Float64, "timestamp": pl.Float64}
    num_users = 0
    for number in range(times):
        highest = 0
        for piece in field_pieces(twin / RATINGS, columns, [], ",", header=True):
            users = piece["user"].cast(pl.Int64)
            highest = max(highest, int(users.max()))  # type: ignore[arg-type]
            users = (users + number * num_users).cast(pl.String)
            append_rows(folder / RATINGS, piece.with_columns(users), ",")
        num_users = highest


def draw(measured: dict[int, dict[str, Any]], path: Path) -> None:
    """Time and memory against the number of ratings, both axes logarithmic."""
    from matplotlib.figure import Figure

    runs = [run["prepare"] for run in measured.values()]
    sizes = [run["ratings"] for run in runs]
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    time_axes.loglog(sizes, [run["seconds"] for run in runs], "o-", label="by the clock")
    seconds = [run["processor_seconds"] for run in runs]
    time_axes.loglog(sizes, seconds, "s--", label="of the processor")
    time_axes.set_title("seconds, raw files to ready")
    memory_axes.loglog(sizes, [run["gigabytes"] for run in runs], "o-", label="all of the process")
    anonymous = [run["anonymous_gigabytes"] for run in runs]
    memory_axes.loglog(sizes, anonymous, "s--", label="without pages of mapped files")
    memory_axes.axhline(8, color="tab:red", linewidth=1)
    memory_axes.text(sizes[0], 8, "8 GB", color="tab:red", va="bottom")
    memory_axes.set_title("peak memory, GB")
    memory_axes.set_ylim(0.1, 12)
    for axes, place in ((time_axes, "upper left"), (memory_axes, "lower left")):
        label_sizes(axes, "ratings", sizes)
        axes.legend(fontsize="small", loc=place)
    figure.savefig(path)


def table(measured: dict[int, dict[str, Any]]) -> str:
    """The table of docs/scale.md."""
    rows = []
    for times, run in measured.items():
        own = run["prepare"]
        rows.append([
            f"×{times}",
            f"{own['ratings']:,}",
            f"{own['counts']['users']:,}",
            f"{own['counts']['positives']:,}",
            f"{own['seconds']:.0f} ({own['processor_seconds']:.0f})",
            f"{own['gigabytes']:.2f}",
            f"{own['anonymous_gigabytes']:.2f}",
            *([f"{run['paper']['gigabytes']:.2f}"] if "paper" in run else []),
        ])  # fmt: skip
    header = ["", "ratings", "users", "positives", "seconds (of the processor)", "peak GB",
              "of it not mapped", "split, peak GB"]  # fmt: skip
    return markdown(header[: len(rows[0])], rows)


def main() -> None:
    """Reads the arguments, runs, prints, draws."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, nargs="+", default=[1, 3, 10])
    parser.add_argument("--scale", type=float, default=1.0, help="size of the twin (default 1)")
    parser.add_argument("--twin", type=Path, help="folder with the twin; default: it is drawn")
    parser.add_argument("--stages", nargs="+", default=["prepare"], choices=STAGES)
    parser.add_argument("--out", type=Path, default=Path("logs/benchmarks"))
    args = parser.parse_args()
    out = args.out.resolve()
    place = out / "preparation"
    twin = args.twin
    if twin is None:
        from kgrec.data.synthetic.twins import is_twin, write_twin

        twin = place / "twin"
        if not is_twin(twin, "movie", args.scale, "released_raw", 0):
            write_twin(twin, "movie", args.scale, "released_raw", seed=0)
    measured: dict[int, dict[str, Any]] = {}
    for times in args.times:
        raw, cache = place / f"raw-{times}", place / f"cache-{times}"
        for folder in (raw, cache):
            shutil.rmtree(folder, ignore_errors=True)
        try:
            write_raw(twin, raw, times)
            measured[times] = {}
            for name in args.stages:
                print(f"  {times} times: {STAGES[name]}", flush=True)
                task = {"stage": name, "raw": str(raw), "cache": str(cache)}
                measured[times][name] = run_alone("preparation.py", task)
                print(f"    {measured[times][name]}", flush=True)
        finally:
            for folder in (raw, cache):
                shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(place, ignore_errors=True)
    text = table(measured)
    print(f"\n{text}")
    write(out, "preparation", {"machine": machine(), "times": measured}, text)
    draw(measured, out / "preparation.svg")


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        warnings.filterwarnings("ignore")
        logging.disable(logging.INFO)
        print(json.dumps(stage(json.loads(sys.argv[1]))))
    else:
        main()
