"""Tables for people; they go through the log, so that train.log has them too."""

from __future__ import annotations

import io
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from kgrec.data.dataset import PreparedData, RecDataset

# Column of a results table to the metric it shows.
COLUMNS = {
    "AUC": "auc",
    "F1 at 0.5": "f1",
    "F1 at val threshold": "f1_val_threshold",
    "AUC, matched negatives": "matched/auc",
}


def as_text(table: Table) -> str:
    """A table as plain lines."""
    out = io.StringIO()
    # Names are of the user's choosing: what looks like markup is none.
    Console(file=out, width=100, color_system=None, markup=False, emoji=False).print(table)
    return out.getvalue().rstrip()


def dataset_tables(data: PreparedData, dataset: RecDataset) -> str:
    """Sizes beside the paper's, and what became of every row."""
    sizes = Table(title=f"{data.name}, protocol={dataset.protocol}", min_width=40)
    sizes.add_column("")
    sizes.add_column("here", justify="right")
    if data.published_counts:
        sizes.add_column("KGCN paper, Table 1", justify="right")
    for name, count in data.counts().items():
        row = [name, f"{count:,}"]
        if data.published_counts:
            row.append(f"{data.published_counts[name]:,}")
        sizes.add_row(*row)
    account = Table(title="What became of the rows")
    for column in ("step", "", "count"):
        account.add_column(column, justify="right" if column == "count" else "left")
    for entry in dataset.account.entries:
        account.add_row(entry.step, entry.what, f"{entry.count:,}")
    return as_text(sizes) + "\n" + as_text(account)


def results_table(title: str, rows: Mapping[str, Mapping[str, float]]) -> str:
    """Test figures of a model and its controls on the same rows."""
    columns = {c: m for c, m in COLUMNS.items() if any(f"test/{m}" in row for row in rows.values())}
    table = Table(title=title, min_width=len(title) + 2)
    table.add_column("test")
    for column in columns:
        table.add_column(column, justify="right")
    for name, figures in rows.items():
        cells = (figures.get(f"test/{metric}") for metric in columns.values())
        table.add_row(name, *("" if value is None else f"{value:.4f}" for value in cells))
    return as_text(table)
