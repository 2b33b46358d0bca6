"""Output of ``kgrec data`` on a terminal."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from kgrec.data.advice import advice
from kgrec.data.formats import FORMATS
from kgrec.errors import printable

if TYPE_CHECKING:
    from kgrec.data.cache import Entry
    from kgrec.data.describe import Description

_SHOWN = 20  # relations, pairs of relations, groups of ids

# Labels of the facts and distributions of a description.
LABELS = {
    "density": "density: positives as a share of all user-item pairs",
    "rated_pairs": "rated pairs, positive or not",
    "items_without_positive": "items without a positive",
    "items_without_entity": "items in the files without an entity",
    "duplicate_links": "duplicate links",
    "duplicate_positives": "duplicate positives",
    "duplicate_triples": "duplicate triples",
    "items_without_neighbor": "items without a neighbour",
    "orphan_entities": "entities in no triple (orphans)",
    "components": "connected components",
    "components_of_several": "connected components of more than one entity",
    "largest_component_entities": "entities in the largest component",
    "largest_component_entity_share": "share of the entities in the largest component",
    "largest_component_item_share": "share of the items in the largest component",
    "item_to_item_triple_share": "share of the triples that link two items",
    "given_negatives": "negatives given in the files",
    "given_train_positives": "positives in the given training part",
    "given_val_positives": "positives in the given validation part",
    "given_test_positives": "positives in the given test part",
    "first_positive_at": "first positive",
    "last_positive_at": "last positive",
    "test_users": "users with a test positive",
    "test_users_without_training": "users with a test positive, without a training positive",
    "test_users_without_training_share": "as a share of the users with a test positive",
    "test_items": "items with a test positive",
    "test_items_without_training_share": "share of the test items without a training positive",
    "positives_per_user": "positives per user",
    "positives_per_item": "positives per item",
    "neighbors_per_item": "neighbours per item",
    "neighbors_per_entity": "neighbours per entity",
}


# Advice on pairs of inverse relations, and on similar ids.
INVERSES = (
    "The relations of each pair say the same, so an entity has the same neighbour twice; "
    "dataset.inverses=merge keeps one relation of each pair."
)
LOOKALIKES = (
    "These ids differ only by blanks, case or Unicode form, and count as different ids. If two "
    "ids mean the same, make them equal in the files."
)


def label(name: str) -> str:
    """The label of a fact or distribution."""
    return LABELS.get(name, name)


def fact(name: str, value: float) -> str:
    """A fact as text: a share in per cent, a time as a date, a count with commas."""
    if name.endswith("_share") or name == "density":
        return share(value)
    if name.endswith("_at"):
        return moment(value, "%Y-%m-%d %H:%M")
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def share(value: float) -> str:
    """A share in per cent; only 0 is shown as 0 % and only 1 as 100 %."""
    if 0.999 < value < 1:
        return f"{min(100 * value, 99.99):.2f} %"
    return f"{100 * value:.3g} %" if 0 < value < 0.01 else f"{100 * value:.1f} %"


def moment(seconds: float, style: str) -> str:
    """A time as a date, or as a number where it cannot be a date."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime(style)
    except (ValueError, OverflowError, OSError):
        return f"{seconds:,.0f}"


def distribution_rows(description: Description) -> list[tuple[str, list[str]]]:
    """Rows of the table of distributions: a statistic and its value in each distribution."""
    whole = {"min": "min", "25 %": "p25", "median": "median", "75 %": "p75", "99 %": "p99",
             "max": "max"}  # fmt: skip
    all_of_them = description.distributions.values()
    rows = [(n, [f"{getattr(d, field):,.0f}" for d in all_of_them]) for n, field in whole.items()]
    rows.append(("mean", [f"{d.mean:,.2f}" for d in all_of_them]))
    rows.append(("Gini", [f"{d.gini:.2f}" for d in all_of_them]))
    for name, field in (("top 1 %", "top1"), ("top 10 %", "top10")):
        rows.append((name, [f"{100 * getattr(d, field):.0f} %" for d in all_of_them]))
    return rows


def _console() -> Console:
    """Prints text unchanged; without a terminal, tables are as wide as their content."""
    width = None if sys.stdout.isatty() else 1000
    return Console(width=width, markup=False, emoji=False, highlight=False)


