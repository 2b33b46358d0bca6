"""``kgrec refit``: the final model, trained on all data of a validated run."""

from __future__ import annotations

import argparse
from typing import Any

from kgrec.commands.run_choice import RUN


def add_parser(commands: Any) -> None:
    """Adds this command to ``kgrec``."""
    parser = commands.add_parser(
        "refit",
        help="train the model of a finished run on all its data, for use",
        description="Trains with the settings, the seed and the best epoch of a finished run on "
        "its training, validation and test positives. The result has no test metrics; kgrec "
        "recommend and kgrec.load read it, kgrec report and kgrec compare leave it out.",
        epilog="examples: kgrec refit latest; kgrec refit logs/sweeps/A trainer.accelerator=gpu "
        "--out final",
    )
    parser.add_argument("place", metavar="RUN", help=RUN)
    parser.add_argument(
        "words", nargs="*", metavar="KEY=VALUE",
        help="device, threads, logger, or dataset.root where the data have moved",
    )  # fmt: skip
    parser.add_argument(
        "--out", metavar="FOLDER", help="new run folder (default: one in logs/refits)"
    )
    parser.add_argument(
        "--trust", nargs="+", default=[], metavar="PACKAGE",
        help="packages of your own that the run may name",
    )  # fmt: skip
    parser.set_defaults(run=run, rest="words")


def run(arguments: argparse.Namespace) -> None:
    """Trains and saves the final model."""
    from kgrec.pipeline.refit import refit

    path = refit(arguments.place, arguments.out, arguments.words, arguments.trust)
    print(f"recommend with it: kgrec recommend {path} --user ID")  # noqa: T201
