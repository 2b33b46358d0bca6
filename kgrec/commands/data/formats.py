"""``kgrec data formats``: the file formats."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(actions: Any) -> None:
    """Adds this action to those of ``kgrec data``."""
    parser = actions.add_parser(
        "formats",
        help="list the file formats",
        description="Lists the file formats and their files.",
    )
    parser.set_defaults(action=run)


def run(arguments: argparse.Namespace) -> None:
    """Prints the formats and their files."""
    from kgrec.reports.dataset.tables import show_formats

    show_formats()
