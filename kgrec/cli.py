"""The ``kgrec`` command: lists the subcommands, and runs one of them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib import import_module

from kgrec import __version__
from kgrec.errors import KgrecError, SettingError, printable
from kgrec.interrupts import ends_in_one_line, interrupted

# In the order of --help.
COMMANDS = (
    "train",
    "choose",
    "recommend",
    "explain",
    "similar",
    "export",
    "serve",
    "refit",
    "reproduce",
    "report",
    "compare",
    "score_lists",
    "sync",
    "data",
)


def parser() -> argparse.ArgumentParser:
    """The command line of every subcommand; Hydra reads the arguments of ``kgrec train``."""
    root = argparse.ArgumentParser(
        prog="kgrec", description="Knowledge-graph-aware recommendation, built around KGCN."
    )
    root.add_argument("--version", action="version", version=f"kgrec {__version__}")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        import_module(f"kgrec.commands.{command}").add_parser(commands)
    return root


def command() -> None:
    """Runs ``kgrec`` as a process of its own."""
    with ends_in_one_line(whole_process=True):
        main()


def main() -> None:
    """Parses the command line and runs the subcommand."""
    with ends_in_one_line():
        _main()


def _main() -> None:
    if sys.argv[1:2] == ["train"]:
        from kgrec.commands.train import from_cli

        from_cli()
        return
    root = parser()
    arguments, unread = root.parse_known_args()
    if name := getattr(arguments, "rest", None):
        # argparse leaves out positional words that follow an option.
        getattr(arguments, name).extend(word for word in unread if not word.startswith("-"))
        unread = [word for word in unread if word.startswith("-")]
    if unread:
        root.error(f"unrecognized arguments: {' '.join(unread)}")
    try:
        arguments.run(arguments)
    except BrokenPipeError:  # the reader of a pipe, such as head, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        message = None if interrupted() else _message(error)
        if message is None:
            raise
        as_json = getattr(arguments, "format", None) == "json"
        text = (
            json.dumps({"error": message}, ensure_ascii=False) if as_json else f"error: {message}"
        )
        print(printable(text), file=sys.stderr)  # noqa: T201
        sys.exit(1)


def _message(error: Exception) -> str | None:
    """The message of the user's mistake behind an exception; None for a fault of kgrec."""
    if isinstance(error, KgrecError) and not isinstance(error, SettingError):
        return str(error)
    if isinstance(error, OSError) and not type(error).__module__.startswith("hydra"):
        return str(error)
    from kgrec.config.messages import any_user_error

    return any_user_error(error)


if __name__ == "__main__":
    command()
