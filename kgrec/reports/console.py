"""Tables for people; they go through the log, so that train.log has them too."""

from __future__ import annotations

import io
import logging
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from kgrec.data.dataset import PreparedData, RecDataset


def leave_the_console() -> None:
    """Keeps what is logged, and warnings, to the log file: the console is for all jobs together."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if type(handler) is logging.StreamHandler:
            root.removeHandler(handler)
    logging.captureWarnings(True)


def as_text(table: Table, width: int | None = None) -> str:
    """A table as plain lines.

    Args:
        table: the table.
        width: largest number of characters in a line; None: the width of the terminal, or 80
            where there is none.
    """
    width = width or shutil.get_terminal_size((80, 24)).columns
    out = io.StringIO()
    # Names are chosen by users, so text that looks like markup is not markup.
    Console(file=out, width=width, color_system=None, markup=False, emoji=False).print(table)
    return out.getvalue().rstrip()


def dataset_tables(data: PreparedData, dataset: RecDataset) -> str:
    """Sizes of the data set, and the rows that the preparation dropped or merged.

    The table of rows is left out where nothing was dropped or merged. The whole account is in
    dataset.json.
    """
    title = f"{data.name}, protocol={dataset.protocol}"
    sizes = Table(title=title, min_width=min(len(title) + 4, 40))
    sizes.add_column("")
    sizes.add_column("here", justify="right")
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
    return text + "\nall counts: dataset.json, kgrec data describe"


def columns(k: int | None) -> dict[str, str]:
    """Columns of a results table, and the metric that each shows; top-K at cutoff k, if any."""
    found = {
        "AUC": "auc",
        "F1 at 0.5": "f1",
        "F1 at val threshold": "f1_val_threshold",
        "AUC, matched negatives": "matched/auc",
    }
    return found if k is None else found | {f"Recall@{k}": f"recall@{k}", f"NDCG@{k}": f"ndcg@{k}"}


def results_table(title: str, rows: Mapping[str, Mapping[str, float]], k: int | None) -> str:
    """Test figures of a model and its controls on the same rows."""
    shown = {c: m for c, m in columns(k).items() if any(f"test/{m}" in r for r in rows.values())}
    table = Table(title=title, min_width=len(title) + 2)
    table.add_column("test")
    for column in shown:
        table.add_column(column, justify="right")
    for name, figures in rows.items():
        cells = (figures.get(f"test/{metric}") for metric in shown.values())
        table.add_row(name, *map(_figure, cells))
    return as_text(table)


def slices_table(records: Sequence[Mapping[str, Any]], k: int | None) -> str:
    """The model and popularity by training positives of the user, and of the item.

    Args:
        records: what :func:`kgrec.evaluation.slices.slices` returned for each model, with its
            name under ``model``; the first one is the model that was trained.
        k: cutoff of the recall, or None.
    """
    models = list(dict.fromkeys(record["model"] for record in records))
    models = [name for name in models if name in (models[0], "popularity")]
    table = Table(title="By training positives")
    for column in ("", "test rows"):
        table.add_column(column, justify="right" if column else "left")
    metrics = {"AUC": "auc"} | ({} if k is None else {f"Recall@{k}": f"recall@{k}"})
    for label in metrics:
        for name in models:
            table.add_column(f"{label}\n{name}", justify="right")
    found = {(r["model"], r["by"], r["positives"]): r for r in records}
    last = None
    for record in records:
        if record["model"] != models[0]:
            continue
        if last not in (None, record["by"]):
            table.add_section()
        last = record["by"]
        cells = [
            _figure(found[name, record["by"], record["positives"]].get(metric))
            for metric in metrics.values()
            for name in models
        ]
        first = f"{record['by']}s with {record['positives']}"
        table.add_row(first, f"{record['rows']:,}", *cells)
    return as_text(table)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
