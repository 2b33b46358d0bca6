"""The folder that a build writes: whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from kgrec.data.formats import recognise
from kgrec.errors import DataError
from kgrec.files import atomic_folder, is_empty, write_json

REPORT = "build.json"
FILES = (
    "interactions.csv", "triples.csv", "links.csv", "items.csv", "entities.csv", "relations.csv",
    "user_attributes.csv", "user_links.csv", "title_links.csv", REPORT,
)  # fmt: skip


def check_target(target: Path) -> None:
    """Raises DataError unless a folder is new, empty, or of an earlier build alone."""
    if not target.exists():
        return
    if not target.is_dir():
        raise DataError(f"{target}: found a file, expected a new folder")
    if is_empty(target):
        return
    names = sorted(path.name for path in target.iterdir())
    others = [name for name in names if name not in FILES]
    if names and REPORT not in names:
        others = names
    if others:
        raise DataError(
            f"{target}: found {', '.join(others[:5])}, expected a new folder, an empty one, or one "
            "that kgrec data build wrote and nothing else is in"
        )


def write_folder(target: Path, tables: dict[str, pl.DataFrame], report: dict[str, Any]) -> None:
    """Writes the folder, reads it back, and puts it in the place of an earlier one.

    Args:
        target: the folder.
        tables: file name to table.
        report: content of build.json.

    Raises:
        DataError: the tables do not fit together.
    """
    target = target.absolute()
    with atomic_folder(target) as incoming:
        for name, table in tables.items():
            if not table.is_empty():  # a file without rows is one that nobody can read
                table.write_csv(incoming / name)
        write_json(incoming / REPORT, report, sync=False)
        try:
            recognise(incoming).read(incoming)
        except DataError as error:  # of the folder to be, not of a temporary one
            raise DataError(str(error).replace(str(incoming), str(target))) from None
