"""Runs of ``train.py`` in one process and in two: a limit of memory, and a large epoch."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from costs.data import write_tree
from costs.training import GB, train

ONE, TWO = "trainer=default", "trainer=sharded"
COMMON = ("trainer.accelerator=cpu", "logger=csv", "epochs=1", "settings=none")


def exceeding(
    place: Path, entities: int, toy: bool, limit: float | None = None
) -> list[dict[str, Any]]:
    """One process and two without a limit, then with the same limit for each.

    Args:
        place: folder for data and runs.
        entities: number of entities.
        toy: whether the graph is small.
        limit: bytes; None: half of the way between the needs of one process and of each of two.
            The needs of one process are taken from ``trainer=default``.
    """
    entities, d = (3000, 8) if toy else (entities, 128)
    root = place / f"tree-{entities}"
    write_tree(root, entities)
    settings = [
        *COMMON, "dataset=custom", f"dataset.root={root}", "dataset.name=tree",
        f"paths.data={place / 'data'}", f"model.d={d}", "model.K=4", "model.H=2",
        "batch_size=4096", "ranking=none", "monitor=val/auc", "optimizer=lazy_adam",
    ]  # fmt: skip
    results = [
        _run("1 process", place, [*settings, ONE]),
        _run("2 processes", place, [*settings, TWO]),
        _run("1 process, trainer=sharded", place, [*settings, TWO, "trainer.devices=1"]),
    ]
    limit = (
        GB * (results[0]["limited"][0] + max(results[1]["limited"])) / 2 if limit is None else limit
    )
    for name, trainer in (("1 process", ONE), ("2 processes", TWO)):
        limited = f"{name}, at most {limit / GB:.2f} GB each"
        results.append(_run(limited, place, [*settings, trainer], limit))
    return results


def epochs(place: Path, scale: float, toy: bool) -> list[dict[str, Any]]:
    """An epoch of MovieLens-20M's size with the settings of the KGCN paper.

    Args:
        place: folder for data and runs.
        scale: share of the size.
        toy: whether the small synthetic data are taken.
    """
    settings = [*COMMON, "dataset=synthetic", "ranking=none", "monitor=val/auc"]
    if not toy:
        settings += [
            "dataset.like=movie", f"dataset.scale={scale:g}", f"paths.data={place / 'data'}",
            "model.K=4", "model.d=32", "model.H=2", "batch_size=65536", "optimizer.lr=0.02",
        ]  # fmt: skip
    lazy = [*settings, "optimizer=lazy_adam"]
    runs: list[tuple[str, Sequence[str], bool]] = [
        ("1 process", [*lazy, ONE], False),
        ("2 processes, trainer=sharded", [*lazy, TWO], False),
        ("2 processes, trainer=ddp", [*lazy, "trainer=ddp"], False),
        ("1 process, memory kept", [*lazy, ONE], True),
        ("2 processes, trainer=sharded, memory kept", [*lazy, TWO], True),
    ]
    return [_run(name, place, words, None, keep) for name, words, keep in runs[: 3 if toy else 5]]


def _run(
    name: str, place: Path, words: Sequence[str], limit: float | None = None, keep: bool = False
) -> dict[str, Any]:
    print(f"  {name}", flush=True)
    folder = place / "runs" / re.sub(r"\W+", "-", name)
    result = train([*words, f"paths.logs={place}"], folder, limit, keep)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # of several GB
    return {"name": name, **result}
