"""Tables for the terminal; the tables are logged, so that train.log has them too."""

from __future__ import annotations

import io
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from kgrec.data.dataset import PreparedData, RecDataset
from kgrec.errors import printable
from kgrec.evaluation.results import BASELINE

# Columns without a terminal, as in a pipe.
WIDTH = 80


def leave_the_console() -> None:
    """Sends log messages and warnings only to the log file: sweep jobs share one console."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if type(handler) is logging.StreamHandler:
            root.removeHandler(handler)
    logging.captureWarnings(True)


def terminal_width(piped: int = WIDTH) -> int:
    """Characters in a line of the terminal; ``piped`` without a terminal."""
    return shutil.get_terminal_size((piped, 24)).columns


def as_text(table: Table, width: int | None = None) -> str:
    """A table as plain lines.

    Args:
        table: table to print.
        width: largest number of characters in a line; None: as in the terminal.
    """
    out = io.StringIO()
    width = terminal_width() if width is None else width
    # Users choose names: what looks like markup is text.
    Console(file=out, width=width, color_system=None, markup=False, emoji=False).print(table)
    lines = printable(out.getvalue()).rstrip().splitlines()
    return "\n".join(line.rstrip() for line in lines)


def fitted(
    build: Callable[[Sequence[str]], Table], columns: Sequence[str],
    optional: Sequence[Sequence[str]], width: int | None = None,
) -> Table:  # fmt: skip
    """A table without the columns that do not fit into a line.

    Args:
        build: function from the columns to show to the table.
        columns: all columns.
        optional: groups of columns that may be left out, the least important group first.
        width: characters in a line; None: as in the terminal.
    """
    width = terminal_width() if width is None else width
    shown = list(columns)
    table = build(shown)
    for group in optional:
        if _minimum_width(table) <= width:
            break
        shown = [column for column in shown if column not in group]
        table = build(shown)
    return table


def _minimum_width(table: Table) -> int:
    """Width below which cells are cut; columns that wrap need their longest word."""
    for column in table.columns:
        if column.no_wrap:  # rich would count only its longest word
            texts = [str(column.header), *map(str, column.cells)]
            column.min_width = max(map(cell_len, "\n".join(texts).splitlines()))
    wide = Console(width=10_000)
    return Measurement.get(wide, wide.options, table).minimum


def dataset_tables(data: PreparedData, dataset: RecDataset) -> str:
    """Sizes of the data set, and the rows that the preparation dropped or merged.

    The table of rows is left out where nothing was dropped or merged. The whole account is in
    dataset.json.
    """
    title = f"{data.name}, protocol={dataset.protocol}"
    sizes = Table(title=title, min_width=min(len(title) + 4, 40))
    sizes.add_column("")
    sizes.add_column("here" if data.published_counts else "count", justify="right")
    if data.published_counts:
        sizes.add_column("KGCN paper, Table 1", justify="right")
    for name, count in data.counts().items():
        row = [name, f"{count:,}"]
        if data.published_counts:
            row.append(f"{data.published_counts[name]:,}")
        sizes.add_row(*row)
    text = as_text(sizes)
    if changes := dataset.account.changes:
        account = Table(title="Rows that were dropped or merged")
        account.add_column("step")
        account.add_column("")
        account.add_column("count", justify="right", no_wrap=True)
        for entry in changes:
            account.add_row(entry.step, entry.what, f"{entry.count:,}")
        text += "\n" + as_text(account)
    return text + "\nall counts: kgrec data describe, and the run folder"


def columns(k: int | None) -> dict[str, str]:
    """Columns of a results table to the metric of each; top-K at cut-off k, if there is one."""
    shown = {
        "AUC": "auc",
        "F1 (0.5)": "f1",
        "F1 (val)": "f1_val_threshold",
        "matched\nAUC": "matched/auc",
    }
    return shown if k is None else shown | {f"Recall@{k}": f"recall@{k}", f"NDCG@{k}": f"ndcg@{k}"}


def results_table(
    title: str, rows: Mapping[str, Mapping[str, float]], k: int | None, width: int | None = None
) -> str:
    """Test metrics of a model and its controls on the same rows.

    Args:
        title: title of the table.
        rows: metrics of each model, by name.
        k: cut-off of the ranking metrics; None: no ranking metrics.
        width: characters in a line; None: as in the terminal.
    """
    width = terminal_width() if width is None else width
    metrics = {c: m for c, m in columns(k).items() if any(f"test/{m}" in r for r in rows.values())}

    def build(shown: Sequence[str]) -> Table:
        notes = {
            "F1 (0.5)": "F1 (0.5): positive from probability 0.5.",
            "F1 (val)": "F1 (val): positive from the threshold best on validation.",
            "matched\nAUC": "matched AUC: negatives are as popular as positives.",
        }
        table = Table(
            title=title, min_width=min(len(title) + 2, width), caption_justify="left",
            caption="\n".join(notes[column] for column in shown if column in notes),
        )  # fmt: skip
        table.add_column("test", overflow="fold")
        for column in shown:
            table.add_column(column, justify="right", no_wrap=True)
        for name, values in rows.items():
            cells = (values.get(f"test/{metrics[column]}") for column in shown)
            table.add_row(name, *map(_value, cells))
        return table

    optional = [["F1 (0.5)"], [f"NDCG@{k}"], ["matched\nAUC"], ["F1 (val)"]]
    return as_text(fitted(build, list(metrics), optional, width), width)


def slices_table(
    records: Sequence[Mapping[str, Any]], k: int | None, width: int | None = None
) -> str:
    """The model and popularity by training positives of the user, and of the item.

    Args:
        records: what :func:`kgrec.evaluation.slices.slices` returned for each model, with its
            name under ``model``; the first one is the model that was trained.
        k: cut-off of the recall; None: no recall.
        width: characters in a line; None: as in the terminal.
    """
    models = list(dict.fromkeys(record["model"] for record in records))
    models = [name for name in models if name in (models[0], BASELINE)]
    by_slice = {(r["model"], r["by"], r["positives"]): r for r in records}
    own = [record for record in records if record["model"] == models[0]]
    metrics = {"AUC": "auc"} | ({} if k is None else {f"Recall@{k}": f"recall@{k}"})
    values = {
        f"{label}\n{model}": (model, metric)
        for label, metric in metrics.items()
        for model in models
    }

    def build(shown: Sequence[str]) -> Table:
        table = Table(title="Test metrics by number of training positives")
        table.add_column("training\npositives", no_wrap=True)
        for column in shown:
            table.add_column(column, justify="right", no_wrap=True)
        for record, following in zip(own, [*own[1:], record_end], strict=True):
            cells = []
            for column in shown:
                if column == "test rows":
                    cells.append(f"{record['rows']:,}")
                    continue
                model, metric = values[column]
                row = by_slice[model, record["by"], record["positives"]]
                cells.append(_value(row.get(metric)))
            table.add_row(
                f"{record['by']} {record['positives']}", *cells,
                end_section=following["by"] != record["by"],
            )  # fmt: skip
        return table

    record_end: Mapping[str, Any] = {"by": None}
    optional = [["test rows"], [] if k is None else [f"AUC\n{model}" for model in models]]
    return as_text(fitted(build, ["test rows", *values], optional, width), width)


def _value(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
