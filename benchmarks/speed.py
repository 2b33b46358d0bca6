"""kgrec beside its peers: training epochs, steps, ranking, memory, time from a cold start.

``python benchmarks/speed.py --peer`` installs RecBole 1.2.1 in a virtual environment of its own
and times it, the usual port (port.py) and kgrec on the same data, each task in a process of its
own on the same core, in turns; ratios are taken within a turn. ``--toy`` is a quick look that
needs neither data nor peer.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from common import compose, machine, markdown, run_alone, spread, write

RECBOLE = ("recbole==1.2.1", "numpy<2", "pandas<2.3", "scipy<1.14")  # it needs older ones than we

MUSIC = ("dataset=music",)
BOOK = ("dataset=book",)
MOVIE = ("dataset=synthetic", "dataset.like=movie", "dataset.scale=1", "protocol=clean")
MOVIE_MODEL = ("model.K=4", "model.d=32", "model.H=2", "batch_size=65536")
TOY = ("dataset=synthetic", "model.d=8")


class Race(NamedTuple):
    """One line of the table.

    Attributes:
        name: what is done.
        task: epochs, steps, rank or evaluate.
        overrides: of kgrec.
        amount: epochs, steps, or users.
        peers: who else runs: recbole, port.
        peer_amount: epochs, steps or users of a peer, whose time is scaled up to ``amount``.
    """

    name: str
    task: str
    overrides: tuple[str, ...]
    amount: int
    peers: tuple[str, ...]
    peer_amount: int


RACES = (
    Race("music, an epoch", "epochs", MUSIC, 8, ("recbole",), 2),
    Race("book, an epoch, adam", "epochs", BOOK, 3, ("recbole",), 1),
    Race("book, an epoch, lazy_adam", "epochs", (*BOOK, "optimizer=lazy_adam"), 4, ("recbole",), 1),
    Race("book, a step, H=3", "steps", (*BOOK, "model.H=3"), 20, ("recbole", "port"), 10),
    Race("movie size, a step", "steps", (*MOVIE, *MOVIE_MODEL), 5, ("port",), 2),
    Race("movie size, a step, K=64", "steps", (*MOVIE, *MOVIE_MODEL, "model.K=64"), 2, (), 0),
    Race("music, all items for all users", "rank", MUSIC, 1872, ("recbole", "port"), 400),
    Race("music, all items for all users, H=2", "rank", (*MUSIC, "model.H=2"), 1872, ("port",), 40),
    Race("music, full evaluation, every metric", "evaluate", MUSIC, 1872, (), 0),
)
TOY_RACES = (
    Race("toy, an epoch", "epochs", TOY, 2, (), 0),
    Race("toy, an epoch, lazy_adam", "epochs", (*TOY, "optimizer=lazy_adam"), 2, (), 0),
    Race("toy, a step, H=2", "steps", (*TOY, "model.H=2"), 3, ("port",), 3),
    Race("toy, all items for all users, H=2", "rank", (*TOY, "model.H=2"), 300, ("port",), 30),
    Race("toy, full evaluation", "evaluate", TOY, 300, (), 0),
)


def install_recbole(folder: Path) -> str:
    """The Python of a virtual environment with RecBole; PyTorch is the version that we use."""
    import torch

    python = folder / "bin" / "python"
    if not python.exists():
        print(f"installing {RECBOLE[0]} in {folder}")
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        ours = f"torch=={torch.__version__.partition('+')[0]}"
        for packages in ([ours], [*RECBOLE]):
            subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True)
    return str(python)


def write_atomic_files(overrides: tuple[str, ...], folder: Path) -> None:
    """Positives and graph as RecBole reads them, with our numbers for ids, in folder/data."""
    from hydra.utils import instantiate

    data = instantiate(compose(overrides).dataset)
    pairs, graph = data.positives, data.graph
    files = {
        "inter": {"user_id:token": pairs.users, "item_id:token": pairs.items},
        "kg": {
            "head_id:token": graph.heads,
            "relation_id:token": graph.relations,
            "tail_id:token": graph.tails,
        },
        "link": {
            "item_id:token": range(pairs.num_items),
            "entity_id:token": range(pairs.num_items),
        },
    }
    (folder / "data").mkdir(parents=True)
    for kind, columns in files.items():
        table = pl.DataFrame({name: list(map(int, column)) for name, column in columns.items()})
        table.write_csv(folder / "data" / f"data.{kind}", separator="\t")


def run_race(race: Race, rounds: int, recbole: str | None, scratch: Path) -> dict[str, Any]:
    """Everybody in turns; seconds of each turn, scaled to the race's amount."""
    cfg = compose(race.overrides)
    place = (*race.overrides, f"paths.data={Path('data').resolve()}")
    task: dict[str, Any] = {"task": race.task, "overrides": list(place), "count": race.amount}
    peer: dict[str, Any] = task | {"count": race.peer_amount}
    if recbole is not None and "recbole" in race.peers:
        folder = scratch / cfg.dataset.name if "name" in cfg.dataset else scratch / "synthetic"
        if not folder.exists():
            write_atomic_files(place, folder)
        model = cfg.model
        sizes = {"K": model.K, "H": model.H, "d": model.d, "batch": cfg.batch_size}
        peer |= sizes | {"folder": str(folder), "name": "data"}
    found: dict[str, list[float]] = {"kgrec": []}
    peaks: list[float] = []
    for turn in range(rounds):
        print(f"  {race.name}: turn {turn + 1} of {rounds}", flush=True)
        ours = run_alone("kgrec_tasks.py", task)
        found["kgrec"].append(_seconds(race, ours))
        peaks.append(ours["peak_gb"])
        for name in race.peers:
            if name == "port":
                theirs = run_alone("kgrec_tasks.py", peer | {"port": True})
            elif recbole is not None:
                theirs = run_alone("recbole_tasks.py", peer, recbole)
            else:
                continue
            found.setdefault(name, []).append(_seconds(race, theirs))
    return {"race": race.name, "seconds": found, "peak_gb": max(peaks)}


