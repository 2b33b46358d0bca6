"""``kgrec explain``: why a finished run recommends an item to a user."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from kgrec.commands.run_choice import (
    add_run,
    add_weigh,
    load_run,
    relation_weights,
    say,
    split_items,
)
from kgrec.errors import ConfigError

if TYPE_CHECKING:
    from kgrec.inference.explanation import Explanation

FORMATS = ("text", "json")
MOST_RELATIONS = 5  # relations in the text
MOST_LIKED = 3  # items of the history in a row of the table


def add_parser(commands: Any) -> None:
    """Adds this command to ``kgrec``."""
    parser = commands.add_parser(
        "explain",
        help="say why a finished run recommends an item to a user",
        description="Says what the score of an item for a user rests on, as far as the model can "
        "say: neighbours and paths in the knowledge graph, or items of the user's history.",
        epilog="examples: kgrec explain latest --user 196 --item 50; "
        "kgrec explain latest --history 'Toy Story,50' --item 127; "
        "kgrec explain latest --user 196 --item 50 --weigh director=2 --picture why.svg",
    )
    add_run(parser, FORMATS)
    parser.add_argument("--user", metavar="ID", help="id of the user")
    parser.add_argument("--item", required=True, metavar="ID", help="id or title of the item")
    parser.add_argument(
        "--history", metavar="ITEMS", help="items that a new user likes, with commas between them"
    )
    parser.add_argument(
        "--top", type=int, default=5, metavar="N", help="reasons to show (default: %(default)s)"
    )
    add_weigh(parser)
    parser.add_argument(
        "--picture", metavar="FILE",
        help="also draw the neighbours that the model weighs: .svg or .png",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Prints the explanation."""
    if arguments.user is None and arguments.history is None:
        raise ConfigError("found no user, expected --user ID, or --history for a new user")
    if arguments.user is not None and arguments.history is not None:
        raise ConfigError("--history: found --user too, expected one of them")
    weights = relation_weights(arguments.weigh)
    rec = load_run(arguments)
    history = None
    if arguments.history is not None:
        history = split_items(arguments.history, rec.item_ids)
    explanation = rec.explain(arguments.user, arguments.item, history, arguments.top, weights)
    if arguments.picture is not None:
        explanation.picture(arguments.picture)
        say(f"wrote {arguments.picture}")
    if arguments.format == "json":
        text = json.dumps(explanation.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        sys.stdout.write(text + "\n")
    else:
        _show(explanation)


def _show(explanation: Explanation) -> None:
    """Prints the text, a table of the reasons, and what the shares are."""
    from rich.console import Console
    from rich.table import Table

    from kgrec.errors import printable
    from kgrec.reports.foreign_text import rich_text

    console = Console(highlight=False)
    by = "" if explanation.source == "model" else f", by {explanation.source}"
    console.print(printable(explanation.text()), markup=False, soft_wrap=True)
    console.print(
        printable(
            f"user {explanation.user}, {explanation.model}{by}: score {explanation.score:.4f}"
        ),
        markup=False,
    )
    if explanation.contributions:
        table = Table()
        table.add_column("reason", overflow="fold")
        table.add_column("weight", justify="right")
        table.add_column("share", justify="right")
        with_history = any(each.history for each in explanation.contributions)
        if with_history:
            table.add_column("liked items with the same", overflow="fold")
        for each in explanation.contributions:
            share = "" if each.share is None else f"{each.share:+.4f}"
            row = [rich_text(each.label), f"{each.weight:.4g}", share]
            if with_history:
                liked = [named.text for named in each.history[:MOST_LIKED]]
                if more := len(each.history) - len(liked):
                    liked.append(f"{more} more")
                row.append(rich_text(", ".join(liked)))
            table.add_row(*row)
        console.print(table)
    for line in _lines(explanation):
        console.print(printable(line), markup=False, soft_wrap=True)


def _lines(explanation: Explanation) -> list[str]:
    """Notes below the table."""
    lines = []
    if explanation.left_out:
        lines.append(f"{explanation.left_out:,} further reasons are not shown.")
    if (together := explanation.reasons.together) is not None:
        lines.append(f"Without all of them the score would be {explanation.score - together:.4f}.")
    if explanation.reasons.parts:
        parts = (f"{name} {value:+.4f}" for name, value in explanation.reasons.parts.items())
        lines.append(f"Further parts of the score: {', '.join(parts)}.")
    if explanation.relations is not None:
        rows = explanation.relations.head(MOST_RELATIONS).select("name", "score").rows()
        scores = ", ".join(f"{name} {score:.3f}" for name, score in rows)
        lines.append(f"Relations that weigh most for this user: {scores}.")
    return [*lines, explanation.note]
