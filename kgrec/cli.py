"""The ``kgrec`` command; nothing heavy is imported before a subcommand needs it."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from kgrec import __version__

# As in kgrec.data.formats, which would take a second to import; a test holds them together.
FORMAT_NAMES = ("released_final", "released_raw", "recbole", "kgat", "csv", "parquet")
TWINS = ("movie", "book", "music")
# As conf/paths has it; likewise.
CACHE = "data/cache"
PLACE = "a data set of conf/dataset, or your folder (./NAME where both have the same name)"


def parser() -> argparse.ArgumentParser:
    """The command line of everything but ``kgrec train``, which Hydra reads itself."""
    root = argparse.ArgumentParser(
        prog="kgrec", description="Knowledge-graph-aware recommendation, built around KGCN."
    )
    root.add_argument("--version", action="version", version=f"kgrec {__version__}")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser(
        "train",
        add_help=False,
        help="train and test a recommender (takes Hydra overrides, e.g. dataset=music model.K=4)",
    )
    reproduce = commands.add_parser(
        "reproduce",
        help="all runs of an experiment of conf/experiment; goes on where it stopped",
        description="Runs experiments of conf/experiment with all their values and seeds. What "
        "has finished before is not run again.",
        epilog="examples: kgrec reproduce table3 table4 --dataset music --jobs 2; "
        "kgrec reproduce table3 --dataset book model.K=2,8,32",
    )
    reproduce.add_argument(
        "words", nargs="+", metavar="EXPERIMENT", help="and overrides, such as model.K=2,8,32"
    )
    reproduce.add_argument(
        "--dataset", nargs="+", default=["music"], metavar="NAME", help="default: music"
    )
    reproduce.add_argument(
        "--jobs", type=int, default=1, help="processes at a time (default: %(default)s)"
    )
    reproduce.add_argument(
        "--out", default="logs/reproduce", metavar="FOLDER", help="default: %(default)s"
    )
    reproduce.add_argument("--list", action="store_true", help="say what would be run, and stop")
    report = commands.add_parser(
        "report",
        help="tables and plots of finished runs, as a page, Markdown and CSV",
        description="Tables and plots of finished runs, the KGCN paper's figures beside them.",
        epilog="examples: kgrec report logs/runs logs/sweeps --out my-report; "
        "kgrec report logs/sweeps/NAME --watch",
    )
    report.add_argument("places", nargs="+", metavar="FOLDER", help="with runs in it or under it")
    report.add_argument(
        "--out", metavar="FOLDER", help="default: logs/report; with --watch: the sweep's own"
    )
    report.add_argument(
        "--watch", action="store_true",
        help="instead keep a page on one sweep up to date (sweep.html) until its jobs have ended",
    )  # fmt: skip
    report.add_argument(
        "--every", type=float, default=2.0, metavar="SECONDS",
        help="with --watch: between looks at the sweep (default: %(default)g)",
    )  # fmt: skip
    report.add_argument(
        "--once", action="store_true", help="write the page of a sweep as things stand, and end"
    )
    report.add_argument(
        "--into", metavar="FILE",
        help="instead put the tables into a Markdown file of your own, between the lines "
        "<!-- kgrec report --> and <!-- end of kgrec report -->",
    )  # fmt: skip
    compare = commands.add_parser(
        "compare",
        help="are systems different? tests on the same rows and users",
        description="Tests every system against the first, runs that differ by seed alone being "
        "one system. A single system is compared with popularity.",
        epilog="example: kgrec compare logs/sweeps/A logs/sweeps/B --metric auc recall@20",
    )
    compare.add_argument("places", nargs="+", metavar="FOLDER", help="with runs in it or under it")
    compare.add_argument(
        "--against", metavar="CONTROL", help="a control to compare with, such as popularity"
    )
    compare.add_argument(
        "--metric", nargs="+", metavar="NAME",
        help="default: auc f1_val_threshold recall@20 ndcg@20",
    )  # fmt: skip
    compare.add_argument(
        "--samples", type=int, default=2000, help="of the bootstrap (default: %(default)s)"
    )
    compare.add_argument("--json", metavar="FILE", help="write everything as JSON; - prints it")
    sync = commands.add_parser(
        "sync",
        help="send runs that were logged offline to Weights & Biases",
        description="Sends finished runs that were logged offline to Weights & Biases, each once.",
        epilog="example: kgrec sync logs/runs logs/sweeps",
    )
    sync.add_argument("places", nargs="+", metavar="FOLDER", help="with runs in it or under it")
    sync.add_argument("--list", action="store_true", help="say what would be sent, and stop")
    _add_data_parsers(commands)
    return root


def _add_data_parsers(commands: Any) -> None:
    """``kgrec data`` and its actions."""
    data = commands.add_parser(
        "data", help="describe, convert, generate data; look after the cache"
    )
    actions = data.add_subparsers(dest="data_command", required=True, metavar="ACTION")

    describe = actions.add_parser(
        "describe",
        help="sizes, distributions, relations and gaps of a data set",
        description="Sizes, distributions, relations and gaps of a data set.",
        epilog="examples: kgrec data describe music; "
        "kgrec data describe my/folder dataset.min_rating=4 --html my.html",
    )
    describe.add_argument("place", metavar="NAME_OR_FOLDER", help=PLACE)
    describe.add_argument(
        "overrides", nargs="*", help="as for kgrec train, e.g. dataset.min_rating=4 split=temporal"
    )
    describe.add_argument("--json", metavar="FILE", help="write everything as JSON; - prints it")
    describe.add_argument("--html", metavar="FILE", help="write a page with plots, of one file")
    describe.add_argument(
        "--split", action=argparse.BooleanOptionalAction, default=True,
        help="also split the data as a run would, and look at the test users (default: do)",
    )  # fmt: skip

    convert = actions.add_parser(
        "convert",
        help="from one file format to another",
        description="Writes data in another file format. What that cannot hold is refused.",
        epilog="example: kgrec data convert my/folder my/recbole --to recbole",
    )
    convert.add_argument("place", metavar="NAME_OR_FOLDER", help=PLACE)
    convert.add_argument("target", metavar="TARGET", help="a new folder, or an empty one")
    convert.add_argument(
        "--to", required=True, choices=FORMAT_NAMES, help="the format; see kgrec data formats"
    )
    convert.add_argument(
        "--lossy", action="store_true", help="leave out what the format cannot hold, and say so"
    )
    convert.add_argument(
        "--columns", nargs="*", default=[], metavar="NAME=COLUMN",
        help="for CSV and Parquet: your own names of columns, e.g. user=uid item=sku",
    )  # fmt: skip

    actions.add_parser(
        "formats",
        help="the file formats and their files",
        description="Lists the file formats that are read and written, and their files.",
    )

    cache = actions.add_parser(
        "cache",
        help="list or clear the prepared data that are kept",
        description="Lists the prepared data that are kept, or removes them; what a process is at "
        "work on stays.",
        epilog="examples: kgrec data cache; kgrec data cache movie --clear",
    )
    cache.add_argument("name", nargs="?", metavar="NAME", help="of one data set alone")
    cache.add_argument(
        "--dir", default=CACHE, metavar="FOLDER", help="the cache (default: %(default)s)"
    )
    cache.add_argument("--clear", action="store_true", help="remove what is listed")

    generate = actions.add_parser(
        "generate",
        help="draw synthetic raw files of a public data set's size",
        description="Draws synthetic raw files with the sizes and shapes of a public data set, "
        "and with planted truth.",
        epilog="example: kgrec data generate movie my/twin --scale 0.0625 --format recbole",
    )
    generate.add_argument("like", choices=TWINS, help="which one")
    generate.add_argument("target", metavar="TARGET", help="a new folder")
    generate.add_argument(
        "--scale", type=float, default=1.0, help="share of its size (default: %(default)s)"
    )
    generate.add_argument(
        "--format", default="released_raw", choices=FORMAT_NAMES, help="default: %(default)s"
    )
    generate.add_argument(
        "--seed", type=int, default=2019, help="of every draw (default: %(default)s)"
    )


def main() -> None:
    """Parses the subcommand and hands over to it."""
    if sys.argv[1:2] == ["train"]:
        # Hydra reads sys.argv itself.
        sys.argv = [f"{sys.argv[0]} train", *sys.argv[2:]]
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # as in train.py
        from kgrec.train import main as train

        train()
        return
    root = parser()
    arguments, rest = root.parse_known_args()
    # argparse takes positional words before the options alone.
    late = [word for word in rest if not word.startswith("-")]
    if arguments.command == "data" and arguments.data_command == "describe":
        arguments.overrides += late
        rest = [word for word in rest if word.startswith("-")]
    elif arguments.command == "reproduce":
        arguments.words += late
        rest = [word for word in rest if word.startswith("-")]
    if rest:
        root.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        _run(arguments)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # whoever read along has stopped, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _run(arguments: argparse.Namespace) -> None:
    try:
        if arguments.command == "data":
            from kgrec import data_commands

            data_commands.run(arguments)
        elif arguments.command == "reproduce":
            from kgrec import reproduce

            reproduce.run(arguments)
        elif arguments.command == "sync":
            from kgrec import sync_command

            sync_command.run(arguments)
        else:
            from kgrec import report_commands

            report_commands.run(arguments)
    except BrokenPipeError:
        raise
    except Exception as error:
        from kgrec import config

        known = str(error) if isinstance(error, OSError) else config.any_user_error(error)
        if known is None:
            raise
        print(f"error: {known}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


if __name__ == "__main__":
    main()
