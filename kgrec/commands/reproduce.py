"""``kgrec reproduce``: run whole experiments of conf/experiment."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(commands: Any) -> None:
    """Adds this command to ``kgrec``."""
    parser = commands.add_parser(
        "reproduce",
        help="run all jobs of an experiment of conf/experiment, or resume them",
        description="Runs experiments of conf/experiment with all their values and seeds. "
        "Finished jobs are skipped, interrupted ones are resumed.",
        epilog="examples: kgrec reproduce table3 table4 --dataset music --jobs 2; "
        "kgrec reproduce table3 --dataset book model.K=2,8,32",
    )
    parser.add_argument(
        "words",
        nargs="+",
        metavar="EXPERIMENT",
        help="experiments, and overrides such as model.K=2,8,32",
    )
    parser.add_argument(
        "--dataset", nargs="+", default=["music"], metavar="NAME", help="data sets (default: music)"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, help="jobs side by side (default: %(default)s)"
    )
    parser.add_argument(
        "--out",
        default="logs/reproduce",
        metavar="FOLDER",
        help="folder of the sweeps (default: %(default)s)",
    )
    parser.add_argument(
        "--list", action="store_true", help="print the commands of the unfinished jobs, and stop"
    )
    parser.set_defaults(run=run, rest="words")


def run(arguments: argparse.Namespace) -> None:
    """Runs the unfinished jobs of the experiments; the exit code is 1 if a job failed."""
    from kgrec.sweeps.reproduce import reproduce

    reproduce(
        arguments.words, arguments.dataset, arguments.jobs, arguments.out, only_list=arguments.list
    )
