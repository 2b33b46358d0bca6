"""The tables of a sweep: one row per job, and means over seeds."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from kgrec.config.location import applied_hparams, missing_settings
from kgrec.errors import DataError
from kgrec.evaluation.collapse import mark
from kgrec.files import write_csv
from kgrec.reports.console import as_text, terminal_width
from kgrec.reports.foreign_text import for_spreadsheets
from kgrec.runs.folder import RunFolder
from kgrec.sweeps.folder import SweepFolder
from kgrec.sweeps.progress import PIPED_WIDTH, counted, say, words
from kgrec.sweeps.state import FINISHED, SEEDS, State, best_jobs

# Column to metric.
FIGURES = {
    "test AUC": "test/auc",
    "test F1": "test/f1_val_threshold",
    "test Recall@20": "test/recall@20",
    "popularity AUC": "popularity/test/auc",
    "epochs run": "train/epochs",
}
# Columns that a narrow terminal leaves out, in this order.
LEAST_IMPORTANT = (
    "epochs run", "test F1", "seconds", "test Recall@20", "popularity AUC", "test AUC",
)  # fmt: skip
STAR = "★"


def records(sweep: SweepFolder, states: Sequence[State]) -> list[dict[str, Any]]:
    """One row per job.

    A row has the varied values, ``state``, ``collapsed`` (signs that the model has collapsed, in
    words), metrics, ``best`` (whether the job has the best
    setting), ``seconds``, ``error``, ``settings`` (a line on the applied settings file) and
    ``folder``.
    """
    best = best_jobs(states)
    rows = []
    for state in states:
        row: dict[str, Any] = {key: state.job.varied.get(key) for key in sweep.keys}
        row |= {"state": state.state, sweep.monitor: state.validation}
        row["collapsed"] = mark(state.metrics) or None
        row["best"] = state.job.name in best
        row |= {column: state.metrics.get(metric) for column, metric in FIGURES.items()}
        row |= {"seconds": state.seconds, "error": state.status.get("error")}
        row |= {"settings": _settings(state), "folder": state.job.name}
        rows.append(row)
    return rows


def _settings(state: State) -> str | None:
    """A line on the settings file of a job; None before the job has started."""
    try:
        choices = RunFolder(state.folder).environment()["choices"]
        return missing_settings(choices) or applied_hparams(choices)
    except (DataError, KeyError):
        return None


def write_table(sweep: SweepFolder, states: Sequence[State]) -> Path:
    """Writes the table of jobs as sweep.csv into the sweep's folder, whole or not at all."""
    path = sweep.path / "sweep.csv"
    table = pl.DataFrame(records(sweep, states), infer_schema_length=None)
    write_csv(path, for_spreadsheets(table))
    return path


def print_tables(sweep: SweepFolder, states: Sequence[State]) -> None:
    """Prints all jobs, means over seeds if seeds are varied, and the settings files of the jobs."""
    width, rows = terminal_width(PIPED_WIDTH), records(sweep, states)
    others = [key for key in sweep.keys if key not in SEEDS]
    over_seeds_too = len(others) < len(sweep.keys)
    title = f"{sweep.name}: {counted(len(rows))}"
    if all(row["state"] == FINISHED for row in rows):
        title += ", all finished"
    if not over_seeds_too and any(row["best"] for row in rows):
        title += f"; {STAR} best {sweep.monitor}"
    # A single seed is never the best: its split may be an easy one.
    plain = [row | {"best": row["best"] and not over_seeds_too} for row in rows]
    say(fitted(title, sweep.keys, sweep.monitor, plain, width))
    if over_seeds_too:
        means = over_seeds(rows, others, sweep.monitor)
        title = "Mean ± sd over seeds"
        if any(row["best"] for row in means):
            title += f"; {STAR} best {sweep.monitor}"
        say(fitted(title, others, sweep.monitor, means, width, state="seeds"))
    for text in settings_summary(rows, states):
        say(text)


