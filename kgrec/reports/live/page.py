"""A page on one sweep, while its jobs run and after: one HTML file that fetches nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kgrec import __version__
from kgrec.reports.live.charts import metric_name, name
from kgrec.reports.live.detail import detail, duration
from kgrec.reports.live.plots import sweep_charts, training_curves
from kgrec.reports.live.search_plots import search_charts
from kgrec.reports.live.snapshot import Snapshot
from kgrec.reports.results.published import TABLES
from kgrec.reports.results.systems import systems
from kgrec.reports.results.tables import Table, sweep_table, sweeps
from kgrec.sweeps.progress import words
from kgrec.sweeps.state import FAILED, INTERRUPTED, RUNNING, State, best_jobs
from kgrec.sweeps.sweeper import sweep_word
from kgrec.sweeps.table import FIGURES, STAR, over_seeds, records

LONGEST_ERROR = 90


class Cell(NamedTuple):
    """One cell of a table that can be sorted.

    Attributes:
        text: what it says.
        order: a number to sort by, where the text is none; "" for nothing, which comes last.
        kind: "state", "best", "error", "text", or "" for a figure.
    """

    text: str
    order: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Sortable:
    """A table that is sorted by a click on a column's name.

    Attributes:
        key: its own, under which the browser remembers how it was sorted.
        header: column names.
        texts: how many columns at the left are text.
        rows: cells, with the number of the job's detail in front, or None.
    """

    key: str
    header: list[str]
    texts: int
    rows: list[tuple[int | None, list[Cell]]]


def render(snapshot: Snapshot, every: float | None) -> str:
    """The page.

    Args:
        snapshot: what it shows.
        every: seconds after which it loads itself anew; None: nobody keeps it up to date.
    """
    from plotly.offline import get_plotlyjs

    search, notes = search_charts(snapshot.sweep.path)
    curves = training_curves(snapshot)
    environment = Environment(
        loader=PackageLoader("kgrec.reports"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("sweep.html").render(
        sweep=snapshot.sweep, about=standing(snapshot, every), tiles=tiles(snapshot),
        best=best_words(snapshot), jobs=job_table(snapshot), means=means_table(snapshot),
        paper=paper_tables(snapshot), charts=sweep_charts(snapshot, bool(search)),
        curves=curves, search=search, notes=notes,
        details=[detail(snapshot, state) for state in snapshot.states],
        written=snapshot.now.isoformat(timespec="seconds"),
        reload=0 if every is None else round(1000 * max(every, 5.0)),
        plotly=Markup(get_plotlyjs()), version=__version__,
    )  # fmt: skip


def standing(snapshot: Snapshot, every: float | None) -> str:
    """Whether the page is live or final, in words."""
    left, tried = sum(not state.ended for state in snapshot.states), len(snapshot.states)
    if snapshot.over and tried < snapshot.sweep.planned:
        return f"Ended: {tried} of {snapshot.sweep.planned} jobs were tried."
    if snapshot.over:
        return "Final: all jobs have ended."
    if not snapshot.live:
        told = f"Stopped: no process is at work on it; {left} jobs are left, and the same command "
        return told + f"with {sweep_word(snapshot.sweep.path)} goes on with them."
    if every is None:
        return "Jobs were at work when this was written; it is not kept up to date."
    return "Live: written anew while jobs run."


def tiles(snapshot: Snapshot) -> list[tuple[str, str]]:
    """Figure and name: jobs by state, and times."""
    counts, total = snapshot.counts, snapshot.sweep.planned
    found = [(f"{counts['finished']} of {total}", "jobs finished")]
    if snapshot.live or counts[RUNNING]:
        found.append((str(counts[RUNNING]), "running"))
    found += [(str(counts[s]), s) for s in ("waiting", "failed", "interrupted") if counts[s]]
    if snapshot.worked is not None:
        found.append((duration(snapshot.worked), "jobs took together"))
    if snapshot.left is not None:
        found.append((f"{duration(snapshot.left)}", "left, if jobs go on like this"))
    return found


def best_words(snapshot: Snapshot) -> str | None:
    """The best on validation, of each data set, and what it found on the test.

    That is a job, or where seeds are varied a mean: a single seed's split may be an easy one.
    """
    others = _beside_seeds(snapshot)
    if others:
        means = over_seeds(_records(snapshot), others, snapshot.sweep.monitor)
        told = [_best_mean(snapshot, others, row) for row in means if row["best"]]
        return " — ".join(told) or None
    top = best_jobs(snapshot.states)
    told = [_best_of(state) for state in snapshot.states if state.job.name in top]
    return " — ".join(told) or None


def _beside_seeds(snapshot: Snapshot) -> list[str]:
    """What is varied beside seeds; nothing where seeds are not."""
    keys = snapshot.sweep.keys
    return [key for key in keys if key != "seed"] if "seed" in keys else []


def _best_mean(snapshot: Snapshot, keys: Sequence[str], row: dict[str, Any]) -> str:
    monitor = snapshot.sweep.monitor
    told = " ".join(f"{key}={row[key]}" for key in keys)
    told += f", mean over seeds ({row['state']}): "
    told += f"{metric_name(monitor)} {_figure(row[monitor], monitor, False).text}"
    shown = (("test AUC", "test AUC"), ("popularity's", "popularity AUC"))
    rest = [f"{label} {_figure(row[c], c, False).text}" for label, c in shown if row[c]]
    return f"{told}; {', '.join(rest)}" if rest else told


def _best_of(state: State) -> str:
    told = f"{words(state.job)}: {metric_name(state.monitor)} {state.validation:.4f}"
    shown = (("test AUC", "test/auc"), ("popularity's", "popularity/test/auc"))
    rest = [f"{label} {state.metrics[key]:.4f}" for label, key in shown if key in state.metrics]
    return f"{told}; {', '.join(rest)}" if rest else told


def job_table(snapshot: Snapshot) -> Sortable:
    """A row a job."""
    sweep, states = snapshot.sweep, snapshot.states
    rows = _records(snapshot)
    columns = _columns(sweep.monitor, rows)
    failed = any(row["error"] for row in rows)
    header = [*map(name, sweep.keys), "state", *map(_title, columns)]
    header += ["error"] if failed else []
    made: list[tuple[int | None, list[Cell]]] = []
    for number, (row, state) in enumerate(zip(rows, states, strict=True)):
        cells = [_value(row[key]) for key in sweep.keys]
        cells.append(_state(state))
        cells += [_figure(row[key], key, row["best"] and key == sweep.monitor) for key in columns]
        if failed:
            lines = str(row["error"] or "").strip().splitlines()
            line = lines[0] if lines else ""
            cut = line if len(line) <= LONGEST_ERROR else line[: LONGEST_ERROR - 1] + "…"
            cells.append(Cell(cut, kind="error"))
        made.append((number, cells))
    return Sortable("jobs", header, len(sweep.keys) + 1, made)


def means_table(snapshot: Snapshot) -> Sortable | None:
    """Means over seeds, where seeds are varied beside something else."""
    others, monitor = _beside_seeds(snapshot), snapshot.sweep.monitor
    if not others or not snapshot.states:
        return None
    rows = over_seeds(_records(snapshot), others, monitor)
    columns = _columns(monitor, rows)
    made: list[tuple[int | None, list[Cell]]] = []
    for row in rows:
        cells = [_value(row[key]) for key in others]
        cells.append(Cell(row["state"], kind="text"))
        cells += [_figure(row[key], key, row["best"] and key == monitor) for key in columns]
        made.append((None, cells))
    header = [*map(name, others), "seeds done", *map(_title, columns)]
    return Sortable("means", header, len(others) + 1, made)


def paper_tables(snapshot: Snapshot) -> list[Table]:
    """The KGCN paper's Tables 3 to 5 beside ours, where K, H or d is varied."""
    found = systems(snapshot.runs.values())
    return [sweep_table(swept) for key in TABLES if (swept := sweeps(found, key))]


