"""``kgrec data``: one module per action."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kgrec.commands.data import build, cache, convert, describe, formats, generate

ACTIONS = (build, describe, convert, formats, generate, cache)  # in the order of --help


def add_parser(commands: Any) -> None:
    """Adds this command and its actions to the commands of ``kgrec``."""
    data = commands.add_parser("data", help="build, describe, convert or generate data")
    actions = data.add_subparsers(dest="data_command", required=True, metavar="ACTION")
    for action in ACTIONS:
        action.add_parser(actions)
    data.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Runs the action that was parsed."""
    with _log_to_stderr():
        arguments.action(arguments)


@contextmanager
def _log_to_stderr() -> Iterator[None]:
    """Sends log lines to stderr, so that stdout has the output alone."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("kgrec")
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # not to other handlers of the process: once is enough
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