def _seconds(race: Race, found: dict[str, Any]) -> float:
    if race.task in ("rank", "evaluate"):  # as if for all users
        return float(found["seconds"][0]) * race.amount / found["users"]
    return statistics.median(found["seconds"])


def main() -> None:
    """Reads the arguments, runs, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", action="store_true", help="install RecBole, and time it")
    parser.add_argument("--toy", action="store_true", help="small synthetic data, port only")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="races whose name has this in it")
    parser.add_argument("--out", type=Path, default=Path("logs/benchmarks"))
    args = parser.parse_args()
    recbole = install_recbole(args.out.resolve() / "recbole") if args.peer else None
    races = [r for r in (TOY_RACES if args.toy else RACES) if not args.only or args.only in r.name]
    rows, results = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for race in races:
            result = run_race(race, args.rounds, recbole, Path(scratch))
            results.append(result)
            ours = result["seconds"].pop("kgrec")
            unit, times = ("ms", 1e3) if race.task == "steps" else ("s", 1.0)
            row = [race.name, f"{spread([times * x for x in ours])} {unit}"]
            row.append(f"{result['peak_gb']:.2f}")
            for name in ("recbole", "port"):
                theirs = result["seconds"].get(name)
                if theirs is None:
                    row += ["", ""]
                    continue
                ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
                row += [f"{spread([times * x for x in theirs])} {unit}", spread(ratios, 1)]
            result["seconds"]["kgrec"] = ours
            rows.append(row)
    header = ["", "kgrec", "its peak GB", "RecBole 1.2.1", "ratio", "usual port", "ratio"]
    table = markdown(header, rows)
    print(f"\n{table}")
    write(args.out, "speed", {"machine": machine(), "races": results}, table)


if __name__ == "__main__":
    main()