def settings_summary(rows: Sequence[Mapping[str, Any]], states: Sequence[State]) -> list[str]:
    """One line per settings file that jobs applied; names the jobs where the files differ."""
    jobs: dict[str, list[str]] = {}
    for row, state in zip(rows, states, strict=True):
        if row["settings"] is not None:
            jobs.setdefault(row["settings"], []).append(words(state.job))
    if len(jobs) == 1:
        return list(jobs)
    return [f"{text} — {counted(len(names))}: {', '.join(names)}" for text, names in jobs.items()]


def over_seeds(
    rows: Sequence[dict[str, Any]], keys: Sequence[str], monitor: str
) -> list[dict[str, Any]]:
    """Means and standard deviations of the finished jobs that differ only by seed.

    Args:
        rows: rows of :func:`records`.
        keys: varied keys without the seeds.
        monitor: validation metric by which jobs are compared.
    """
    grouped: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        grouped.setdefault(tuple(row[key] for key in keys), []).append(row)
    means = []
    for values, group in grouped.items():
        finished = [row for row in group if row["state"] == FINISHED]
        means.append(
            dict(zip(keys, values, strict=True))
            | {"state": f"{len(finished)} of {len(group)}"}
            | {"collapsed": _collapsed(finished)}
            | {"best": any(row["best"] for row in group)}
            | {column: _summary(finished, column) for column in (monitor, *FIGURES, "seconds")}
        )
    return means


def _collapsed(rows: Sequence[dict[str, Any]]) -> str | None:
    count = sum(row["collapsed"] is not None for row in rows)
    return f"{count} collapsed" if count else None


def _summary(rows: Sequence[dict[str, Any]], column: str) -> tuple[float, float] | None:
    values = [row[column] for row in rows if row[column] is not None]
    if not values:
        return None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else float("nan")


def fitted(
    title: str,
    keys: Sequence[str],
    monitor: str,
    rows: Sequence[Mapping[str, Any]],
    width: int,
    state: str = "state",
) -> str:
    """A table as text, without its least important columns where the width is too small.

    Args:
        title: title of the table.
        keys: varied keys; each is a column.
        monitor: validation metric by which jobs are compared.
        rows: rows of :func:`records` or :func:`over_seeds`.
        width: characters that a line may have.
        state: heading of the states, which are left out if all jobs are finished
            and none has collapsed.
    """
    columns = [c for c in (monitor, *FIGURES, "seconds") if any(r[c] is not None for r in rows)]
    for column in (None, *LEAST_IMPORTANT):
        columns = [c for c in columns if c != column]
        table = _table(title, keys, columns, monitor, rows, state)
        if Console(width=1000).measure(table).maximum <= width:
            break
    return as_text(table, width)


def _table(
    title: str,
    keys: Sequence[str],
    columns: Sequence[str],
    monitor: str,
    rows: Sequence[Mapping[str, Any]],
    state: str,
) -> Table:
    table = Table(title=title)
    ends = Counter(key.rpartition(".")[2] for key in keys)
    for key in keys:
        end = key.rpartition(".")[2]
        table.add_column(end if ends[end] == 1 else key, overflow="fold")
    with_state = any(row["state"] != FINISHED or row["collapsed"] for row in rows)
    if with_state:
        table.add_column(state)
    for column in columns:
        table.add_column(column.replace(" ", "\n"), justify="right", no_wrap=True)
    for row in rows:
        cells = [_text(row[c], c, row["best"] and c == monitor) for c in columns]
        values = ["" if row[key] is None else str(row[key]) for key in keys]
        table.add_row(*values, *([_state(row)] if with_state else []), *cells)
    return table


def _state(row: Mapping[str, Any]) -> str:
    return ", ".join(filter(None, (row["state"], row["collapsed"])))


def _text(value: Any, column: str, best: bool) -> str:
    if value is None:
        return ""
    digits = 0 if column in ("epochs run", "seconds") else 4
    mean, sd = value if isinstance(value, tuple) else (value, math.nan)
    spread = "" if math.isnan(sd) else f" ± {sd:.{digits}f}"
    return f"{STAR if best else ''}{' ' if best else ''}{mean:.{digits}f}{spread}"
