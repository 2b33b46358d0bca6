"""One run on the page of a sweep: settings, metrics, recommendations, errors."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kgrec.reports.live.snapshot import Snapshot
from kgrec.reports.palette import metric_name
from kgrec.reports.results.table import Table
from kgrec.runs.finished import Run
from kgrec.runs.folder import RunFolder
from kgrec.sweeps.progress import words
from kgrec.sweeps.state import DONE, State

# Column to metric, for the model and every control.
FIGURES = {
    "test AUC": "test/auc", "test F1": "test/f1_val_threshold", "test Recall@20": "test/recall@20",
    "test NDCG@20": "test/ndcg@20",
}  # fmt: skip
LOG_LINES = 14
LOG_BYTES = 16_384
MOST_USERS = 10
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Sample:
    """Items that one user liked and items recommended to the user.

    Attributes:
        user: raw id of the user.
        liked: names of items.
        recommended: name of each item and whether it is a test positive.
    """

    user: str
    liked: list[str]
    recommended: list[tuple[str, bool]]


@dataclass(frozen=True)
class Detail:
    """One run.

    Attributes:
        title: varied settings.
        state: state of the job.
        facts: name and text.
        command: command that repeats the run.
        figures: metrics of the model and its controls; None before the end.
        samples: recommendations to some users.
        error: error of a failed job.
        log: last lines of train.log.
    """

    title: str
    state: str
    facts: dict[str, str]
    command: str
    figures: Table | None
    samples: list[Sample]
    error: str | None
    log: str = field(repr=False)


def detail(snapshot: Snapshot, state: State) -> Detail:
    """Reads the files of a job, finished or not."""
    run = snapshot.runs.get(state.job.name)
    return Detail(
        title=words(state.job),
        state=state.state,
        facts=_facts(state, run),
        command=shlex.join(["python", "train.py", *state.job.overrides])
        if run is None
        else run.command,
        figures=None if run is None else _figures(run, snapshot.sweep.monitor),
        samples=samples(RunFolder(state.folder).samples_file),
        error=state.status.get("error"),
        log=tail(RunFolder(state.folder).log_file),
    )


def _facts(state: State, run: Run | None) -> dict[str, str]:
    status = state.status
    facts: dict[str, Any] = {"settings": "  ".join(state.job.overrides)}
    if run is not None:
        facts |= {"data": run.data, "protocol": run.protocol, "model": run.model}
        epochs, best = run.figure("train/epochs"), run.figure("train/best_epoch")
        if epochs is not None:
            chosen = "" if best is None else f", best: {best:.0f}"
            facts["epochs"] = f"{epochs:.0f}{chosen}"
    elif "epochs" in status:
        facts["epochs"] = f"{status.get('epoch', 0)} of {status['epochs']}"
    facts |= {"device": status.get("device"), "time": duration(state.seconds)}
    if run is not None and (memory := run.figure("train/peak_memory_gb")) is not None:
        facts["peak memory"] = f"{memory:.2f} GB"
    process = status.get("process") or {}
    if state.state not in DONE and process:
        facts["process"] = f"{process.get('pid')} on {process.get('host')}"
    facts |= {"started": run and run.environment.get("started"), "folder": str(state.folder)}
    return {key: str(value) for key, value in facts.items() if value}


def _figures(run: Run, monitor: str) -> Table:
    columns = {metric_name(monitor): monitor, **FIGURES}
    shown = {c: m for c, m in columns.items() if run.figure(m) is not None}
    table = Table("Metrics", "", ["", *shown])
    for who in (run.model, *run.controls()):
        figures = (run.figure(metric, who) for metric in shown.values())
        cells = ["" if value is None else f"{value:.4f}" for value in figures]
        table.add(who, cells, "" if who == run.model else "control")
    return table


def samples(path: Path) -> list[Sample]:
    """Recommendations to some users; none while the file is missing or incomplete."""
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        return [
            Sample(
                str(record["user"]),
                [str(name) for name in record["liked"]],
                [
                    (str(r.get("name") or r["item"]), bool(r.get("hit")))
                    for r in record["recommended"]
                ],
            )
            for record in records[:MOST_USERS]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def tail(path: Path, lines: int = LOG_LINES) -> str:
    """The last lines of a log, without colours; empty without a log."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(_COLOURS.sub("", text).splitlines()[-lines:])


def duration(seconds: float | None) -> str:
    """``8 s``, ``2 min 05 s``, ``1 h 02 min``."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
