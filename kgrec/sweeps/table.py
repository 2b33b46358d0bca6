"""The table of all jobs of a sweep: what each set, how it stands, what it found."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from rich.table import Table

from kgrec.reports.console import as_text
from kgrec.sweeps.folder import Job, State, SweepFolder, best_jobs, rows_of
from kgrec.sweeps.progress import counted, say

# Column to metric, those that any job has.
FIGURES = {
    "test AUC": "test/auc",
    "test F1": "test/f1_val_threshold",
    "test Recall@20": "test/recall@20",
    "popularity AUC": "popularity/test/auc",
    "epochs run": "train/epochs",
}
STAR = "★"
WIDTH = 180


def records(sweep: SweepFolder, states: Sequence[State]) -> list[dict[str, Any]]:
    """A row a job: its parameters, ``state``, figures, ``seconds``, ``error``, ``folder``."""
    top = best_jobs(states)
    found = []
    for state in states:
        row: dict[str, Any] = {key: state.job.varied.get(key) for key in sweep.keys}
        row |= {"state": state.state, sweep.monitor: state.validation}
        row["best"] = state.job.name in top
        row |= {column: state.metrics.get(metric) for column, metric in FIGURES.items()}
        row |= {"seconds": state.seconds, "error": state.status.get("error")}
        found.append(row | {"folder": state.job.name})
    return found


def write_table(sweep: SweepFolder, states: Sequence[State]) -> Path:
    """Keeps the table as sweep.csv in the sweep's folder, whole or not at all."""
    path = sweep.path / "sweep.csv"
    temporary = path.with_name(f".{path.name}.incoming")
    pl.DataFrame(records(sweep, states), infer_schema_length=None).write_csv(temporary)
    temporary.rename(path)
    return path


def print_tables(sweep: SweepFolder, states: Sequence[State]) -> None:
    """Prints all jobs, and means over seeds where seeds are varied beside something else."""
    rows = records(sweep, states)
    title = f"{sweep.name}: {counted(len(rows))}; {STAR} best {sweep.monitor}"
    say(as_text(_table(title, sweep.keys, sweep.monitor, rows), WIDTH))
    others = [key for key in sweep.keys if key != "seed"]
    if "seed" in sweep.keys and others:
        title = f"Means over seeds; {STAR} best mean {sweep.monitor}"
        say(
            as_text(
                _table(title, others, sweep.monitor, over_seeds(rows, others, sweep.monitor)), WIDTH
            )
        )


def over_seeds(
    rows: Sequence[dict[str, Any]], keys: Sequence[str], monitor: str
) -> list[dict[str, Any]]:
    """Means and standard deviations of the finished jobs that differ by seed alone."""
    grouped: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        grouped.setdefault(tuple(row[key] for key in keys), []).append(row)
    made = []
    for values, group in grouped.items():
        done = [row for row in group if row["state"] == "finished"]
        made.append(
            dict(zip(keys, values, strict=True))
            | {"state": f"{len(done)} of {len(group)}", "best": False}
            | {column: _summary(done, column) for column in (monitor, *FIGURES, "seconds")}
        )
    top: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in made:
        place = rows_of(Job("", (), {key: row[key] for key in keys}))
        if row[monitor] and (place not in top or row[monitor][0] > top[place][monitor][0]):
            top[place] = row
    for row in top.values():
        row["best"] = True
    return made


def _summary(rows: Sequence[dict[str, Any]], column: str) -> tuple[float, float] | None:
    values = [row[column] for row in rows if row[column] is not None]
    if not values:
        return None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else float("nan")


def _table(title: str, keys: Sequence[str], monitor: str, rows: Sequence[dict[str, Any]]) -> Table:
    shown = [c for c in (monitor, *FIGURES, "seconds") if any(r[c] is not None for r in rows)]
    table = Table(title=title, min_width=len(title) + 2)
    for key in keys:
        table.add_column(key.removeprefix("model."))
    table.add_column("state")
    for column in shown:
        table.add_column(column, justify="right")
    for row in rows:
        star = f"{STAR} " if row["best"] else ""
        cells = [_text(row[c], column=c) for c in shown]
        if cells and shown[0] == monitor:
            cells[0] = star + cells[0]
        values = ["" if row[key] is None else str(row[key]) for key in keys]
        table.add_row(*values, row["state"], *cells)
    return table


def _text(value: Any, column: str) -> str:
    if value is None:
        return ""
    digits = 0 if column in ("epochs run", "seconds") else 4
    if isinstance(value, tuple):
        mean, sd = value
        spread = "" if math.isnan(sd) else f" ± {sd:.{digits}f}"
        return f"{mean:.{digits}f}{spread}"
    return f"{value:.{digits}f}"
