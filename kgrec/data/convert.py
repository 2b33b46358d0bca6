"""From one file format to another; what the target cannot hold is refused, or left out and said."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import polars as pl

from kgrec.data.formats import FORMATS, Format
from kgrec.data.raw_tables import RawTables
from kgrec.errors import DataError


def convert(raw: RawTables, target: Path, format_name: str, lossy: bool = False) -> list[str]:
    """Writes tables to a new folder, whole or not at all, and reads them back to be sure.

    Args:
        raw: what a reader returned.
        target: a folder that does not exist, or is empty.
        format_name: a key of ``formats.FORMATS``.
        lossy: leave out what the format cannot hold, where that can be left out.

    Returns:
        What was left out.

    Raises:
        DataError: the folder is not empty, or the format cannot hold the tables.
    """
    target = Path(target)
    if format_name not in FORMATS:
        raise DataError(f"--to: found {format_name!r}, expected one of {', '.join(FORMATS)}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target}: found something there, expected a new or an empty folder")
    chosen = FORMATS[format_name]
    losses = chosen.losses(raw)
    if losses and not lossy:
        lines = "\n".join(f"  {loss}" for loss in losses)
        raise DataError(
            f"format {format_name} cannot hold\n{lines}\n"
            "expected another format, or --lossy to leave out what can be left out"
        )
    if losses:
        raw = without(raw, chosen)
        rest = chosen.losses(raw)
        rest = [loss for loss in rest if not loss.startswith("the names of entities")]
        if rest:
            raise DataError(
                f"format {format_name} cannot hold {'; '.join(rest)}, and that cannot be left "
                "out; expected another format"
            )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".incoming-") as temporary:
        # Some formats name their files after the folder.
        incoming = Path(temporary) / target.name
        incoming.mkdir()
        chosen.write(incoming, raw, [raw.interactions])
        _check(raw, chosen.read(incoming), incoming)
        if target.exists():
            target.rmdir()
        shutil.move(incoming, target)
    return losses


def without(raw: RawTables, chosen: Format) -> RawTables:
    """Drops, one thing after the other, what a format cannot hold."""

    def keep(smaller: RawTables, larger: RawTables) -> RawTables:
        fewer = len(chosen.losses(smaller)) < len(chosen.losses(larger))
        return smaller if fewer else larger

    raw = keep(replace(raw, item_names=None), raw)
    raw = keep(replace(raw, negatives=None), raw)
    for column in ("timestamp", "rating", "part"):
        if column in raw.interactions.columns:
            raw = keep(replace(raw, interactions=raw.interactions.drop(column)), raw)
    linked = raw.interactions.join(raw.links, on="item", how="semi", maintain_order="left")
    raw = keep(replace(raw, interactions=linked), raw)
    for column in ("item", "entity"):
        single = raw.links.unique(column, keep="first", maintain_order=True)
        raw = keep(replace(raw, links=single), raw)
    return raw


def _check(written: RawTables, found: RawTables, folder: Path) -> None:
    """Raises where what was read back is not as much as what was written."""

    def sizes(raw: RawTables) -> dict[str, int]:
        negatives = raw.negatives if raw.negatives is not None else pl.DataFrame()
        return {
            "interactions": raw.interactions.height,
            "links": raw.links.height,
            "triples": raw.triples.height,
            "negatives": negatives.height,
        }

    if sizes(written) != sizes(found):
        raise RuntimeError(f"{folder}: wrote {sizes(written)}, read back {sizes(found)}")
