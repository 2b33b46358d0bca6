"""``kgrec report``: tables and plots of finished runs, or the live page of a sweep."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Adds this command to ``kgrec``."""
    parser = commands.add_parser(
        "report",
        help="tables and plots of finished runs, as a page, Markdown and CSV",
        description="Verdict, tables and plots of finished runs, with values of the KGCN paper.",
        epilog="examples: kgrec report logs/runs logs/sweeps --out my-report; "
        "kgrec report logs/sweeps/NAME --watch",
    )
    parser.add_argument("places", nargs="+", metavar="FOLDER", help="folder with finished runs")
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="folder to write into (default: logs/report; with --watch: the sweep's)",
    )
    parser.add_argument(
        "--watch", action="store_true",
        help="write the page of one sweep (sweep.html) and update it until its jobs have ended",
    )  # fmt: skip
    parser.add_argument(
        "--every", type=float, default=2.0, metavar="SECONDS",
        help="with --watch: seconds between updates (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument("--once", action="store_true", help="write the page of a sweep once")
    parser.add_argument(
        "--into", metavar="FILE",
        help="write the tables into an existing Markdown file, between the lines "
        "<!-- kgrec report --> and <!-- end of kgrec report -->",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Writes a report, or keeps the page of a sweep up to date."""
    places = [Path(place) for place in arguments.places]
    if arguments.watch or arguments.once:
        _watch(arguments, places)
        return
    from kgrec.reports.results.report import write_into, write_report
    from kgrec.runs.finished import find_runs, left_out

    runs = find_runs(places)
    for message in left_out(places):
        print(message, file=sys.stderr)  # noqa: T201
    if arguments.into is not None:
        write_into(runs, Path(arguments.into))
        print(arguments.into)  # noqa: T201
        return
    for path in write_report(runs, Path(arguments.out or "logs/report")):
        print(path)  # noqa: T201


def _watch(arguments: argparse.Namespace, places: list[Path]) -> None:
    from kgrec.errors import ConfigError
    from kgrec.reports.live.watch import watch

    if len(places) > 1 or arguments.into is not None:
        option = "--watch" if arguments.watch else "--once"
        raise ConfigError(
            f"{option}: found {len(places)} folders{' and --into' if arguments.into else ''}, "
            "expected the folder of one sweep"
        )
    if not arguments.every > 0:
        raise ConfigError(f"--every: found {arguments.every:g}, expected seconds above 0")
    out = None if arguments.out is None else Path(arguments.out)
    watch(places[0], out, arguments.every, arguments.once)
