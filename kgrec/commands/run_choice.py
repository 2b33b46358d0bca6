"""What the commands that use a finished run share: its choice, lists of items, and output."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kgrec.errors import ConfigError, DataError

if TYPE_CHECKING:
    import polars as pl

    from kgrec.inference.loaded_model import LoadedModel
    from kgrec.inference.raw_ids import RawIds

RUN = "run folder, checkpoint, sweep folder (its best run on validation), or latest"


def add_run(parser: argparse.ArgumentParser, formats: Sequence[str]) -> None:
    """Adds the run and the options that every command on a run has.

    Args:
        parser: parser of the command.
        formats: forms of the output; the first is the default.
    """
    parser.add_argument("place", metavar="RUN", help=RUN)
    parser.add_argument(
        "--trust", nargs="+", default=[], metavar="PACKAGE",
        help="packages of your own whose models the checkpoint may name",
    )  # fmt: skip
    parser.add_argument(
        "--extra-triples", metavar="FILE",
        help="triples of items that were added after the training: head, relation, tail, and "
        "perhaps name",
    )  # fmt: skip
    parser.add_argument("--device", default="cpu", help="cpu, cuda, … (default: %(default)s)")
    parser.add_argument(
        "--format", choices=formats, default=formats[0],
        help="form of the output, and of error messages with json (default: %(default)s)",
    )  # fmt: skip


def load_run(arguments: argparse.Namespace) -> LoadedModel:
    """Loads the run that the command line names, and says which it is if there were several."""
    from kgrec.inference.loading import load

    index = getattr(arguments, "index", None)  # not every command has the option
    rec = load(arguments.place, arguments.trust, arguments.device, arguments.extra_triples, index)
    if rec.reason:
        say(f"using {rec.folder}, {rec.reason}")
    for note in rec.notes:
        say(note)
    return rec


def add_weigh(parser: argparse.ArgumentParser) -> None:
    """Adds ``--weigh``."""
    parser.add_argument(
        "--weigh", action="append", default=[], metavar="RELATION=NUMBER",
        help="count neighbours by a relation so many times as much in the model's attention, such "
        "as director=2; id or name; for several relations give it several times (kgcn, kgnn_ls)",
    )  # fmt: skip


def relation_weights(texts: Sequence[str]) -> dict[str, float]:
    """Multipliers by relation, from texts such as ``director=2``.

    Raises:
        ConfigError: a text has another form, or a relation appears twice.
    """
    weights: dict[str, float] = {}
    for text in texts:
        relation, equals, number = text.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            equals = ""
        if not equals or not relation.strip():
            raise ConfigError(f"--weigh: found {text}, expected RELATION=NUMBER, as director=2")
        if relation in weights:
            raise ConfigError(f"--weigh: found {relation} twice, expected it once")
        weights[relation] = weight
    return weights


def say(message: str) -> None:
    """Prints a line for the reader, apart from the output."""
    print(message, file=sys.stderr)  # noqa: T201


def split_items(text: str, items: RawIds) -> list[str]:
    """Items of a text with commas between them; an id or title may have commas itself.

    At each place the longest part that is a known item is taken.

    Raises:
        DataError: a part is no item.
    """
    words = [word.strip() for word in text.split(",")]
    parts, start = [], 0
    while start < len(words):
        for stop in range(len(words), start, -1):
            part = ", ".join(words[start:stop])
            if part and not items.find(part)[1]:
                parts.append(part)
                break
        else:
            if words[start]:
                raise DataError(items.unknown([words[start]]))
            stop = start + 1
        start = stop
    return parts


def read_histories(path: Path) -> pl.DataFrame:
    """A table of new users: ``user`` and ``item``, one row per liked item.

    Raises:
        DataError: the file is missing or malformed, or has no such columns.
    """
    import polars as pl

    from kgrec.data.build.columns import UserTable

    table = UserTable(path)
    ids = {name: table.ids(name, "--history") for name in ("user", "item")}
    rows = pl.DataFrame(ids)
    whole = rows.drop_nulls()
    if whole.height < rows.height:
        say(f"{path}: {rows.height - whole.height} rows without a user or an item are left out")
    return whole


def read_items(path: Path) -> list[str]:
    """Ids of items: one per line, or the column ``item`` of a table.

    Raises:
        DataError: the file is missing, malformed or empty.
    """
    from kgrec.data.build.columns import UserTable
    from kgrec.data.csv_files import header_fields
    from kgrec.data.text_files import SEPARATORS, first_line, not_utf8

    if not path.is_file():
        raise DataError(f"{path}: found no such file, expected a list of items")
    header = first_line(path)[1] if path.suffix != ".parquet" else ""
    separator = next((s for s in SEPARATORS if s in header), None)
    is_table = separator is not None and "item" in header_fields(header, separator)
    if path.suffix == ".parquet" or is_table:
        ids = UserTable(path).ids("item", "--candidates").drop_nulls().to_list()
    else:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise not_utf8(path, 1, error) from error
        ids = [line.strip() for line in lines if line.strip()]
        ids = ids[1:] if ids[:1] == ["item"] else ids
    if not ids:
        raise DataError(f"{path}: found no item, expected at least one")
    return ids
