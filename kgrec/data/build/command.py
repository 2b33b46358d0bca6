"""What ``kgrec data build`` does; each function returns the text to print."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kgrec.errors import ConfigError, DataError
from kgrec.files import write_text


@contextmanager
def _polars_errors(path: Path) -> Iterator[None]:
    """Turns a panic of polars, such as one at a date of the year 300,000, into a plain error."""
    import polars as pl

    try:
        yield
    except pl.exceptions.PanicException as error:
        raise DataError(f"{path}: {error}; expected tables that polars can read") from None


def build(sources: Sequence[Path], out: Path | None) -> str:
    """Builds the folder ``out`` as a YAML file says.

    Raises:
        ConfigError: not one YAML file, or no folder.
    """
    from kgrec.data.build.building import build as build_folder
    from kgrec.data.build.plan_file import read_plan

    if len(sources) != 1 or sources[0].suffix not in (".yaml", ".yml"):
        found = ", ".join(map(str, sources))
        raise ConfigError(f"kgrec data build: found {found}, expected one YAML file, or --guess "
                          "before tables or their folder")  # fmt: skip
    if out is None:
        raise ConfigError("--out: found nothing, expected the folder to write")
    with _polars_errors(sources[0]):
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
    """Writes a first YAML file for tables, or returns it where no file is named.

    Raises:
        ConfigError: the file exists.
    """
    from kgrec.data.build.guess import guess_plan

    if out is not None and out.exists():
        raise ConfigError(f"{out}: found a file or folder of that name, expected a new file")
    if out is not None and not out.parent.is_dir():
        raise ConfigError(f"{out}: found no folder {out.parent}, expected one to write to")
    with _polars_errors(sources[0]):
        text = guess_plan(sources, Path.cwd() if out is None else out.parent)
    if out is None:
        return text
    write_text(out, text)
    return (
        f"wrote {out}: read its comments, change what is wrong, then\n"
        f"  kgrec data build {shlex.quote(str(out))} --out FOLDER\n"
    )
