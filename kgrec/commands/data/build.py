"""``kgrec data build``: a folder to train on from one's own tables."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kgrec.errors import ConfigError
from kgrec.files import write_text


def add_parser(actions: Any) -> None:
    """Adds this action to those of ``kgrec data``."""
    parser = actions.add_parser(
        "build",
        help="build a folder that kgrec trains on from your own tables",
        description="Builds a folder in CSV format from your own tables (CSV, TSV, Parquet), as a "
        "YAML file says. --guess looks at the tables and writes that file.",
        epilog="examples: kgrec data build --guess my/tables --out build.yaml; "
        "kgrec data build build.yaml --out my/shop",
    )
    parser.add_argument(
        "sources", nargs="+", metavar="FILE",
        help="the YAML file; with --guess: a folder with tables, or tables",
    )  # fmt: skip
    parser.add_argument("--guess", action="store_true", help="write a YAML file for the tables")
    parser.add_argument(
        "--out", metavar="OUT", help="the folder to write; with --guess: the YAML file, default: "
        "printed",
    )  # fmt: skip
    parser.set_defaults(action=run)


def run(arguments: argparse.Namespace) -> None:
    """Builds the folder, or guesses a YAML file, and prints what to do next."""
    sources = [Path(source).expanduser() for source in arguments.sources]
    out = None if arguments.out is None else Path(arguments.out).expanduser()
    sys.stdout.write((guess if arguments.guess else build)(sources, out))


def build(sources: Sequence[Path], out: Path | None) -> str:
    """Builds the folder ``out`` as a YAML file says; returns the text to print.

    Raises:
        ConfigError: the sources are not one YAML file, or there is no folder to write.
        DataError: a table cannot be read.
    """
    from kgrec.data.build.building import build as build_folder
    from kgrec.data.build.plan_file import read_plan

    if len(sources) != 1 or sources[0].suffix not in (".yaml", ".yml"):
        given = ", ".join(map(str, sources))
        raise ConfigError(
            f"kgrec data build: found {given}, expected one YAML file, or --guess before tables "
            "or their folder"
        )
    if out is None:
        raise ConfigError("--out: found nothing, expected the folder to write")
    with _polars_panics_named(sources[0]):
        report = build_folder(read_plan(sources[0]), out)
    place, name = shlex.quote(str(out)), shlex.quote(out.absolute().name)
    lines = [
        report.text(str(out)),
        "",
        "wrote the folder; build.json there has all counts. Next:",
        f"  kgrec data describe {place}",
        f"  python train.py dataset=custom dataset.root={place} dataset.name={name}",
    ]
    return "\n".join(lines) + "\n"


def guess(sources: Sequence[Path], out: Path | None) -> str:
    """Writes a first YAML file for tables; returns the text to print.

    Args:
        sources: tables, or their folder.
        out: file to write; None: the file is the text to print.

    Raises:
        ConfigError: the file exists, or its folder does not.
        DataError: a table cannot be read, or none has interactions.
    """
    from kgrec.data.build.guess import guess_plan

    if out is not None and out.exists():
        raise ConfigError(f"{out}: found a file or folder of that name, expected a new file")
    if out is not None and not out.parent.is_dir():
        raise ConfigError(f"{out}: found no folder {out.parent}, expected one to write to")
    with _polars_panics_named(sources[0]):
        text = guess_plan(sources, Path.cwd() if out is None else out.parent)
    if out is None:
        return text
    write_text(out, text)
    return (
        f"wrote {out}: read its comments, change what is wrong, then\n"
        f"  kgrec data build {shlex.quote(str(out))} --out FOLDER\n"
    )


@contextmanager
def _polars_panics_named(path: Path) -> Iterator[None]:
    """Turns a panic of polars, such as one at a date of the year 300,000, into a DataError."""
    from kgrec.data.polars_errors import polars_errors

    with polars_errors(path, "tables that polars can read"):
        yield
