"""What ``kgrec data`` shows on a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kgrec.data.cache import Entry
from kgrec.data.describe import Description

_SHOWN = 20  # relations


def figure(name: str, value: float) -> str:
    """A figure as people write it: a share in per cent, a time as a date, a count with commas."""
    if name.startswith("share"):
        return f"{value:.3%}" if value < 0.01 else f"{value:.1%}"
    if "seconds since 1970" in name:
        try:
            return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M")
        except (ValueError, OverflowError, OSError):
            return f"{value:g}"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def label(name: str) -> str:
    """A fact's name for people."""
    return name.replace(" (seconds since 1970)", "")


def show(found: Description) -> None:
    """Prints a description; wide enough that nothing is cut off."""
    console = Console(width=max(Console().width, 110), soft_wrap=False)
    sizes = _table(f"{found.name}", "", "here")
    if found.published:
        sizes.add_column("KGCN paper, Table 1", justify="right")
    for name, count in found.counts.items():
        paper = [f"{found.published[name]:,}"] if found.published else []
        sizes.add_row(name, f"{count:,}", *paper)
    sizes.add_section()
    for name, value in found.facts.items():
        sizes.add_row(escape(label(name)), figure(name, value))
    console.print(sizes)
    columns = ("min", "p25", "median", "p75", "p99", "max", "mean", "Gini", "top 1 %", "top 10 %")
    spread = _table("Distributions", "", *columns)
    for name, d in found.distributions.items():
        counts = (d.min, d.p25, d.median, d.p75, d.p99, d.max)
        spread.add_row(
            name, *(f"{c:,.0f}" for c in counts), f"{d.mean:,.2f}", f"{d.gini:.2f}",
            f"{d.top1:.0%}", f"{d.top10:.0%}",
        )  # fmt: skip
    console.print(spread)
    table = _table("Relations", "", "triples", "heads", "tails", "items", "share of the items")
    for row in found.relations.head(_SHOWN).iter_rows(named=True):
        numbers = (f"{row[c]:,}" for c in ("triples", "heads", "tails", "items"))
        table.add_row(escape(row["relation"]), *numbers, f"{row['coverage']:.1%}")
    console.print(table)
    if found.relations.height > _SHOWN:
        console.print(
            f"… and {found.relations.height - _SHOWN} more relations: --json has them all"
        )
    account = _table("What became of the rows", "", "", "count")
    account.columns[1].justify = "left"
    for line in found.account:
        account.add_row(line["step"], escape(line["what"]), f"{line['count']:,}")
    console.print(account)


def show_cache(folder: Path, entries: list[Entry]) -> None:
    """Prints what a cache holds."""
    console = Console(width=max(Console().width, 110), soft_wrap=False)
    if not entries:
        console.print(f"{escape(str(folder))}: nothing is kept there")
        return
    table = _table(str(folder), "data set", "MB", "users", "items", "positives", "made", "")
    for entry in entries:
        counts = (f"{entry.counts[c]:,}" if c in entry.counts else ""
                  for c in ("users", "items", "positives"))  # fmt: skip
        state = "" if entry.usable else "of other code" if entry.name else "not whole"
        table.add_row(
            entry.name or entry.path.name, f"{entry.size / 1e6:,.1f}", *counts,
            entry.created.replace("T", " ")[:16], state,
        )  # fmt: skip
    console.print(table)


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table