def _records(snapshot: Snapshot) -> list[dict[str, Any]]:
    """A row a job; jobs of popularity have its figure too."""
    rows = records(snapshot.sweep, snapshot.states)
    for row, state in zip(rows, snapshot.states, strict=True):
        if run := snapshot.runs.get(state.job.name):
            row["popularity AUC"] = run.figure("test/auc", "popularity")
    return rows


def _columns(monitor: str, rows: Iterable[dict[str, Any]]) -> list[str]:
    """Figures that any row has; the validation figure in any case."""
    listed = list(rows)
    rest = [c for c in (*FIGURES, "seconds") if any(row[c] is not None for row in listed)]
    return [monitor, *rest]


def _title(column: str) -> str:
    if column == "seconds":
        return "time"
    return metric_name(column) if "/" in column else column


def _value(value: Any) -> Cell:
    return Cell("" if value is None else str(value), kind="text")


def _state(state: State) -> Cell:
    epoch, epochs = state.status.get("epoch", 0), state.status.get("epochs")
    text = state.state
    if state.state in (RUNNING, FAILED, INTERRUPTED) and epochs:
        text += f", epoch {epoch} of {epochs}"
    return Cell(text, kind="state")


def _figure(value: float | Sequence[float] | None, column: str, is_best: bool) -> Cell:
    if value is None:
        return Cell("")
    mean, spread = value if isinstance(value, (tuple, list)) else (float(value), math.nan)  # type: ignore[arg-type]
    whole = column in ("epochs run", "seconds")
    text = f"{mean:.0f}" if whole else f"{mean:.4f}"
    if column == "seconds":
        text = duration(mean)
    elif not math.isnan(spread) and not whole:
        text += f" ± {spread:.4f}"
    return Cell(f"{STAR} {text}" if is_best else text, repr(float(mean)), "best" if is_best else "")
