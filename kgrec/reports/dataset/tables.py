"""What ``kgrec data`` shows on a terminal."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from kgrec.data.formats import FORMATS

if TYPE_CHECKING:
    from kgrec.data.cache import Entry
    from kgrec.data.describe import Description

_SHOWN = 20  # relations

# Facts and distributions of a description, for people; others go by their own names.
LABELS = {
    "density": "density: share of the user-item pairs that are positive",
    "rated_pairs": "pairs that are rated, positive or not",
    "items_without_positive": "items without a positive",
    "items_without_entity": "items of the files without an entity",
    "duplicate_links": "links that stand twice",
    "duplicate_positives": "positives that stand twice",
    "duplicate_triples": "triples that stand twice",
    "items_without_neighbor": "items without a neighbour",
    "orphan_entities": "entities in no triple (orphans)",
    "components": "connected components",
    "components_of_several": "of these, with more than one entity",
    "largest_component_entities": "entities in the largest component",
    "largest_component_entity_share": "share of the entities in it",
    "largest_component_item_share": "share of the items in it",
    "item_to_item_triple_share": "share of the triples between two items",
    "given_negatives": "negatives given in the files",
    "given_train_positives": "positives given for training",
    "given_val_positives": "positives given for validation",
    "given_test_positives": "positives given for the test",
    "first_positive_at": "first positive",
    "last_positive_at": "last positive",
    "test_users": "users with a test positive",
    "test_users_without_training": "of these, without a training positive",
    "test_users_without_training_share": "that is a share of",
    "test_items": "items with a test positive",
    "test_items_without_training_share": "share of these without a training positive",
    "positives_per_user": "positives of a user",
    "positives_per_item": "positives of an item",
    "neighbors_per_item": "neighbours of an item",
    "neighbors_per_entity": "neighbours of an entity",
}


def label(name: str) -> str:
    """A fact's name for people."""
    return LABELS.get(name, name)


def figure(name: str, value: float) -> str:
    """A figure as people write it: a share in per cent, a time as a date, a count with commas."""
    if name.endswith("_share") or name == "density":
        return share(value)
    if name.endswith("_at"):
        return moment(value, "%Y-%m-%d %H:%M")
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def share(value: float) -> str:
    """A share in per cent; what is not quite none, or not quite all, does not read like it."""
    if 0.999 < value < 1:
        return f"{min(100 * value, 99.99):.2f} %"
    return f"{100 * value:.3g} %" if 0 < value < 0.01 else f"{100 * value:.1f} %"


def moment(seconds: float, style: str) -> str:
    """A time as a date; a number that cannot be one as it is."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime(style)
    except (ValueError, OverflowError, OSError):
        return f"{seconds:,.0f}"


def _console() -> Console:
    """Prints text as it is; where no terminal sets a width, tables take what they need."""
    width = None if sys.stdout.isatty() else 1000
    return Console(width=width, markup=False, emoji=False, highlight=False)


def _table(title: str, *columns: str, text: int = 1) -> Table:
    """A table whose first ``text`` columns hold text, the others numbers."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for number, column in enumerate(columns):
        # In a narrow terminal long names go on in the next line.
        table.add_column(
            column, justify="left" if number < text else "right", overflow="fold",
            no_wrap=number >= text,
        )  # fmt: skip
    return table


def show(found: Description) -> None:
    """Prints a description."""
    console = _console()
    paper = ["KGCN paper, Table 1"] if found.published else []
    sizes = _table(found.name, "", "here", *paper)
    for name, count in found.counts.items():
        sizes.add_row(name, f"{count:,}", *([f"{found.published[name]:,}"] if paper else []))
    sizes.add_section()
    for name, value in found.facts.items():
        sizes.add_row(label(name), figure(name, value))
    console.print(sizes)
    spread = _table(
        "Distributions", "", "min", "p25", "median", "p75", "p99", "max", "mean", "Gini",
        "top 1 % have", "top 10 % have",
    )  # fmt: skip
    for name, d in found.distributions.items():
        counts = (d.min, d.p25, d.median, d.p75, d.p99, d.max)
        spread.add_row(
            label(name), *(f"{c:,.0f}" for c in counts), f"{d.mean:,.2f}", f"{d.gini:.2f}",
            f"{100 * d.top1:.0f} %", f"{100 * d.top10:.0f} %",
        )  # fmt: skip
    console.print(spread)
    table = _table("Relations", "", "triples", "heads", "tails", "items", "share of the items")
    for row in found.relations.head(_SHOWN).iter_rows(named=True):
        numbers = (f"{row[c]:,}" for c in ("triples", "heads", "tails", "items"))
        table.add_row(row["relation"], *numbers, share(row["coverage"]))
    console.print(table)
    if found.relations.height > _SHOWN:
        console.print(f"  … and {found.relations.height - _SHOWN:,} more (all of them in --json)\n")
    account = _table("What became of the rows", "", "", "count", text=2)
    for line in found.account:
        account.add_row(line["step"], line["what"], f"{line['count']:,}")
    console.print(account)


def show_cache(folder: Path, entries: list[Entry]) -> None:
    """Prints what a cache holds."""
    console = _console()
    if not entries:
        console.print(f"{folder}: nothing is kept there")
        return
    table = _table(
        str(folder), "data set", "folder", "made", "", "MB", "users", "items", "positives",
        "entities", "triples", text=4,
    )  # fmt: skip
    for entry in entries:
        sizes = (
            entry.counts.get(c) for c in ("users", "items", "positives", "entities", "triples")
        )
        table.add_row(
            entry.name, entry.path.name, entry.created.replace("T", " ")[:16], _state(entry),
            f"{entry.size / 1e6:,.1f}", *("" if n is None else f"{n:,}" for n in sizes),
        )  # fmt: skip
    console.print(table)


def _state(entry: Entry) -> str:
    if entry.usable:
        return "usable"
    return "of an older layout or code" if entry.name else "not whole"


def show_cleared(folder: Path, removed: list[Entry], kept: list[Entry]) -> None:
    """Prints what was removed from a cache, and what was not."""
    console = _console()
    for entry in removed:
        console.print(f"removed {entry.path}, {entry.size / 1e6:,.1f} MB")
    for entry in kept:
        console.print(f"kept {entry.path}: a process is at work on it")
    if not removed and not kept:
        console.print(f"{folder}: found nothing to remove")


def show_formats() -> None:
    """Prints the formats that are read and written, and their files."""
    console = _console()
    for known in FORMATS.values():
        console.print(f"{known.name}\n  {known.description}")
        console.print(f"  and, where they are there: {known.extras}\n")
