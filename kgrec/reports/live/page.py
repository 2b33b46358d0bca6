"""The page of a sweep, during and after its jobs: one HTML file that fetches nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kgrec import __version__
from kgrec.evaluation.collapse import mark
from kgrec.evaluation.results import BASELINE
from kgrec.reports.live.charts import name
from kgrec.reports.live.detail import detail, duration
from kgrec.reports.live.plots import page_palette, settings_of, sweep_charts, training_curves
from kgrec.reports.live.search_plots import search_charts
from kgrec.reports.live.snapshot import Snapshot
from kgrec.reports.palette import metric_name
from kgrec.reports.results.paper_tables import sweep_table, sweeps
from kgrec.reports.results.published import TABLES
from kgrec.reports.results.systems import systems
from kgrec.reports.results.table import Table
from kgrec.reports.results.tables import by_place
from kgrec.reports.results.verdict import place_verdict
from kgrec.runs.status import DIVERGED
from kgrec.sweeps.progress import words
from kgrec.sweeps.state import FAILED, INTERRUPTED, PRUNED, RUNNING, SEEDS, State, best_jobs
from kgrec.sweeps.sweeper import sweep_word
from kgrec.sweeps.table import FIGURES, STAR, over_seeds, records

LONGEST_ERROR = 90


class Cell(NamedTuple):
    """One cell of a table that can be sorted.

    Attributes:
        text: text of the cell.
        order: number to sort by, if the text is not a number; else "".
        kind: "state", "best", "error", "text", or "" for a number.
    """

    text: str
    order: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Sortable:
    """A table that a click on a column's name sorts.

    Attributes:
        key: name under which the browser remembers the order.
        header: column names.
        texts: number of text columns on the left.
        rows: number of the job's detail, or None, and the cells.
    """

    key: str
    header: list[str]
    texts: int
    rows: list[tuple[int | None, list[Cell]]]


def render(snapshot: Snapshot, every: float | None) -> str:
    """The page of a sweep.

    Args:
        snapshot: state of the sweep.
        every: seconds after which the page reloads itself; None: the page is not kept up to date.
    """
    from plotly.offline import get_plotlyjs

    search, notes = search_charts(snapshot.sweep.path)
    palette = page_palette(snapshot)
    environment = Environment(
        loader=PackageLoader("kgrec.reports"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("sweep.html").render(
        sweep=snapshot.sweep, about=standing(snapshot, every), tiles=tiles(snapshot),
        best=best_words(snapshot), verdict=verdict(snapshot), jobs=job_table(snapshot),
        means=means_table(snapshot), paper=paper_tables(snapshot),
        charts=sweep_charts(snapshot, palette, bool(search)),
        curves=training_curves(snapshot, palette), search=search, notes=notes,
        details=[detail(snapshot, state) for state in snapshot.states],
        written=snapshot.now.isoformat(timespec="seconds"),
        reload=0 if every is None else round(1000 * max(every, 5.0)),
        plotly=Markup(get_plotlyjs()), version=__version__,
    )  # fmt: skip


def standing(snapshot: Snapshot, every: float | None) -> str:
    """Whether the page is live or final, in words."""
    num_unfinished, tried = sum(not state.ended for state in snapshot.states), len(snapshot.states)
    if snapshot.over and tried < snapshot.sweep.planned:
        return f"Ended: {tried} of {snapshot.sweep.planned} jobs were tried."
    if snapshot.over:
        return "Final: all jobs have ended."
    if not snapshot.live:
        words = f"Stopped: no process runs this sweep and {num_unfinished} jobs are left. "
        return words + f"The same command with {sweep_word(snapshot.sweep.path)} runs them."
    if every is None:
        return "Jobs were running when this page was written; it is not kept up to date."
    return "Live: the page is updated while jobs run."


def tiles(snapshot: Snapshot) -> list[tuple[str, str]]:
    """Number and name of each tile: jobs by state, and times."""
    counts, total = snapshot.counts, snapshot.sweep.planned
    shown = [(f"{counts['finished']} of {total}", "jobs finished")]
    if snapshot.live or counts[RUNNING]:
        shown.append((str(counts[RUNNING]), "running"))
    others = ("waiting", PRUNED, DIVERGED, FAILED, INTERRUPTED)
    shown += [(str(counts[state]), state) for state in others if counts[state]]
    if snapshot.worked is not None:
        shown.append((duration(snapshot.worked), "total time of jobs"))
    if snapshot.left is not None:
        shown.append((duration(snapshot.left), "left (estimate)"))
    return shown


def verdict(snapshot: Snapshot) -> list[str]:
    """Sentences on the best system of each data set and protocol, once the sweep is over."""
    if not snapshot.over:
        return []
    places = by_place(systems(snapshot.runs.values()))
    monitor = snapshot.sweep.monitor
    return [sentence for group in places.values() for sentence in place_verdict(group, monitor)]


def best_words(snapshot: Snapshot) -> str | None:
    """The best setting on validation so far, of each data set, with its test AUC.

    Where seeds are varied this is a mean over seeds: the split of a single seed may be easy.
    """
    keys = snapshot.sweep.keys
    if _seeds_varied(snapshot):
        others = settings_of(snapshot)
        means = over_seeds(_records(snapshot), others, snapshot.sweep.monitor)
        sentences = [_best_mean(snapshot, others, row) for row in means if row["best"]]
        return " — ".join(sentences) or None
    top = best_jobs(snapshot.states) if keys else set()
    sentences = [_best_of(state) for state in snapshot.states if state.job.name in top]
    return " — ".join(sentences) or None


def _seeds_varied(snapshot: Snapshot) -> bool:
    return any(key in SEEDS for key in snapshot.varied)


def _best_mean(snapshot: Snapshot, keys: Sequence[str], row: dict[str, Any]) -> str:
    monitor = snapshot.sweep.monitor
    words = " ".join(f"{key}={row[key]}" for key in keys)
    words += f", mean over seeds ({row['state']}): "
    words += f"{metric_name(monitor)} {_value(row[monitor], monitor, False).text}"
    shown = (("test AUC", "test AUC"), ("popularity", "popularity AUC"))
    metrics = [f"{label} {_value(row[c], c, False).text}" for label, c in shown if row[c]]
    return f"{words}; {', '.join(metrics)}" if metrics else words


def _best_of(state: State) -> str:
    title = f"{words(state.job)}: {metric_name(state.monitor)} {state.validation:.4f}"
    shown = (("test AUC", "test/auc"), ("popularity", "popularity/test/auc"))
    metrics = [f"{label} {state.metrics[key]:.4f}" for label, key in shown if key in state.metrics]
    return f"{title}; {', '.join(metrics)}" if metrics else title


def job_table(snapshot: Snapshot) -> Sortable:
    """One row for each job; a single seed is never marked as the best."""
    sweep, states = snapshot.sweep, snapshot.states
    rows = _records(snapshot)
    columns = _columns(sweep.monitor, rows)
    failed = any(row["error"] for row in rows)
    starred = not _seeds_varied(snapshot)
    header = [*map(name, sweep.keys), "state", *map(_title, columns)]
    header += ["error"] if failed else []
    table: list[tuple[int | None, list[Cell]]] = []
    for number, (row, state) in enumerate(zip(rows, states, strict=True)):
        cells = [_text(row[key]) for key in sweep.keys]
        cells.append(_state(state))
        best = starred and row["best"]
        cells += [_value(row[key], key, best and key == sweep.monitor) for key in columns]
        if failed:
            lines = str(row["error"] or "").strip().splitlines()
            line = lines[0] if lines else ""
            cut = line if len(line) <= LONGEST_ERROR else line[: LONGEST_ERROR - 1] + "…"
            cells.append(Cell(cut, kind="error"))
        table.append((number, cells))
    return Sortable("jobs", header, len(sweep.keys) + 1, table)


def means_table(snapshot: Snapshot) -> Sortable | None:
    """Means over seeds, where seeds are varied."""
    monitor = snapshot.sweep.monitor
    if not _seeds_varied(snapshot) or not snapshot.states:
        return None
    keys = settings_of(snapshot)
    rows = over_seeds(_records(snapshot), keys, monitor)
    columns = _columns(monitor, rows)
    table: list[tuple[int | None, list[Cell]]] = []
    for row in rows:
        cells = [_text(row[key]) for key in keys]
        cells.append(Cell(", ".join(filter(None, (row["state"], row["collapsed"]))), kind="text"))
        cells += [_value(row[key], key, row["best"] and key == monitor) for key in columns]
        table.append((None, cells))
    header = [*map(name, keys), "seeds done", *map(_title, columns)]
    return Sortable("means", header, len(keys) + 1, table)


def paper_tables(snapshot: Snapshot) -> list[Table]:
    """Tables 3 to 5 of the KGCN paper with values of the sweep, where K, H or d is varied."""
    group = systems(snapshot.runs.values())
    return [sweep_table(swept) for key in TABLES if (swept := sweeps(group, key))]


def _records(snapshot: Snapshot) -> list[dict[str, Any]]:
    """One row for each job; popularity's AUC is also set in jobs that train popularity."""
    rows = records(snapshot.sweep, snapshot.states)
    for row, state in zip(rows, snapshot.states, strict=True):
        if run := snapshot.runs.get(state.job.name):
            row["popularity AUC"] = run.figure("test/auc", BASELINE)
    return rows


def _columns(monitor: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    """The validation metric, and the metrics that any row has."""
    others = [c for c in (*FIGURES, "seconds") if any(row[c] is not None for row in rows)]
    return [monitor, *others]


def _title(column: str) -> str:
    if column == "seconds":
        return "time"
    return metric_name(column) if "/" in column else column


def _text(value: Any) -> Cell:
    return Cell("" if value is None else str(value), kind="text")


def _state(state: State) -> Cell:
    epoch, epochs = state.status.get("epoch", 0), state.status.get("epochs")
    text = ", ".join(filter(None, (state.state, mark(state.metrics))))
    if state.state in (RUNNING, PRUNED, DIVERGED, FAILED, INTERRUPTED) and epochs:
        text += f", epoch {epoch} of {epochs}"
    return Cell(text, kind="state")


def _value(value: float | Sequence[float] | None, column: str, is_best: bool) -> Cell:
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
