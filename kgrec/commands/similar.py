"""``kgrec similar``: items that the model of a finished run holds for similar."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from kgrec.commands.run_choice import add_run, load_run

if TYPE_CHECKING:
    import polars as pl

FORMATS = ("table", "json", "csv")


def add_parser(commands: Any) -> None:
    """Adds this command to ``kgrec``."""
    parser = commands.add_parser(
        "similar",
        help="items that a finished run holds for similar to an item",
        description="Lists the items that the model holds for the most similar to an item, and how "
        "many entities of the knowledge graph they share with it.",
        epilog="example: kgrec similar latest --item 'Toy Story' -k 5",
    )
    add_run(parser, FORMATS)
    parser.add_argument("--item", required=True, metavar="ID", help="id or title of the item")
    parser.add_argument("-k", type=int, default=10, help="items (default: %(default)s)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Prints the similar items."""
    rec = load_run(arguments)
    rows = rec.similar_items(arguments.item, arguments.k)
    if arguments.format == "csv":
        sys.stdout.write(rows.write_csv())
    elif arguments.format == "json":
        content = {"run": str(rec.folder), "model": rec.name, "similar": rows.to_dicts()}
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        sys.stdout.write(text + "\n")
    else:
        _show(rows)


def _show(rows: pl.DataFrame) -> None:
    """Prints a table."""
    from rich.console import Console
    from rich.table import Table

    from kgrec.reports.foreign_text import rich_text

    table = Table()
    table.add_column("", justify="right")
    table.add_column("item", overflow="fold")
    named = rows["name"].null_count() < rows.height
    if named:
        table.add_column("name", overflow="ellipsis", no_wrap=True)
    table.add_column("similarity", justify="right")
    table.add_column("shared entities", justify="right")
    for rank, item, name, similarity, shared in rows.rows():
        names = [rich_text(name or "")] if named else []
        table.add_row(str(rank), rich_text(item), *names, f"{similarity:.4f}", str(shared))
    Console(highlight=False).print(table)
