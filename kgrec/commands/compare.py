"""``kgrec compare``: statistical tests of the differences between systems."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Adds this command to those of ``kgrec``."""
    parser = commands.add_parser(
        "compare",
        help="are systems different? tests on the same rows and users",
        description="Tests every system against the first, runs that differ by seed alone being "
        "one system. A single system is compared with popularity.",
        epilog="example: kgrec compare logs/sweeps/A logs/sweeps/B --metric auc recall@20",
    )
    parser.add_argument("places", nargs="+", metavar="FOLDER", help="with runs in it or under it")
    parser.add_argument(
        "--against", metavar="CONTROL", help="a control to compare with, such as popularity"
    )
    parser.add_argument(
        "--metric", nargs="+", metavar="NAME",
        help="default: auc f1_val_threshold recall@20 ndcg@20",
    )  # fmt: skip
    parser.add_argument(
        "--samples", type=int, default=2000, help="of the bootstrap (default: %(default)s)"
    )
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON; - prints it")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Compares the systems among finished runs, and prints or writes the result."""
    from rich.console import Console

    from kgrec.files import write_text
    from kgrec.reports.results.compare import compare, contenders
    from kgrec.reports.results.comparison_table import comparison_table, usual_metrics
    from kgrec.runs.finished import find_runs, in_given_order, unfinished

    places = [Path(place) for place in arguments.places]
    runs = in_given_order(places, find_runs(places))
    if left := unfinished(places):
        message = f"{len(left)} unfinished runs are left out, such as {left[0]}"
        print(message, file=sys.stderr)  # noqa: T201
    systems = contenders(runs, arguments.against)
    comparisons = compare(systems, arguments.metric or usual_metrics(systems), arguments.samples)
    if arguments.json is not None:
        content = [comparison.as_dict() for comparison in comparisons]
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        if arguments.json == "-":
            print(text, end="")  # noqa: T201
            return
        write_text(Path(arguments.json), text)
    width = None if sys.stdout.isatty() else 140
    Console(width=width).print(comparison_table(systems, comparisons))
