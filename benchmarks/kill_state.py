"""What a workspace holds after a command: for comparison, and what is finished in it."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch

from kgrec.runs.stored_tables import PLAIN

TIMED = ("seconds", "memory", "speed/", "exchange_share")
STATES = ("state_dict", "optimizer_states", "epoch", "global_step", "raw_weights")
SEARCHED = "best.yaml"


def content(workspace: Path) -> dict[str, Any]:
    """What must be equal with and without kills, by file.

    Weights, the optimiser's state, metrics and curves without times, rows and users of the
    evaluation, samples, slices, raw ids, what inference needs, prepared data and the settings that
    a search found.
    """
    kept: dict[str, Any] = {}
    for path in sorted(p for p in workspace.rglob("*") if p.is_file()):
        name = str(path.relative_to(workspace))
        if path.suffix in (".ckpt", ".distcp"):
            kept[name] = _weights(path)
        elif path.name == "metrics.json":
            kept[name] = {k: v for k, v in json.loads(path.read_text()).items() if not _timed(k)}
        elif path.suffix in (".parquet", ".safetensors") or path.parent.name == "evaluation":
            kept[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.name == "dataset.json":
            kept[name] = json.loads(path.read_text())
        elif path.name == SEARCHED:
            lines = path.read_text().splitlines()
            kept[name] = [line for line in lines if not line.startswith("#")]
    for folder in {path.parent for path in workspace.rglob("curves")}:
        kept[f"curves of {folder.relative_to(workspace)}"] = _curves(folder)
    return kept


def leftovers(workspace: Path) -> list[str]:
    """Files and folders that are neither results nor locks."""
    names = (str(path.relative_to(workspace)) for path in workspace.rglob("*"))
    names = (name for name in names if not name.endswith(".ckpt/tables/.metadata"))
    return sorted(n for n in names if re.search(r"incoming|\.tmp|(^|/)\.[^/]*$|-journal$", n))


def _timed(name: str) -> bool:
    return any(word in name for word in TIMED)


def _weights(path: Path) -> dict[str, Any]:
    """Every tensor and number of the trained state, by a name."""
    checkpoint = torch.load(path, weights_only=True)
    leaves: dict[str, Any] = {}

    def walk(name: str, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            raw = value.contiguous().flatten().view(torch.uint8).numpy().tobytes()
            leaves[name] = (str(value.dtype), tuple(value.shape), hashlib.sha256(raw).hexdigest())
        elif isinstance(value, dict):
            for key, child in value.items():
                walk(f"{name}.{key}", child)
        elif isinstance(value, list | tuple):
            for number, child in enumerate(value):
                walk(f"{name}.{number}", child)
        else:
            leaves[name] = value

    if isinstance(checkpoint, torch.Tensor):  # rows of a sharded run
        walk("rows", checkpoint)
        return leaves
    for part in STATES:
        walk(part, checkpoint.get(part))
    return leaves


def _curves(folder: Path) -> dict[str, dict[str, str]]:
    """The last value of every metric in every epoch."""
    epochs: dict[str, dict[str, str]] = {}
    for path in sorted(folder.glob("curves/version_*/metrics.csv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                values = {k: v for k, v in row.items() if v and not _timed(k) and k != "step"}
                if epoch := values.pop("epoch", None):
                    epochs.setdefault(epoch, {}).update(values)
    return dict(sorted(epochs.items()))


class Done(NamedTuple):
    """What a run folder has already.

    Attributes:
        finished: time of the change of metrics.json; None: the run is unfinished.
        epochs: finished epochs, of the checkpoint from which the run resumes.
        log: characters of train.log.
    """

    finished: int | None
    epochs: int
    log: int


def done(workspace: Path) -> dict[Path, Done]:
    """What every run folder has already."""
    folders = {}
    for path in workspace.rglob("config.yaml"):
        folder = path.parent
        metrics, log = folder / "metrics.json", folder / "train.log"
        checkpoints = [folder / "checkpoints" / f"{name}.ckpt" for name in ("last", "best")]
        saved = [c / PLAIN if c.is_dir() else c for c in checkpoints if c.exists()]
        epochs = [torch.load(file, weights_only=True)["epoch"] + 1 for file in saved]
        folders[folder] = Done(
            metrics.stat().st_mtime_ns if metrics.is_file() else None,
            epochs[0] if epochs else 0,  # without the last checkpoint, the best one counts
            len(log.read_text()) if log.is_file() else 0,
        )
    return folders


def repeated(before: dict[Path, Done], folders: dict[Path, Done]) -> list[str]:
    """What an attempt did again although it was done, in words."""
    faults = []
    for folder, was in before.items():
        if was.finished is not None:
            if folders[folder].finished != was.finished:
                faults.append(f"{folder.name}: was finished, and has run again")
            continue
        log = folder / "train.log"
        added = log.read_text()[was.log :] if log.is_file() else ""
        epochs = [int(number) for number in re.findall(r"\] epoch +(\d+) ", added)]
        if epochs and epochs[0] != was.epochs + 1:
            faults.append(f"{folder.name}: epoch {epochs[0]} after {was.epochs} finished epochs")
    return faults


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Names of what differs, with the first different part."""
    faults = []
    for name in sorted(expected.keys() | found.keys()):
        one, other = expected.get(name), found.get(name)
        if one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            part = next(k for k in one.keys() | other.keys() if one.get(k) != other.get(k))
            faults.append(f"{name}: {part}: {one.get(part)} and {other.get(part)}")
        else:
            faults.append(f"{name}: {'missing' if other is None else 'differs'}")
    return faults
