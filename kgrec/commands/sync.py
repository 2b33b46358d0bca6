"""``kgrec sync``: sends runs that were logged offline to Weights & Biases."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Adds this command to ``kgrec``."""
    parser = commands.add_parser(
        "sync",
        help="send runs that were logged offline to Weights & Biases",
        description="Sends finished runs that were logged offline to Weights & Biases, each once.",
        epilog="example: kgrec sync logs/runs logs/sweeps",
    )
    parser.add_argument(
        "places", nargs="+", metavar="FOLDER", help="run folder, or a folder above runs"
    )
    parser.add_argument(
        "--list", action="store_true", help="list the runs and whether they were sent; send nothing"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Sends finished runs that were not sent before, or lists them."""
    from kgrec.tracking.sync import list_runs, send_runs

    places = [Path(place) for place in arguments.places]
    (list_runs if arguments.list else send_runs)(places)
