"""``kgrec data convert``: data in another file format."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from kgrec.commands.data.choice import FORMAT_NAMES, PLACE, raw_tables
from kgrec.errors import ConfigError

log = logging.getLogger(__name__)


def add_parser(actions: Any) -> None:
    """Adds this action to those of ``kgrec data``."""
    parser = actions.add_parser(
        "convert",
        help="write data in another file format",
        description="Writes data in another file format. Fails if the format cannot hold them.",
        epilog="example: kgrec data convert my/folder my/recbole --to recbole",
    )
    parser.add_argument("place", metavar="NAME_OR_FOLDER", help=PLACE)
    parser.add_argument("target", metavar="TARGET", help="a new folder, or an empty one")
    parser.add_argument(
        "--to", required=True, choices=FORMAT_NAMES, help="the format; see kgrec data formats"
    )
    parser.add_argument(
        "--lossy", action="store_true", help="leave out what the format cannot hold, and list it"
    )
    parser.add_argument(
        "--columns", nargs="*", default=[], metavar="NAME=COLUMN",
        help="for CSV and Parquet: the files' own names of columns, e.g. user=uid item=sku",
    )  # fmt: skip
    parser.set_defaults(action=run)


def run(arguments: argparse.Namespace) -> None:
    """Writes the data in the other format, and what was left out."""
    from kgrec.data.convert import check_target, convert

    target = Path(arguments.target).expanduser()
    check_target(target)
    columns = dict(_pair(text) for text in arguments.columns)
    raw, format_name = raw_tables(arguments.place, columns)
    for what, count in raw.counts + raw.notes:
        log.info("%s: %s", what, f"{count:,}")
    for note in convert(raw, target, arguments.to, arguments.lossy):
        log.info("%s", note)
    log.info("wrote %s, in format %s, from %s", target, arguments.to, format_name)


def _pair(text: str) -> tuple[str, str]:
    name, equals, column = text.partition("=")
    if not (name and equals and column):
        raise ConfigError(f"--columns: found {text!r}, expected name=column, such as user=uid")
    return name, column
