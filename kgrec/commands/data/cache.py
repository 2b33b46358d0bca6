"""``kgrec data cache``: prepared data that are kept on disk."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

CACHE = "data/cache"  # as in conf/paths; a test compares the two


def add_parser(actions: Any) -> None:
    """Adds this action to those of ``kgrec data``."""
    parser = actions.add_parser(
        "cache",
        help="list or clear the cache of prepared data",
        description="Lists the prepared data in the cache, or removes them. Entries that a process "
        "is writing are not removed.",
        epilog="examples: kgrec data cache; kgrec data cache movie --clear",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="only the entries of this data set")
    parser.add_argument(
        "--dir", default=CACHE, metavar="FOLDER", help="folder of the cache (default: %(default)s)"
    )
    parser.add_argument("--clear", action="store_true", help="remove the entries")
    parser.set_defaults(action=run)


def run(arguments: argparse.Namespace) -> None:
    """Lists the entries, or removes them."""
    from kgrec.data import cache
    from kgrec.reports.dataset import tables as dataset_tables

    folder = Path(arguments.dir).expanduser()
    if arguments.clear:
        dataset_tables.show_cleared(folder, *cache.clear(folder, arguments.name))
        return
    entries = [e for e in cache.entries(folder) if arguments.name in (None, e.name)]
    dataset_tables.show_cache(folder, entries)