def _table(title: str, *columns: str, text: int = 1) -> Table:
    """A table whose first ``text`` columns are text and whose other columns are numbers."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for number, column in enumerate(columns):
        # In a narrow terminal long names continue in the next line.
        table.add_column(
            column, justify="left" if number < text else "right", overflow="fold",
            no_wrap=number >= text,
        )  # fmt: skip
    return table


def show(description: Description) -> None:
    """Prints a description, warnings first."""
    console = _console()
    console.print("".join(f"! {printable(warning)}\n" for warning in advice(description)), end="")
    paper = ["KGCN paper, Table 1"] if description.published else []
    sizes = _table(printable(description.name), "", "here", *paper)
    for name, count in description.counts.items():
        published = [f"{description.published[name]:,}"] if paper else []
        sizes.add_row(name, f"{count:,}", *published)
    sizes.add_section()
    for name, value in description.facts.items():
        sizes.add_row(label(name), fact(name, value))
    console.print(sizes)
    spread = Table(
        title="Distributions (top 1 %: share of the sum)",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
    )
    spread.add_column("")
    for name in description.distributions:
        spread.add_column(label(name), justify="right", min_width=10)
    for name, values in distribution_rows(description):
        spread.add_row(name, *values)
    console.print(spread)
    table = _table("Relations", "", "triples", "heads", "tails", "items", "of items")
    for row in description.relations.head(_SHOWN).iter_rows(named=True):
        numbers = (f"{row[c]:,}" for c in ("triples", "heads", "tails", "items"))
        table.add_row(printable(row["relation"]), *numbers, share(row["coverage"]))
    console.print(table)
    _more(console, description.relations.height)
    if not description.inverses.is_empty():
        pairs = _table("Inverse relations", "relation", "inverse", "shared", "share", text=2)
        for row in description.inverses.head(_SHOWN).iter_rows(named=True):
            shared = f"{row['shared']:,}"
            names = (printable(row[column]) for column in ("relation", "inverse"))
            pairs.add_row(*names, shared, share(row["share"]))
        console.print(pairs)
        _more(console, description.inverses.height)
        console.print(f"{INVERSES}\n")
    if description.lookalikes:
        similar = _table("Similar ids", "", "ids", text=2)
        for kind, groups in description.lookalikes.items():
            for group in groups[:_SHOWN]:
                similar.add_row(kind, ", ".join(map(repr, group)))
        console.print(similar)
        for kind, groups in description.lookalikes.items():
            _more(console, len(groups), f" groups of {kind}")
        console.print(f"{LOOKALIKES}\n")
    account = _table("Counts of every step", "", "", "count", text=2)
    for line in description.account:
        account.add_row(line["step"], line["what"], f"{line['count']:,}")
    console.print(account)


def _more(console: Console, count: int, noun: str = "") -> None:
    """Prints the number of rows of a table that are not shown."""
    if count > _SHOWN:
        console.print(f"  … and {count - _SHOWN:,} more{noun} (all in --json)\n")


def show_cache(folder: Path, entries: list[Entry]) -> None:
    """Prints the entries of a cache."""
    console = _console()
    if not entries:
        console.print(f"{folder}: the cache is empty")
        return
    for entry in entries:
        console.print(f"{entry.path}")
        created = [f"made {entry.created.replace('T', ' ')[:16]}"] if entry.created else []
        facts = [_state(entry), f"{entry.size / 1e6:,.1f} MB", *created]
        console.print(f"  {', '.join(facts)}")
        if entry.counts:
            console.print(f"  {', '.join(f'{n:,} {name}' for name, n in entry.counts.items())}")


def _state(entry: Entry) -> str:
    if entry.usable:
        return "usable"
    return "of other code or an older layout" if entry.name else "incomplete"


def show_cleared(folder: Path, removed: list[Entry], in_use: list[Entry]) -> None:
    """Prints which entries of a cache were removed, and which were not."""
    console = _console()
    for entry in removed:
        console.print(f"removed {entry.path}, {entry.size / 1e6:,.1f} MB")
    for entry in in_use:
        console.print(f"kept {entry.path}: a process is writing it")
    if not removed and not in_use:
        console.print(f"{folder}: nothing to remove")


def show_formats() -> None:
    """Prints the file formats and their files."""
    console = _console()
    for fmt in FORMATS.values():
        console.print(f"{fmt.name}\n  {fmt.description}")
        console.print(f"  optional: {fmt.extras}\n")
