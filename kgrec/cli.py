"""The ``kgrec`` command; nothing heavy is imported before a subcommand needs it."""

from __future__ import annotations

import argparse
import sys

from kgrec import __version__


def main() -> None:
    """Parses the subcommand and hands over to it."""
    parser = argparse.ArgumentParser(
        prog="kgrec", description="Knowledge-graph-aware recommendation, built around KGCN."
    )
    parser.add_argument("--version", action="version", version=f"kgrec {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser(
        "train",
        add_help=False,
        help="train and test a recommender (takes Hydra overrides, e.g. dataset=music model.K=4)",
    )
    _, rest = parser.parse_known_args()
    # Hydra reads sys.argv itself.
    sys.argv = [f"{sys.argv[0]} train", *rest]
    from kgrec.train import main as train

    train()
