"""``kgrec data generate``: synthetic raw files of a public data set's size."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from kgrec.commands.data.choice import FORMAT_NAMES

log = logging.getLogger(__name__)

TWINS = ("movie", "book", "music")  # as in kgrec.data.synthetic; a test compares the two


def add_parser(actions: Any) -> None:
    """Adds this action to those of ``kgrec data``."""
    parser = actions.add_parser(
        "generate",
        help="generate synthetic raw files of a public data set's size",
        description="Generates synthetic raw files with the sizes and distributions of a public "
        "data set, and with planted truth.",
        epilog="example: kgrec data generate movie my/twin --scale 0.0625 --format recbole",
    )
    parser.add_argument("like", choices=TWINS, help="the public data set")
    parser.add_argument("target", metavar="TARGET", help="a new folder")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="share of its size (default: %(default)s)"
    )
    parser.add_argument(
        "--format", default="released_raw", choices=FORMAT_NAMES, help="default: %(default)s"
    )
    parser.add_argument(
        "--seed", type=int, default=2019, help="seed of every draw (default: %(default)s)"
    )
    parser.set_defaults(action=run)


def run(arguments: argparse.Namespace) -> None:
    """Writes the files."""
    from kgrec.data.synthetic.twins import write_twin

    folder = Path(arguments.target).expanduser()
    write_twin(folder, arguments.like, arguments.scale, arguments.format, arguments.seed)
    log.info("wrote %s", folder)
