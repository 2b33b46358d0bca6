"""``kgrec compare``: statistical tests of the differences between systems."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from kgrec.errors import ConfigError

FEWEST_SAMPLES = 20  # with fewer, p-values and intervals mean nothing


def add_parser(commands: Any) -> None:
    """Adds this command to ``kgrec``."""
    parser = commands.add_parser(
        "compare",
        help="test whether systems differ, on the same rows and users",
        description="Tests the difference of every system from a reference. Runs that differ only "
        "by seed are one system. The reference is the system of the first folder, if there are "
        "several folders and the first one has one system, else popularity.",
        epilog="examples: kgrec compare logs/sweeps/A logs/sweeps/B --metric auc recall@20; "
        "kgrec compare logs/sweeps/A --baseline libfm",
    )
    parser.add_argument("places", nargs="+", metavar="FOLDER", help="folder with finished runs")
    parser.add_argument(
        "--baseline", "--against", metavar="NAME",
        help="reference: label of a system, a model, or a control such as popularity",
    )  # fmt: skip
    parser.add_argument(
        "--metric", nargs="+", metavar="NAME",
        help="default: auc f1_val_threshold recall@20 ndcg@20",
    )  # fmt: skip
    parser.add_argument(
        "--samples", type=int, default=2000, help="bootstrap samples (default: %(default)s)"
    )
    parser.add_argument("--json", metavar="FILE", help="write all results as JSON; - prints them")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Compares the systems of finished runs, and prints or writes the result."""
    from rich.console import Console

    from kgrec.errors import printable
    from kgrec.files import write_text
    from kgrec.reports.console import terminal_width
    from kgrec.reports.results.compare import compare
    from kgrec.reports.results.compared_systems import compared_systems
    from kgrec.reports.results.comparison_table import comparison_table, usual_metrics
    from kgrec.reports.results.systems import repeated_runs
    from kgrec.reports.results.verdict import comparison_verdict
    from kgrec.runs.finished import find_runs, in_given_order, left_out

    places = [Path(place) for place in arguments.places]
    runs = in_given_order(places, find_runs(places))
    for message in left_out(places):
        print(message, file=sys.stderr)  # noqa: T201
    group = compared_systems(runs, arguments.baseline, places)
    if group.repeated:
        print(repeated_runs(group.repeated), file=sys.stderr)  # noqa: T201
    metrics = list(dict.fromkeys(arguments.metric or usual_metrics(group)))
    if arguments.samples < FEWEST_SAMPLES:
        raise ConfigError(
            f"--samples: found {arguments.samples}, expected at least {FEWEST_SAMPLES}"
        )
    comparisons = compare(group, metrics, arguments.samples)
    if arguments.json is not None:
        content = [comparison.as_dict() for comparison in comparisons]
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        if arguments.json == "-":
            print(text, end="")  # noqa: T201
            return
        write_text(Path(arguments.json), text)
    console = Console(width=terminal_width(), highlight=False)
    reference = f"Reference: {group.reference.label} ({group.reason})."
    console.print(printable(reference), markup=False)
    console.print(comparison_table(group, comparisons, console.width))
    for sentence in comparison_verdict(group, comparisons):
        console.print(printable(sentence), markup=False)
